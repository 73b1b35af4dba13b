"""What a vehicle will see of its course from where a model says that it will be."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from crl.stream import Env


class Outlook:
    """Waypoints stay where they are: what is seen of them follows from where the vehicle is.

    A model of the vehicle need not learn that. Which entries of an observation are what is as
    :class:`~crl.envs.course.Course` says; the point of a :class:`~crl.envs.course.Reference` is
    taken to stand still as well.

    Args:
        structure: The environment's ``observation_structure``.

    Attributes:
        place: Entries that say where the vehicle is, which tell nothing of how it moves.
        course: Entries that follow from the others.
    """

    def __init__(self, structure: Mapping[str, int]) -> None:
        size = sum(structure.values())
        self._dimensions = (structure["course"] - 1) // 2
        self.place = range(self._dimensions)
        self.course = range(size - structure["course"], size)

    def __call__(self, obs: Tensor) -> Tensor:
        """Observations [N, T, obs], of which the course's entries are right at the first of T only
        → the same, right at all."""
        at, axes = obs[..., :self._dimensions], self._axes(obs)
        begin, end = self.course.start, self.course.stop
        seen = obs[:, 0, begin:end - 1].view(len(obs), 2, self._dimensions)
        points = at[:, :1] + seen @ axes[:, 0].mT  # in the world, [N, 2, d]
        seen = (points[:, None] - at[:, :, None]) @ axes
        away = seen[:, :, 0].norm(dim=-1)
        left = obs[:, :1, end - 1] + away - away[:, :1]
        return torch.cat((obs[..., :begin], seen.flatten(2), left[..., None]), -1)

    def _axes(self, obs: Tensor) -> Tensor:
        """Where forward, left and up are, as columns [..., d, d]."""
        if self._dimensions == 2:
            c, s = obs[..., 2].cos(), obs[..., 2].sin()
            return torch.stack((c, -s, s, c), -1).view(*c.shape, 2, 2)
        forward, up = obs[..., 3:6], obs[..., 6:9]
        left: Tensor = torch.linalg.cross(up, forward)
        return torch.stack((forward, left, up), -1)


def outlook_of(env: Env) -> Outlook | None:
    """Of a vehicle with a course; None of any other robot."""
    structure = getattr(env.unwrapped, "observation_structure", {})
    return Outlook(structure) if "course" in structure else None
