"""A control step and a reset of Meta-World tasks, beside stock and the physics alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import numpy as np

from crl.bench.rows import Row, geometric_mean, row

_STEPS = 200
_BLOCK = 10  # steps timed at a stretch, before the next competitor has its turn
_EPISODES = 5
_RESETS = 30


def bench_env() -> Iterator[Row]:
    """The ten Continual World tasks: a control step and a reset, against stock Meta-World.

    Stock is the bare task class, no wrapper, goal visible. The floor is the physics alone on the
    same trajectory: ``mj_step(nstep=5)`` and one ``mj_forward``. The three take turns every few
    steps, so that a change of the machine's speed meets all of them; times are medians. Actions
    are uniformly random; both sides get the same task vectors.
    """
    from crl.envs.continual_world import CW10
    from crl.envs.metaworld import MetaworldEnv

    steps, resets = [], []
    for task in CW10:
        env = MetaworldEnv(task, horizon=_STEPS)
        stock = _stock(task)
        step = _row(task, "s/step", *_time_steps(env, stock))
        steps.append(step)
        yield step
        reset = _row(f"{task} reset", "s/reset", *_time_resets(env, stock), None)
        resets.append(reset)
        yield reset
        env.close()
        stock.close()
    yield _mean("geometric mean", "s/step", steps)
    yield _mean("geometric mean reset", "s/reset", resets)


def _row(case: str, unit: str, ours: float, stock: float, floor: float | None) -> Row:
    return row("env", case, unit, ours, ("metaworld", stock), floor)


def _mean(case: str, unit: str, rows: list[Row]) -> Row:
    floors = [row["floor"] for row in rows]
    return _row(
        case, unit, geometric_mean([row["ours"] for row in rows]),
        geometric_mean([row["peers"]["metaworld"] for row in rows]),
        None if None in floors else geometric_mean(floors),
    )


def _stock(task: str) -> Any:
    """A bare stock environment with a visible goal, to be given its task vectors."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    env = ALL_V3_ENVIRONMENTS[task]()
    env._partially_observable = False
    del env.sawyer_observation_space
    env._set_task_called = True
    env._freeze_rand_vec = True
    return env


def _time_steps(env: Any, stock: Any) -> tuple[float, float, float]:
    """Median seconds per control step: ours, stock, floor."""
    import mujoco

    model, ours, peer, floor = env.model, [], [], []
    rng = np.random.default_rng(0)
    for episode in range(_EPISODES):
        actions = rng.uniform(-1, 1, (_STEPS, 4)).astype(np.float32)
        _, info = env.reset(seed=episode)
        vector = {"task_vector": info["task_vector"]}
        data = mujoco.MjData(model)
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        start = np.empty(mujoco.mj_stateSize(model, kind))
        mujoco.mj_getState(model, env.data, start, kind)
        mujoco.mj_setState(model, data, start, kind)
        commands = []  # what the physics is given, for the floor to replay
        for action in actions:
            env.step(action)
            commands.append((env.data.mocap_pos.copy(), env.data.ctrl.copy()))
        env.reset(options=vector)
        stock._last_rand_vec = info["task_vector"]
        stock.reset()
        mocap, ctrl = data.mocap_pos, data.ctrl
        for begin in range(0, _STEPS, _BLOCK):
            block = actions[begin : begin + _BLOCK]
            replay = commands[begin : begin + _BLOCK]
            t0 = time.perf_counter()
            for action in block:
                env.step(action)
            t1 = time.perf_counter()
            for action in block:
                stock.step(action)
            t2 = time.perf_counter()
            for where, force in replay:
                mocap[:] = where
                ctrl[:] = force
                mujoco.mj_step(model, data, nstep=5)
                mujoco.mj_forward(model, data)
            t3 = time.perf_counter()
            ours.append((t1 - t0) / _BLOCK)
            peer.append((t2 - t1) / _BLOCK)
            floor.append((t3 - t2) / _BLOCK)
    return median(ours), median(peer), median(floor)


def _time_resets(env: Any, stock: Any) -> tuple[float, float]:
    """Seconds per reset: ours, stock. Means, because some vectors cost more than others."""
    ours = peer = 0.0
    for seed in range(-5, _RESETS):
        t0 = time.perf_counter()
        _, info = env.reset(seed=seed + 1000)
        t1 = time.perf_counter()
        stock._last_rand_vec = info["task_vector"]
        t2 = time.perf_counter()
        stock.reset()
        t3 = time.perf_counter()
        if seed >= 0:  # the first few record what later ones restore
            ours += t1 - t0
            peer += t3 - t2
    return ours / _RESETS, peer / _RESETS
