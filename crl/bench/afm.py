"""How long a correction takes, beside what else could correct and beside the plan before it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch

from crl.agents.action_flow import REGRESSOR, ActionFlow, FlowConfig
from crl.agents.action_maps import least_squares
from crl.agents.actions import BoundedActions
from crl.agents.afm_config import AFMConfig
from crl.agents.controller import Controller
from crl.agents.correction import Calibration, Correction, Transform, prediction
from crl.agents.dynamics import Angles, Model, frozen
from crl.agents.vehicle_model import Seen, angles_of
from crl.bench.rows import Row, row, threads
from crl.envs.outlook import outlook_of
from crl.envs.unicycle import FASTEST, UnicycleEnv
from crl.nn.network import Network
from crl.planners import make_planner

_CALLS, _WARM_UP = 2_000, 50
_TARGET = 2e-3  # seconds, of which the slowest in a hundred


def bench_afm() -> Iterator[Row]:
    """One thread; the settings of ``afm`` on the unicycle, the models' weights at random.

    A correction is all that there is between a planned action and the one to send: what the model
    says of the last step, and the transform. All take turns, call by call; of each there are the
    median and the 99th percentile of single calls.
    """
    settings, env = AFMConfig(), UnicycleEnv()
    angles, outlook = angles_of(env), outlook_of(env)
    assert outlook is not None
    size, obs = len(FASTEST), angles.size - 1  # one of the observed numbers is an angle
    models = random_models(angles, obs, size)
    transforms: dict[str, Transform] = {
        "flow": ActionFlow(size, FlowConfig(updates=0)),
        "regressor": ActionFlow(size, replace(REGRESSOR, updates=0)),
        "least squares": least_squares}
    calls: dict[str, Callable[[], object]] = {
        name: _correcting(transform, models, angles, (obs, size), settings)
        for name, transform in transforms.items()}
    calls["plan"] = _planning(env, [Seen(model, outlook) for model in models], settings)
    with threads(1):
        seconds = _latencies(calls)
    for name, value in (("p50", 50), ("p99", 99)):
        took = {key: float(np.percentile(times, value)) for key, times in seconds.items()}
        for peer in ("regressor", "least squares", "plan"):
            yield row("afm", f"a correction, {name}", "s", took["flow"], (peer, took[peer]))
    yield row("afm", "a correction, p99", "s", took["flow"], ("target", _TARGET))


def random_models(angles: Angles, obs: int, act: int) -> list[Model]:
    """Models of the sizes that ``afm`` has by default, that have learned nothing."""
    settings, draw = AFMConfig(), torch.Generator().manual_seed(0)
    inputs = torch.zeros(angles.size + act), torch.ones(angles.size + act)
    changes = torch.zeros(obs), 100 * torch.ones(obs)
    return [frozen(Network(angles.size + act, 2 * obs, settings.hidden, 1, draw,
                           layer_norm=False), 0, angles, inputs, changes)
            for _ in range(settings.ensemble)]


def _correcting(transform: Transform, models: list[Model], angles: Angles,
                sizes: tuple[int, int], settings: AFMConfig) -> Callable[[], object]:
    """A step of a robot that is misaligned, and of which as much is known as can be."""
    obs, size = sizes
    calibration = Calibration(torch.full((obs,), 100.0), 0.0)
    correction = Correction(transform, prediction(models), angles, calibration, settings.window,
                            settings.limit)
    draw, first = torch.Generator().manual_seed(0), torch.tensor([False])
    past = correction.initial_past(1, obs, size)

    def run() -> None:
        nonlocal past
        seen, wanted = torch.randn(1, obs, generator=draw), torch.rand(1, size, generator=draw)
        _, past = correction(seen, wanted, past, first)

    return run


def _planning(env: UnicycleEnv, models: list[Seen], settings: AFMConfig) -> Callable[[], object]:
    planner = make_planner(settings.planner, len(FASTEST), **settings.planner_options)
    controller = Controller(planner, models, env.task_spec.reward,
                            BoundedActions(-FASTEST, FASTEST))
    obs, draws = env.reset(seed=0)[0][None], torch.Generator()
    state = planner.initial_state(1)
    return lambda: controller.act(obs, state, np.array([False]), draws)


def _latencies(calls: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Seconds of each call, of all in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(_WARM_UP + _CALLS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= _WARM_UP:
                seconds[name].append(time.perf_counter() - start)
    return seconds
