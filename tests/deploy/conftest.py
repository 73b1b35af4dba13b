from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from policies import export, export_arm


@pytest.fixture(scope="session")
def sac_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a policy without memory, whose observations are scaled."""
    return export("sac", tmp_path_factory.mktemp("bundles") / "sac")


@pytest.fixture(scope="session")
def gru_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a policy that remembers."""
    return export("gru", tmp_path_factory.mktemp("bundles") / "gru")


@pytest.fixture(scope="session")
def choice_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of one whose actions are choices."""
    return export("choices", tmp_path_factory.mktemp("bundles") / "choices")


@pytest.fixture(scope="session")
def arm_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a robot that is known by name."""
    return export_arm(tmp_path_factory.mktemp("bundles") / "arm")
