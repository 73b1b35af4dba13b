"""iCEM beside the cross-entropy method as HyperCRL has it, and MPPI beside pytorch_mppi."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

import gymnasium
import numpy as np
import torch

import crl.envs  # noqa: F401  (registers the tasks)
from crl.agents.actions import BoundedActions
from crl.agents.controller import Controller
from crl.agents.dynamics import Angles, Model, PerceptronModel, perceptron_weights
from crl.agents.simulator import simulator_policy
from crl.bench.rows import Row, row, take_turns, threads
from crl.evaluation import run_episode
from crl.nn.network import Network
from crl.nn.products import affine
from crl.planners import Planner, make_planner
from crl.planners.mppi import MPPI

# Task → hidden layers of its model, and horizon, population and elites of its planner, all as
# published (Huang et al. 2021).
_PUBLISHED: dict[str, tuple[tuple[int, ...], dict[str, int]]] = {
    "cartpole-0.6": ((256, 256), {"horizon": 25, "population": 400, "elites": 40}),
    "pusher-500-500": ((200, 200), {"horizon": 20, "population": 500, "elites": 40}),
    "cheetah-plain": ((200,) * 4, {"horizon": 30, "population": 500, "elites": 50}),
    "door-round-left": ((200,) * 4, {"horizon": 10, "population": 2000, "elites": 40}),
}
_POPULATIONS = 3  # of an iCEM's plan, by default
_EARNED = {"cartpole-0.6": 3, "car-1.0": 5}  # episodes; the others' simulators are too slow


def bench_planner() -> Iterator[Row]:
    """One thread. A plan is one action, with a network of the published size as the model.

    The floor is the matrix products of iCEM's own evaluations. Returns are with the simulator as
    the model, means over a few episodes. pytorch_mppi, which ``crl[dev]`` brings, is given our
    model a step at a time, as it asks for.
    """
    with threads(1):
        for task, (hidden, settings) in _PUBLISHED.items():
            yield from _times(task, hidden, settings)
        for task, episodes in _EARNED.items():
            yield from _earned(task, episodes)


def _times(task: str, hidden: tuple[int, ...], settings: dict[str, int]) -> Iterator[Row]:
    env: Any = gymnasium.make(f"crl/{task}").unwrapped
    size, horizon = env.action_space.shape[0], settings["horizon"]
    model = _model(env, hidden)
    icem, cem = make_planner("icem", size, horizon=horizon), make_planner("cem", size, **settings)
    ours, theirs, floor = take_turns(_planning(icem, env, model), _planning(cem, env, model),
                                     _products(hidden, env, icem), turns=5, calls=4)
    yield row("planner", f"{task}: a plan", "s", ours, ("CEM", theirs), floor)
    yield row("planner", f"{task}: a plan", "evaluations", icem.evaluations,
              ("CEM", cem.evaluations))
    mppi = make_planner("mppi", size, horizon=horizon)
    assert isinstance(mppi, MPPI)
    peer = _pytorch_mppi(env, model, mppi)
    if peer is not None:
        ours, theirs = take_turns(_planning(mppi, env, model), peer, turns=5, calls=4)
        yield row("planner", f"{task}: a plan of MPPI", "s", ours, ("pytorch_mppi", theirs))


def _model(env: Any, hidden: tuple[int, ...]) -> Model:
    """A network with random weights: the time does not depend on them."""
    obs, size = env.observation_space.shape[0], env.action_space.shape[0]
    angles = Angles(obs, env.task_spec.angles)
    network = Network(angles.size + size, obs, hidden, 1, torch.Generator().manual_seed(0),
                      layer_norm=False)
    weights = perceptron_weights(network, 0)
    assert weights is not None
    flat = torch.zeros(angles.size + size), torch.ones(angles.size + size)
    return PerceptronModel(weights, angles, flat, (torch.zeros(obs), 100 * torch.ones(obs)))


def _planning(planner: Planner, env: Any, model: Model) -> Callable[[], object]:
    space = env.action_space
    controller = Controller(planner, [model], env.task_spec.reward,
                            BoundedActions(space.low, space.high))
    obs = np.zeros((1, *env.observation_space.shape), np.float32)
    state, draws = planner.initial_state(1), torch.Generator()
    return lambda: controller.act(obs, state, np.array([False]), draws)


def _products(hidden: Sequence[int], env: Any, planner: Planner) -> Callable[[], None]:
    """The matrix products of a plan's evaluations, and nothing else."""
    horizon = planner.shape[0]
    sizes = (env.observation_space.shape[0] + planner.shape[1], *hidden,
             env.observation_space.shape[0])
    rows = planner.evaluations // horizon // _POPULATIONS
    layers = [(torch.randn(rows, a), torch.randn(a, b), torch.randn(b))
              for a, b in pairwise(sizes)]

    def run() -> None:
        with torch.inference_mode():
            for _ in range(_POPULATIONS * horizon):
                for x, kernel, bias in layers:
                    affine(x, kernel, bias)

    return run


def _pytorch_mppi(env: Any, model: Model, planner: MPPI) -> Callable[[], object] | None:
    """The peer with the same settings; None where it is not installed."""
    try:
        import pytorch_mppi  # type: ignore[import-untyped]
    except ImportError:
        return None
    horizon, size = planner.shape
    reward, settings = env.task_spec.reward, planner.config
    peer = pytorch_mppi.MPPI(
        lambda obs, action: model.imagine(obs, action.unsqueeze(1))[:, 1],
        lambda obs, action: -reward(obs, action, obs),  # obs is where the action has led to
        env.observation_space.shape[0], settings.std**2 * torch.eye(size), horizon=horizon,
        num_samples=settings.population, lambda_=settings.temperature,
        u_min=-torch.ones(size), u_max=torch.ones(size))
    obs = torch.zeros(env.observation_space.shape[0])
    return torch.inference_mode()(lambda: peer.command(obs))


def _earned(task: str, episodes: int) -> Iterator[Row]:
    env: Any = gymnasium.make(f"crl/{task}").unwrapped
    _, settings = _PUBLISHED["cartpole-0.6"]
    size = env.action_space.shape[0]

    def mean_return(planner: Planner) -> float:
        policy = simulator_policy(env, planner)
        return fmean(run_episode(policy, env, seed).reward_sum for seed in range(episodes))

    yield row("planner", f"{task}: the simulator as model", "return",
              mean_return(make_planner("icem", size, horizon=settings["horizon"])),
              ("CEM", mean_return(make_planner("cem", size, **settings))))
