"""What frozen policies made of torch modules share: a view of the actions, and their own draws."""

from __future__ import annotations

import torch
from torch import Tensor

from crl.agent import FloatArray, Policy, PolicySpec
from crl.agents.actions import Actions


class FrozenPolicy(Policy):
    """A policy with a generator of its own, which begins at seed 0.

    Args:
        spec: What it takes and gives.
        actions: How it sees them.
    """

    def __init__(self, spec: PolicySpec, actions: Actions) -> None:
        self.spec = spec
        self._actions = actions
        self._generator = torch.Generator().manual_seed(0)

    def seed(self, seed: int) -> None:
        self._generator.manual_seed(seed)

    def _chosen(self, out: Tensor, deterministic: bool) -> FloatArray:
        """Actions [B, act] of an actor's output, not scaled yet."""
        action = (self._actions.mode(out) if deterministic
                  else self._actions.sample(out, self._generator))
        chosen: FloatArray = action.numpy()
        return chosen
