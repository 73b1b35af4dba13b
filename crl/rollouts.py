"""Rollouts: sequences of the policy that learns from them, with how good its actions turned out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from crl.checkpoint import Tree
from crl.sequences import SequenceReplay, Sequences


@dataclass(frozen=True)
class Rollouts(Sequences):
    """Sequences; like the action, what is added stands in the row that the action led to."""

    log_prob: Tensor   # [B, L + 1], log π(action) when it was taken
    advantage: Tensor  # [B, L + 1], of the action
    target: Tensor     # [B, L + 1], for the value of the row before


class RolloutReplay(SequenceReplay):
    """A :class:`SequenceReplay` of which the newest pieces, the rollout, are yet to be valued.

    A piece begins where the one before is full, whatever episode that is in: every step is one to
    learn from in exactly one piece. Arguments as there; there is no burn-in.
    """

    kind = Rollouts

    def _more_columns(self) -> dict[str, np.ndarray]:
        return {name: np.empty(self.capacity, np.float32)
                for name in ("log_prob", "advantage", "target")}

    def clear(self) -> None:
        super().clear()
        self._valued = 0  # the number of the first piece that is not

    def _begin_piece(self, state: np.ndarray) -> None:
        row = self._rows - 1
        new_rollout = self._valued == self._pieces
        if new_rollout or row >= self._row_of(self._pieces - 1) + self.length:
            self._add_piece(row, state)

    def take(self, start: np.ndarray) -> Rollouts:
        batch = cast(Rollouts, super().take(start))
        number = self._oldest + start
        row, following = (self._piece_row[n % len(self._piece_row)] for n in (number, number + 1))
        own = np.where(number + 1 < self._pieces, following - row, self.length)
        return replace(batch, usable=batch.usable & (
            torch.arange(self.length) < torch.from_numpy(own)[:, None]).to(self.device))

    def rollout(self) -> np.ndarray:
        """Indices of the pieces that are not valued yet, as :meth:`take` has them."""
        return np.arange(max(self._valued, self._oldest), self._pieces) - self._oldest

    def value(self, values: Tensor, log_probs: Tensor, *, gamma: float, gae_lambda: float,
              reward_scale: float) -> None:
        """Values the rollout, by generalised advantage estimation (Schulman et al. 2016).

        An episode that was cut off goes on in the value of its last row.

        Args:
            values: [n, L + 1], of every row of every piece of :meth:`rollout`, scaled as rewards
                are.
            log_probs: [n, L], of the actions from each row to the next.
            gamma: Discount.
            gae_lambda: λ; 0: one-step advantages, 1: those of whole returns.
            reward_scale: Factor on rewards.
        """
        pieces = self.rollout()
        usable = self.take(pieces).usable.cpu().numpy()
        row = self._piece_row[(self._oldest + pieces) % len(self._piece_row)]
        at = (row[:, None] + np.arange(self.length + 1)) % self.capacity
        columns, before = self._columns, at[:, :-1][usable]
        after = (before + 1) % self.capacity
        value = values.double().cpu().numpy()
        now, then = value[:, :-1][usable], value[:, 1:][usable]
        ended, first = columns["ended"][after], columns["first"][(after + 1) % self.capacity]
        surprise = reward_scale * columns["reward"][after] + gamma * ~ended * then - now
        advantage, following = np.empty_like(surprise), 0.0
        for i in reversed(range(len(surprise))):  # steps lie in the order in which they were made
            last = i + 1 == len(surprise) or first[i]
            following = surprise[i] + (0.0 if last else gamma * gae_lambda * following)
            advantage[i] = following
        columns["log_prob"][after] = log_probs.cpu().numpy()[usable]
        columns["advantage"][after] = advantage
        columns["target"][after] = advantage + now
        self._valued = self._pieces

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "valued": self._valued}

    def load_state_dict(self, tree: Tree) -> None:
        super().load_state_dict(tree)
        self._valued = tree["valued"]
