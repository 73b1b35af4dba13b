"""One Ray for all tests here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crl.ray_session import session

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def rays() -> Iterator[Any]:
    """Ray with two workers, which can import what tests can."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{HERE}{os.pathsep}{HERE.parent}", prepend=os.pathsep)
        with session(2) as ray:
            yield ray
