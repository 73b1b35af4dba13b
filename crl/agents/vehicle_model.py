"""Models of how a vehicle moves, which are the same anywhere and on any course."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crl.agents.dynamics import Angles, Model
from crl.envs.outlook import Outlook, outlook_of
from crl.stream import Env
from crl.task_spec import TaskSpec


class Motion(Angles):
    """Observations as such models see them: place and course are zeros, which tell nothing.

    Args:
        size: Of an observation.
        angles: Entries that are angles.
        outlook: Says which entries those are.
    """

    def __init__(self, size: int, angles: Sequence[int], outlook: Outlook) -> None:
        super().__init__(size, angles)
        self._telling, self._told = torch.ones(2, size)
        self._telling[[*outlook.place, *outlook.course]] = 0
        self._told[[*outlook.course]] = 0

    def __call__(self, obs: Tensor) -> Tensor:
        shown: Tensor = obs * self._telling.to(obs.device)
        return super().__call__(shown)

    def change(self, obs: Tensor, next_obs: Tensor) -> Tensor:
        """As there, and none of the course."""
        change: Tensor = super().change(obs, next_obs) * self._told.to(obs.device)
        return change


class Seen:
    """A model of a vehicle's motion as one of all that is observed."""

    def __init__(self, model: Model, outlook: Outlook) -> None:
        self._model, self._outlook = model, outlook

    def imagine(self, obs: Tensor, actions: Tensor) -> Tensor:
        """See :meth:`crl.agents.dynamics.Model.imagine`."""
        return self._outlook(self._model.imagine(obs, actions))


def angles_of(env: Env, angles: Sequence[int] | None = None) -> Angles:
    """How models of a robot see its observations, where it is a vehicle as ones of its motion.

    Args:
        env: The robot.
        angles: Entries that are angles; None: what its ``task_spec`` says, none without one.
    """
    if angles is None:
        spec = getattr(env.unwrapped, "task_spec", None)
        angles = spec.angles if isinstance(spec, TaskSpec) else ()
    (size,) = env.observation_space.shape or ()
    outlook = outlook_of(env)
    return Motion(size, angles, outlook) if outlook else Angles(size, angles)
