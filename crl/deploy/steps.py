"""What is exported of a policy: one decision as a function of tensors, its state among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from crl.agent import Policy, PolicySpec, State
from crl.agents.l2m_policy import L2MPolicy
from crl.agents.r2i import R2IPolicy
from crl.agents.r2i_behaviour import bounded
from crl.agents.recurrent_networks import RecurrentPolicy
from crl.agents.refined import RefinedPolicy
from crl.agents.sac_networks import SACPolicy
from crl.errors import UserError
from crl.nn.scaling import scale

Shapes = dict[str, tuple[int, ...]]
Scaling = tuple[Tensor, Tensor] | None


class PolicyStep(nn.Module):
    """One decision for one robot, at the mode of the policy.

    All of a state is 0 when an episode begins; that an episode begins is not said otherwise.

    Args:
        spec: Of the policy.
        state: What it remembers: names, and shapes without the batch.
        scaling: Shift and factor of observations; None: they are used as they are.

    Attributes:
        tolerance: How far ONNX Runtime may be from PyTorch; 1 is half the range of an action.
    """

    tolerance = 1e-5
    low: Tensor
    high: Tensor
    shift: Tensor
    factor: Tensor

    def __init__(self, spec: PolicySpec, state: Shapes, scaling: Scaling = None) -> None:
        super().__init__()
        self.spec, self.state = spec, state
        self._scaled = scaling is not None
        bounds = torch.from_numpy(spec.action_low), torch.from_numpy(spec.action_high)
        for name, tensor in zip(("low", "high", "shift", "factor"), (*bounds, *(scaling or ())),
                                strict=False):
            self.register_buffer(name, tensor)

    def forward(self, observation: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Observation [1, obs] and state → action [1, act] within its bounds, and next state."""
        if self._scaled:
            observation = scale(observation, self.shift, self.factor)
        action, *after = self.decide(observation, *state)
        return (action.clamp(self.low, self.high), *after)

    def decide(self, observation: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Scaled observation and state → the environment's action, and next state."""
        raise NotImplementedError

    def to_env(self, action: Tensor) -> Tensor:
        """An action in [-1, 1], or choices, as the environment's."""
        if self.spec.discrete:
            return action
        return self.low + (action + 1) * ((self.high - self.low) / 2)


class ReactiveStep(PolicyStep):
    """Of a policy that remembers nothing."""

    def __init__(self, policy: SACPolicy) -> None:
        super().__init__(policy.spec, {}, policy._scaling)
        self.actor, self._head, self._actions = policy.actor, policy.head, policy._actions

    def decide(self, observation: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        return (self.to_env(self._actions.mode(self.actor(observation, self._head))),)


class RecurrentStep(PolicyStep):
    """Of a policy with a memory."""

    def __init__(self, policy: RecurrentPolicy) -> None:
        memory, action = policy.spec.state_shapes
        remembers = memory[0] > 0
        super().__init__(policy.spec, {"memory": memory, "previous_action": action}
                         if remembers else {}, policy._scaling)
        self.encoder, self.actor, self._head = policy.encoder, policy.actor, policy.head
        self._actions = policy._actions

    def decide(self, observation: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        memory, previous = state or (observation[:, :0], self.low.unsqueeze(0))
        features, memory = self.encoder.step(observation, previous, memory, _going_on())
        action = self._actions.mode(self.actor(features, self._head))
        return (self.to_env(action), *((memory, action) if state else ()))


class WorldModelStep(PolicyStep):
    """Of a policy on a world model's beliefs, its latents at their likeliest."""

    def __init__(self, policy: R2IPolicy) -> None:
        remembered, action = policy.spec.state_shapes
        super().__init__(policy.spec, {"remembered": remembered, "previous_action": action})
        self.model, self.actor, self._head = policy.model, policy.actor, policy.head
        self._actions, self._sees = policy._actions, policy._sees

    def decide(self, observation: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        remembered, previous = state
        belief = self.model.step(observation, previous, remembered, _going_on(), None)
        out = bounded(self._actions, self.actor(belief.features(self._sees), self._head))
        action = self._actions.mode(out)
        return self.to_env(action), belief.remembered, action


class WindowStep(PolicyStep):
    """Of a decision transformer, with one slot of its pool merged.

    Args:
        policy: The policy.
        slot: The slot.
    """

    def __init__(self, policy: L2MPolicy, slot: int) -> None:
        view, (past, to_go, *_) = policy._view, policy.spec.state_shapes
        rewarded: Shapes = {"returns_to_go": to_go, "rewards": to_go} if view.returns else {}
        super().__init__(policy.spec, {"seen": (1,), "window": past, **rewarded})
        self.view_shift, self.view_factor = (nn.Parameter(t) for t in (view.shift, view.factor))
        self.model, self._bins = policy._of_slot(slot), policy._bins
        self._unit, self._target = view.unit, float(view.target[slot])

    def decide(self, observation: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        seen, window, *rewarded = state
        begins, steps = seen == 0, window.shape[1]
        seen = (seen + 1).clamp(max=steps)
        now = scale(observation, self.view_shift, self.view_factor)
        window = _moved_on(window, now.unsqueeze(1))
        valid = torch.arange(steps) >= steps - seen
        told = (torch.zeros(1, steps),) * 2
        if rewarded:
            to_go, rewards = rewarded
            got = torch.where(begins, 0, observation[:, -1:] / self._unit)
            told = (_moved_on(to_go, torch.where(begins, self._target, to_go[:, -1:] - got)),
                    _moved_on(rewards, got))
        logits = self.model(window, *told, valid)[:, -1]
        action = self._bins.centre(logits.argmax(-1))
        return (self.to_env(action), seen, window, *(told if rewarded else ()))


class CorrectedStep(PolicyStep):
    """Of a policy whose actions are corrected by what the last ones led to.

    A residual is divided by differences of a model's predictions, whose last digits single
    precision does not have.

    Args:
        policy: The policy.
        inner: Of the policy that is corrected.
    """

    tolerance = 3e-4

    def __init__(self, policy: RefinedPolicy, inner: PolicyStep) -> None:
        spec = policy.spec
        names = ("seen_before", "actions_sent", "actions_wanted", "residuals", "steps_known")
        past = spec.state_shapes[-len(names):]
        super().__init__(spec, {**inner.state, **dict(zip(names, past, strict=True))})
        self.inner, self._correct = inner, policy.correction.correct

    def decide(self, observation: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        count = len(self.inner.state)
        wanted, *own = self.inner(observation, *state[:count])
        scaled = (2 * wanted - self.low - self.high) / (self.high - self.low)
        action, past = self._correct(observation, scaled, state[count:], _going_on())
        return self.to_env(action), *own, *past


def _going_on() -> Tensor:
    """That no episode begins: a state of zeros says so by itself."""
    return torch.zeros(1, dtype=torch.bool)


def _moved_on(window: Tensor, newest: Tensor) -> Tensor:
    """Without the oldest step, and with one more: [1, K, …], [1, 1, …] → [1, K, …]."""
    return torch.cat((window[:, 1:], newest), 1)


def _of_one_slot(policy: L2MPolicy, states: Sequence[State]) -> WindowStep:
    """With the slot that it chose in all steps that were played; ``states`` are after each."""
    slots = {int(state[-1][0]) for state in states}
    if len(slots) > 1:
        raise UserError(f"the policy of {policy.spec.task!r} goes from slot to slot "
                        f"({', '.join(map(str, sorted(slots)))}) by what it sees, and a bundle has "
                        "one; train it with --set agent.select=oracle")
    return WindowStep(policy, slots.pop())


Maker = Callable[[Sequence[State]], PolicyStep]
"""What a policy remembered after each step of some episodes → what is exported of it."""

_STEPS: dict[type[Policy], Callable[[Any, Sequence[State]], PolicyStep]] = {
    SACPolicy: lambda policy, states: ReactiveStep(policy),
    RecurrentPolicy: lambda policy, states: RecurrentStep(policy),
    R2IPolicy: lambda policy, states: WorldModelStep(policy),
    L2MPolicy: _of_one_slot,
}


def step_maker(policy: Policy) -> Maker:
    """What makes the step of a policy; ``UserError`` if its kind cannot be exported."""
    if type(policy).__name__ == "SB3Policy":  # which is not imported for policies of ours
        from crl.deploy.sb3 import SB3Step

        step = SB3Step(cast(Any, policy))
        return lambda states: step
    if isinstance(policy, RefinedPolicy):
        inner, own = step_maker(policy.policy), len(policy.policy.spec.state_shapes)
        return lambda states: CorrectedStep(policy, inner([state[:own] for state in states]))
    if type(policy) not in _STEPS:
        raise UserError(f"a policy of class {type(policy).__name__} cannot be exported: a bundle "
                        "is a network; add --distill to teach one what it decides, or export a run "
                        "of sac, recurrent-sac, recurrent-ppo, r2i, l2m or sb3:…")
    return partial(_STEPS[type(policy)], policy)
