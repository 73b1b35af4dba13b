"""crl: continual reinforcement learning of simulated robots.

The public names load on first use, so that importing a part (``crl.deploy``, ``crl.metrics``) does
not import torch. No module may have the name of a public function: importing it would hide the
function, which is why ``train`` lives in ``crl.training`` and not in ``crl.train``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crl import registry, seeding
    from crl.agent import Agent, Policy, PolicySpec, make_agent
    from crl.envs.catalog import make_stream
    from crl.errors import UserError
    from crl.evaluation import evaluate
    from crl.methods.base import Method, make_method
    from crl.methods.parts import Part
    from crl.run import Run
    from crl.stream import Task, TaskStream
    from crl.task_spec import TaskSpec
    from crl.training import resume, train

__version__ = "0.1.0"

_PUBLIC = {
    "Agent": "crl.agent", "Policy": "crl.agent", "PolicySpec": "crl.agent",
    "make_agent": "crl.agent", "UserError": "crl.errors", "evaluate": "crl.evaluation",
    "Method": "crl.methods.base", "Part": "crl.methods.parts", "make_method": "crl.methods.base",
    "Run": "crl.run", "Task": "crl.stream", "TaskSpec": "crl.task_spec",
    "TaskStream": "crl.stream", "make_stream": "crl.envs.catalog",
    "resume": "crl.training", "train": "crl.training",
}
__all__ = [*_PUBLIC, "__version__"]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'crl' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
