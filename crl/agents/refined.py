"""Action Flow Matching in front of any policy.

    clean = record(pilot, env, steps=2_000)   # while nothing is wrong
    policy = refine(pilot, env, clean)
    action, state = policy.predict(obs, state)           # state: None at first
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from torch import Tensor

from crl import seeding
from crl.agent import BoolArray, FloatArray, Policy, PolicySpec, State
from crl.agents.action_flow import ActionFlow, FlowConfig
from crl.agents.actions import BoundedActions
from crl.agents.controller import MPCPolicy
from crl.agents.correction import Correction, Predict, Transform, calibrate, prediction
from crl.agents.fitting import fit_model
from crl.agents.vehicle_model import angles_of
from crl.config import require, require_whole
from crl.evaluation import as_row
from crl.nn.state import to_tensor
from crl.stream import Env, check_spaces, space_bounds

Pilot = Callable[[NDArray[Any]], NDArray[Any]]
"""Any controller: an observation [obs] → an action [act] in the environment's units."""
Model = Callable[[FloatArray, FloatArray], NDArray[Any]]
"""Any model: observations [N, obs] and actions [N, act] → next observations [N, obs]."""
_LEARNED = 0.8  # share of the recorded steps; the model's usual errors are those on the others
_FEWEST = 100
_SLOWNESS = 0.8  # how much of a disturbance stays from step to step: robots are driven smoothly


class Steps(NamedTuple):
    """N steps of a robot, in the environment's units."""

    obs: FloatArray       # [N, obs]
    action: FloatArray    # [N, act]
    next_obs: FloatArray  # [N, obs]


class PilotPolicy(Policy):
    """A controller as a policy; it has no memory and draws nothing."""

    def __init__(self, pilot: Pilot, env: Env) -> None:
        observations, actions = check_spaces(env, type(env.unwrapped).__name__)
        require(isinstance(actions, Box), f"corrected actions are continuous, got {actions}")
        self._pilot = pilot
        self.spec = PolicySpec(type(env.unwrapped).__name__, *space_bounds(observations),
                               *space_bounds(cast(Box, actions)))

    def seed(self, seed: int) -> None:
        """Does nothing."""

    def step(self, obs: FloatArray, state: State, first: BoolArray,
             deterministic: bool = True) -> tuple[FloatArray, State]:
        action = np.array([self._pilot(row) for row in obs], np.float32)
        return action.clip(self.spec.action_low, self.spec.action_high), state


def model_of(policy: MPCPolicy) -> Model:
    """The model that a policy of ``mpc`` or ``hypercrl`` plans with, for :func:`refine`."""
    predict = torch.inference_mode()(prediction(policy.controller.models))
    scaling = _scaling(policy.spec)

    def model(obs: FloatArray, actions: FloatArray) -> NDArray[Any]:
        wanted = to_tensor(scaling.from_env(actions))
        following: NDArray[Any] = predict(to_tensor(obs), wanted).numpy()
        return following

    return model


class RefinedPolicy(Policy):
    """A policy whose actions are corrected; what they led to is part of its recurrent state.

    An action that needs no correction is the policy's own, to the last bit.

    Args:
        policy: Of continuous actions.
        correction: Of actions scaled to [-1, 1].
    """

    def __init__(self, policy: Policy, correction: Correction) -> None:
        self.policy, self.correction = policy, correction
        spec = policy.spec
        self._own = len(spec.state_shapes)
        self._actions = _scaling(spec)
        shapes = correction.past_shapes(len(spec.observation_low), self._actions.size)
        self.spec = replace(spec, state_shapes=(*spec.state_shapes, *shapes))

    def seed(self, seed: int) -> None:
        self.policy.seed(seed)

    def step(self, obs: FloatArray, state: State, first: BoolArray,
             deterministic: bool = True) -> tuple[FloatArray, State]:
        wanted, own = self.policy.step(obs, state[:self._own], first, deterministic)
        past = tuple(torch.from_numpy(s) for s in state[self._own:])
        scaled = to_tensor(self._actions.from_env(wanted))
        action, past = self.correction(to_tensor(obs), scaled, past, torch.from_numpy(first))
        needed = (action != scaled).any(-1, keepdim=True).numpy()
        sent = np.where(needed, self._actions.to_env(action.numpy()), wanted)
        return sent, (*own, *(p.numpy() for p in past))


