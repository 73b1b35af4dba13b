"""Corrected actions: whose outcome is what a model says of those that were wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crl.agents.action_maps import Window
from crl.agents.dynamics import Angles, Model, PerceptronModel, mean_step
from crl.checkpoint import Tree
from crl.nn.solve import solve_positive

Predict = Callable[[Tensor, Tensor], Tensor]
"""A model: observations [N, obs] and actions [N, act] in [-1, 1] → next observations [N, obs]."""
Transform = Callable[[Tensor, Window], Tensor]
"""Wanted actions [B, act] and what came of the last ones → actions [B, act], all in [-1, 1]."""
Past = tuple[Tensor, ...]

_REACH = 0.25          # to either side, for what a change of the action does; 1 is half its range
_NEWTON_STEPS = 3
_CLEAN = 0.995         # share of a clean robot's residuals that are below the threshold
_JUDGED = 3            # last steps that say whether corrections help: one that failed, of little
                       # knowledge, must soon be forgotten
_HARM = 2.0            # times as large a square is clearly farther: half of a right correction of a
                       # robot that has turned round is a little farther from what is wanted
_LEAST_SHARE = 1e-3    # of its usual change, to which a model is trusted in a number


def prediction(models: Sequence[Model]) -> Predict:
    """A step of models: the mean of what they imagine."""
    plain = [model for model in models if isinstance(model, PerceptronModel)]
    if len(plain) == len(models):
        return mean_step(plain)

    def predict(obs: Tensor, actions: Tensor) -> Tensor:
        return torch.stack([model.imagine(obs, actions[:, None])[:, 1] for model in models]).mean(0)

    return predict


class Calibration(NamedTuple):
    """What errors a model makes while nothing is wrong.

    Attributes:
        trust: [obs], 1 / the usual error of each number of an observation; 0 of what never moves.
        threshold: Residuals longer than this are not the model's usual errors.
    """

    trust: Tensor
    threshold: float

    def state_dict(self) -> Tree:
        return {"trust": self.trust.numpy().copy(), "threshold": self.threshold}

    @classmethod
    def from_tree(cls, tree: Tree) -> Calibration:
        """What :meth:`state_dict` gave."""
        return cls(torch.tensor(tree["trust"]), tree["threshold"])


def calibrate(predict: Predict, angles: Angles, obs: Tensor, actions: Tensor, next_obs: Tensor
              ) -> Calibration:
    """From N steps, which the model should not have learned from, of a robot as it should be."""
    errors = angles.change(predict(obs, actions), next_obs)
    usual = angles.change(obs, next_obs).square().mean(0).sqrt()
    error = errors.square().mean(0).sqrt().maximum(_LEAST_SHARE * usual)
    trust = torch.where(error > 0, 1 / error, 0)
    found = residuals(predict, angles, trust, obs, actions, next_obs)
    return Calibration(trust, float(found.norm(dim=-1).quantile(_CLEAN)))


def residuals(predict: Predict, angles: Angles, trust: Tensor, obs: Tensor, actions: Tensor,
              next_obs: Tensor) -> Tensor:
    """Errors of a model in units of the action: what must have acted besides, [N, act].

    The likeliest r for which the model's next observation is the real one, observations having
    usual errors 1 / ``trust`` and entries of r being 1 or so: a few steps of Gauss and Newton's.
    One alone would take the model for linear as far as from full speed ahead to full speed back. It
    is the same in any frame; of errors that no action makes it knows nothing.
    """
    acted = actions
    for _ in range(_NEWTON_STEPS):
        acted = _likelier(predict, angles, trust, obs, actions, next_obs, acted.clamp(-1, 1))
    return acted - actions


def _likelier(predict: Predict, angles: Angles, trust: Tensor, obs: Tensor, actions: Tensor,
              next_obs: Tensor, acted: Tensor) -> Tensor:
    """What acted, were the model linear around a first guess of it, [N, act]."""
    count, size = actions.shape
    above, below = ((acted + step).clamp(-1, 1) for step in (_REACH, -_REACH))
    moved = torch.eye(size, dtype=torch.bool)[:, None]
    tried = torch.cat([acted[None], *(torch.where(moved, side, acted) for side in (above, below))])
    seen = predict(obs.repeat(len(tried), 1), tried.flatten(0, 1)).view(len(tried), count, -1)
    slopes = angles.change(seen[1 + size:], seen[1:1 + size]) * trust
    effect = (slopes / (above - below).t()[..., None]).permute(1, 2, 0)  # [N, obs, act]
    error = angles.change(seen[0], next_obs) * trust
    square = effect.mT @ effect + torch.eye(size)
    slope = effect.mT @ error[..., None] - (acted - actions)[..., None]
    return acted + solve_positive(square, slope)[..., 0]


class Correction:
    """Corrects actions where the last ones show that the robot is not what the model says.

    Nothing is corrected until a residual of the last steps is above the threshold. A correction is
    cut off where it is longer than the limit, and is left out as long as what the last three led to
    was clearly farther from what was wanted than the model was from what happened.

    Args:
        transform: Such as an :class:`~crl.agents.action_flow.ActionFlow`.
        predict: The model.
        angles: How differences of observations are taken.
        calibration: Of the model, on a robot as it should be.
        window: Steps to look back.
        limit: The longest ‖sent − wanted‖, 1 being half the range of an entry; 0: none at all.
    """

    def __init__(self, transform: Transform, predict: Predict, angles: Angles,
                 calibration: Calibration, window: int, limit: float) -> None:
        self._transform, self._predict, self._angles = transform, predict, angles
        self._calibration, self._length, self._limit = calibration, window, limit

    def past_shapes(self, obs: int, act: int) -> tuple[tuple[int, ...], ...]:
        """Of what :meth:`__call__` remembers, without the batch; begun as zeros."""
        return (obs,), *((self._length, act),) * 3, (1,)

    def initial_past(self, batch: int, obs: int, act: int) -> Past:
        """The past of B robots of which nothing is known."""
        return tuple(torch.zeros(batch, *shape) for shape in self.past_shapes(obs, act))

    def __call__(self, obs: Tensor, wanted: Tensor, past: Past, first: Tensor
                 ) -> tuple[Tensor, Past]:
        """What to send instead of wanted actions.

        Args:
            obs: [B, obs].
            wanted: [B, act] in [-1, 1].
            past: What the last call returned, or zeros.
            first: [B] bool: an episode begins, the past before it is ignored.

        Returns:
            Actions [B, act] in [-1, 1], and the past for the next call.
        """
        with torch.inference_mode():
            return self.correct(obs, wanted, past, first)

    def correct(self, obs: Tensor, wanted: Tensor, past: Past, first: Tensor
                ) -> tuple[Tensor, Past]:
        """As a call, for whoever exports it."""
        before, sent, aims, found, count = past
        count = torch.where(first[:, None], 0, count)
        action = wanted
        if torch.compiler.is_exporting() or bool(count.any()):
            newest = residuals(self._predict, self._angles, self._calibration.trust, before,
                               sent[:, 0], obs)
            found = _push(newest.nan_to_num(0.0, 0.0, 0.0), found)
            known = (torch.arange(self._length) < count).float()[..., None]
            window = Window(sent * known, found * known, known)
            needed = self.misaligned(window) & _helps(window, aims)
            action = torch.where(needed, self._bounded(wanted, window), wanted)
        count = (count + 1).clamp(max=self._length)
        return action, (obs, _push(action, sent), _push(wanted, aims), found, count)

    def misaligned(self, window: Window) -> Tensor:
        """Whether the robot of a row is not what the model says, [B, 1]."""
        length: Tensor = window.residuals.norm(dim=-1)
        found: Tensor = (length > self._calibration.threshold).any(-1, keepdim=True)
        return found

    def _bounded(self, wanted: Tensor, window: Window) -> Tensor:
        change: Tensor = self._transform(wanted, window) - wanted
        length = change.norm(dim=-1, keepdim=True)
        cut: Tensor = change * (self._limit / length.clamp(min=max(self._limit, 1e-9)))
        return wanted + cut


def _helps(window: Window, aims: Tensor) -> Tensor:
    """Whether what acted of late was not clearly farther from what was wanted than from what was
    sent, [B, 1]."""
    actions, found, known = (column[:, :_JUDGED] for column in window)
    missed = (actions + found - aims[:, :_JUDGED]) * known
    errors = found.square().sum((1, 2))
    return (missed.square().sum((1, 2)) <= _HARM * errors)[:, None]


def _push(newest: Tensor, others: Tensor) -> Tensor:
    """[B, act] in front of [B, K, act], the oldest of which goes."""
    return torch.cat((newest[:, None], others[:, :-1]), 1)
