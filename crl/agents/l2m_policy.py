"""The policy that L2M deploys."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from crl.agent import BoolArray, FloatArray, PolicySpec, State
from crl.agents.actions import Actions
from crl.agents.frozen_policy import FrozenPolicy
from crl.agents.l2m_model import Bins
from crl.nn import state as trees
from crl.nn.distributions import one_of
from crl.nn.scaling import scale


class View(NamedTuple):
    """What the model is shown of an observation, and what it is asked for.

    Attributes:
        shift, factor: [obs]; see :func:`~crl.nn.scaling.scale`.
        returns: Whether an observation's last entry is the reward that led to it.
        unit: Reward that counts as one.
        target: [slots], the return that is asked for with each slot, in units.
    """

    shift: Tensor
    factor: Tensor
    returns: bool
    unit: float
    target: FloatArray

    def scaled(self, obs: FloatArray) -> FloatArray:
        """Observations [B, obs] as the model is given them."""
        found: FloatArray = scale(trees.to_tensor(obs), self.shift, self.factor).numpy()
        return found


class L2MPolicy(FrozenPolicy):
    """A decision transformer with the slot of its pool that fits what is seen.

    Its state: the window of observations, returns to come and rewards, how many steps are in it,
    and the slot.

    Args:
        spec: What it takes and gives; of the state, this class says.
        actions: How it sees them.
        of_slot: Slot → model of that slot alone.
        select: The mean of scaled observations [B, obs] → slots [B] int64.
        latch: Choose a slot when an episode begins, and keep it; or choose at every step.
        view: See :class:`View`.
        window: Steps that the model sees.
        bins: Of its actions.
    """

    def __init__(self, spec: PolicySpec, actions: Actions, of_slot: Callable[[int], nn.Module],
                 select: Callable[[Tensor], Tensor], *, latch: bool, view: View, window: int,
                 bins: Bins) -> None:
        width = len(spec.observation_low)
        super().__init__(PolicySpec(
            spec.task, spec.observation_low, spec.observation_high, spec.action_low,
            spec.action_high, context=window,
            state_shapes=((window, width), (window,), (window,), (), ())), actions)
        self._of_slot = cache(of_slot)
        self._select, self._latch, self._view, self._bins = select, latch, view, bins

    def step(self, obs: FloatArray, state: State, first: BoolArray,
             deterministic: bool = True) -> tuple[FloatArray, State]:
        view, (past, to_go, reward, seen, slot) = self._view, state
        now = view.scaled(obs)
        got = np.where(first, 0, obs[:, -1] / view.unit if view.returns else 0)
        seen = np.where(first, 1, np.minimum(seen + 1, past.shape[1])).astype(np.float32)
        past, reward = _moved_on(past, now), _moved_on(reward, got)
        valid = np.arange(past.shape[1]) >= past.shape[1] - seen[:, None]
        slot = self._slots(past, valid, first, slot)
        to_go = _moved_on(to_go, np.where(first, view.target[slot.astype(int)],
                                          to_go[:, -1] - got))
        logits = torch.empty(len(obs), len(self.spec.action_low), self._bins.count)
        with torch.inference_mode():
            for one in np.unique(slot):
                rows = slot == one
                inputs = (torch.from_numpy(x[rows]) for x in (past, to_go, reward, valid))
                logits[torch.from_numpy(rows)] = self._of_slot(int(one))(*inputs)[:, -1]
            drawn = one_of(logits.log_softmax(-1), None if deterministic else self._generator)
            action = self._bins.centre(drawn.argmax(-1)).numpy()
        return self._actions.to_env(action), (past, to_go, reward, seen, slot)

    def _slots(self, past: FloatArray, valid: BoolArray, first: BoolArray, slot: FloatArray
               ) -> FloatArray:
        if self._latch and not first.any():
            return slot
        mean = (past * valid[..., None]).sum(1) / valid.sum(1, keepdims=True)
        chosen = self._select(trees.to_tensor(mean)).numpy()
        return np.where(first if self._latch else True, chosen, slot).astype(np.float32)


def _moved_on(window: FloatArray, newest: FloatArray) -> FloatArray:
    """Without the oldest step, and with one more: [B, K, …], [B, …] → [B, K, …]."""
    return np.concatenate((window[:, 1:], newest[:, None].astype(np.float32)), 1)