def record(policy: Policy | Pilot, env: Env, steps: int, *, noise: float = 1.0, seed: int = 0
           ) -> Steps:
    """Steps of a policy in its environment, episode after episode.

    A correction may have to send any action, and a model knows those alone that it has seen.

    Args:
        policy: The policy, or any controller.
        env: The robot as it should be.
        steps: How many.
        noise: Standard deviation of what is added to actions, 1 being half the range, so that
            all of it is seen; less for a robot that does not bear it.
        seed: Of episodes and noise.
    """
    require_whole("steps", steps, least=1)
    acting = policy if isinstance(policy, Policy) else PilotPolicy(policy, env)
    low, high = acting.spec.action_low, acting.spec.action_high
    rng, rows = seeding.generator(seed, "record", "noise"), []
    over, episode = True, 0
    disturbance = np.zeros(len(low))
    acting.seed(seed)
    for _ in range(steps):
        if over:
            obs = as_row(env.reset(seed=seeding.integer(seed, "record", episode))[0])
            state, first, episode = acting.initial_state(1), np.array([True]), episode + 1
        wanted, state = acting.step(obs, state, first)
        fresh = rng.standard_normal(len(low))
        disturbance = _SLOWNESS * disturbance + math.sqrt(1 - _SLOWNESS**2) * fresh
        disturbed = wanted + noise * disturbance * (high - low) / 2
        action = disturbed.astype(np.float32).clip(low, high)
        following, _, terminated, truncated, _ = env.step(action[0])
        rows.append((obs[0], action[0], np.float32(following)))
        obs, first, over = as_row(following), np.array([False]), terminated or truncated
    return Steps(*(np.array(column) for column in zip(*rows, strict=True)))


def refine(policy: Policy | Pilot, env: Env, clean: Steps, model: Model | None = None, *,
           transform: Transform | None = None, angles: Sequence[int] | None = None,
           window: int = 8, limit: float = 3.0, seed: int = 0) -> RefinedPolicy:
    """Puts Action Flow Matching in front of a policy.

    Training of the flow, and of the model if none is given, takes some seconds.

    Args:
        policy: The policy (SAC's, Stable-Baselines3's …), or any controller.
        env: Its environment: gives spaces, and says which observations are angles.
        clean: Steps of the robot as it should be; see :func:`record`.
        model: Of the robot as it should be; None: one is learned from ``clean``.
        transform: What corrects, for a comparison; None: an
            :class:`~crl.agents.action_flow.ActionFlow`.
        angles: Entries of the observation that are angles in radians; None: what the environment's
            ``task_spec`` says, if it has one.
        window: Steps to look back.
        limit: The longest correction; 1 is half the range of an action's entry, 0 none at all.
        seed: Of everything that is trained.

    Raises:
        UserError: Too few steps, of other sizes than the policy's or with numbers that are not
            finite; actions that are choices; a window or a limit that cannot be.
    """
    require_whole("window", window, least=1)
    require(limit >= 0, f"limit must not be negative, got {limit}")
    acting = policy if isinstance(policy, Policy) else PilotPolicy(policy, env)
    spec = acting.spec
    require(not spec.discrete, "corrected actions are continuous, and this policy's are choices")
    size, act = len(spec.observation_low), len(spec.action_low)
    shapes = tuple(np.shape(column)[1:] for column in clean)
    require(shapes == ((size,), (act,), (size,)), f"clean must hold observations of {size} numbers "
            f"and actions of {act}, got {shapes}; use record(policy, env, steps=2_000)")
    require(all(np.isfinite(column).all() for column in clean),
            "clean holds numbers that are not finite; leave these steps out")
    require(len(clean.obs) >= _FEWEST, f"clean must hold at least {_FEWEST} steps, got "
            f"{len(clean.obs)}; use record(policy, env, steps=2_000)")
    seen = angles_of(env, angles)
    obs, next_obs = to_tensor(clean.obs), to_tensor(clean.next_obs)
    scaling, learned = _scaling(spec), int(_LEARNED * len(obs))
    actions = to_tensor(scaling.from_env(clean.action))
    if model is None:
        predict = fit_model(obs[:learned], actions[:learned], next_obs[:learned], seen, seed)
        others = slice(learned, None)
    else:
        predict, others = _in_tensors(model, scaling), slice(None)
    calibration = calibrate(predict, seen, obs[others], actions[others], next_obs[others])
    transform = transform or ActionFlow(act, FlowConfig(window=window), seed)
    return RefinedPolicy(acting, Correction(transform, predict, seen, calibration, window, limit))


def _scaling(spec: PolicySpec) -> BoundedActions:
    return BoundedActions(spec.action_low, spec.action_high)


def _in_tensors(model: Model, scaling: BoundedActions) -> Predict:
    def predict(obs: Tensor, actions: Tensor) -> Tensor:
        return to_tensor(np.asarray(model(obs.numpy(), scaling.to_env(actions.numpy()))))

    return predict
