"""Planners: actions by trying sequences of them on a model."""

from __future__ import annotations

from typing import Any

from crl import config, registry
from crl.planners.base import Planner

__all__ = ["Planner", "make_planner"]


def make_planner(name: str, size: int, **options: Any) -> Planner:
    """Makes a registered planner (``crl list planners``).

    Args:
        name: Its name.
        size: Of an action.
        **options: Fields of its ``Config``.

    Raises:
        UserError: Unknown name or option, or a value of the wrong type or out of range.
    """
    cls = registry.planners.load(name)
    planner: Planner = cls(size, config.build(cls.Config, options, f"planner {name!r}"))
    return planner
