"""What acts when an action is sent to a robot that has changed: affine maps of actions."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from crl.nn.solve import solve_positive

_GAINS = (0.1, 3.0)     # between these, evenly on a logarithmic scale
_TURNED = 0.4           # share of the gains that are negative,
_MIXED, _OFFSET = 0.8, 0.6  # largest standard deviations of other entries and of offsets,
_SHARE = 0.3            # which are there in this share of the maps
_DAMPING = 1e-3         # of an inverse: an action without effect is left alone
_SWEEPS = 10
_PRIOR = 0.01           # of an estimate: how soon a few actions convince


class Window(NamedTuple):
    """The last steps of B robots, the newest first.

    Attributes:
        actions: [B, K, act], those that were sent, in [-1, 1].
        residuals: [B, K, act], what acted besides: the error of the model in units of the action.
        known: [B, K, 1], 1 where there was such a step, else 0.
    """

    actions: Tensor
    residuals: Tensor
    known: Tensor


class ActionMaps(NamedTuple):
    """What acts, matrix · action + offset, for each of B robots."""

    matrix: Tensor  # [B, act, act]
    offset: Tensor  # [B, act]

    def __call__(self, actions: Tensor) -> Tensor:
        """[B, K, act] → [B, K, act]."""
        acting: Tensor = torch.baddbmm(self.offset[:, None], actions, self.matrix.mT)
        return acting

    def inverse(self, wanted: Tensor) -> Tensor:
        """The actions [B, act] in [-1, 1] that come nearest to acting as wanted [B, act]."""
        missing = wanted - self(wanted[:, None])[:, 0]
        square = self.matrix.mT @ self.matrix + _DAMPING * torch.eye(wanted.shape[-1])
        slope = (self.matrix.mT @ missing[..., None])[..., 0]
        action: Tensor = wanted + solve_positive(square, slope[..., None])[..., 0]
        if not torch.compiler.is_exporting() and not bool((action.abs() > 1).any()):
            return action
        # Coordinate descent: what a bound takes from one entry, others give. An entry is best at
        # its level, less what the others pull. Entry by entry it is a third of the time.
        scale = square.diagonal(dim1=1, dim2=2)
        levels = (((square @ wanted[..., None])[..., 0] + slope) / scale).unbind(-1)
        pulls = [row.unbind(-1) for row in (square / scale[..., None]).unbind(1)]
        entries = list(action.clamp(-1, 1).unbind(-1))
        for _ in range(_SWEEPS):
            for i, best in enumerate(levels):
                for j, pull in enumerate(pulls[i]):
                    if j != i:
                        best = torch.addcmul(best, pull, entries[j], value=-1)
                entries[i] = best.clamp(-1, 1)
        return torch.stack(entries, -1)


def draw_maps(batch: int, size: int, generator: torch.Generator) -> ActionMaps:
    """Maps of robots that have changed: gains, some of them with offsets and actions that mix.

    Of a robot few entries may have changed, or all, and what mixes and offsets may be little.
    """
    draws = torch.rand(3, batch, size, generator=generator)
    per_robot = torch.rand(5, batch, 1, generator=generator)
    low, high = (math.log(gain) for gain in _GAINS)
    gains = torch.exp(low + (high - low) * draws[0]) * torch.where(draws[1] < _TURNED, -1.0, 1.0)
    gains = torch.where(draws[2] < per_robot[0], 1, gains)
    others = torch.randn(batch, size, size, generator=generator) * (1 - torch.eye(size))
    mixing = _MIXED * per_robot[1] * (per_robot[2] < _SHARE)
    offset = torch.randn(batch, size, generator=generator) * per_robot[3] * (per_robot[4] < _SHARE)
    return ActionMaps(torch.diag_embed(gains) + others * mixing[..., None], _OFFSET * offset)


def estimate_maps(window: Window) -> ActionMaps:
    """Ridge regression of residuals on actions; the less there is to see, the nearer to none."""
    actions, residuals, known = window
    size = actions.shape[-1]
    x = torch.cat((actions, known), -1)
    square = x.mT @ x + _PRIOR * torch.eye(size + 1)
    solved = solve_positive(square, x.mT @ residuals)
    return ActionMaps(torch.eye(size) + solved[:, :size].mT, solved[:, size])


def estimate_gains(window: Window) -> ActionMaps:
    """As :func:`estimate_maps`, if an entry of the action acts on itself alone, without offset."""
    actions, residuals, _ = window
    gains = 1 + (actions * residuals).sum(1) / (actions.square().sum(1) + _PRIOR)
    return ActionMaps(torch.diag_embed(gains), torch.zeros_like(gains))


def least_squares(wanted: Tensor, window: Window) -> Tensor:
    """Actions [B, act] that act as wanted [B, act], by :func:`estimate_maps`."""
    return estimate_maps(window).inverse(wanted)
