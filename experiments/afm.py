"""Robots that change while they drive: with corrected actions, and with models that learn on.

    python experiments/afm.py                 # or unicycle, ugv, quadrotor
    python experiments/afm_table.py           # the tables of what there is so far

Goes on where it stopped, seed by seed, in one process with one thread. An episode is a row of
results/afm/ROBOT/SEED/episodes.csv. Of `unicycle` and `ugv` a model is learned while nothing is
wrong; every row begins with it, and every episode with what the row has just then. The gains of
Murillo-González and Liu 2025 are there from 15 to 80 % of the waypoints. The quadrotor is flown by
a pilot written by hand, and what is wrong is so from start to end.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from grid import RESULTS
from gymnasium.envs.registration import load_env_creator

import crl
from crl import checkpoint
from crl.agent import Policy, Step
from crl.agents.action_flow import REGRESSOR, ActionFlow
from crl.agents.action_maps import least_squares
from crl.agents.afm import AFM
from crl.agents.afm_config import AFMConfig
from crl.agents.fitting import fit_model
from crl.agents.refined import Model, PilotPolicy, record, refine
from crl.agents.vehicle_model import angles_of
from crl.checkpoint import Tree
from crl.config import to_dict
from crl.envs.dynamic_tasks import DYNAMIC_TASKS, GAINS, ROBOTS
from crl.envs.dynamics import DynamicsSchedule
from crl.envs.pilots import fly
from crl.provenance import describe_machine
from crl.stream import Env, Task, TaskStream

FOLDER = RESULTS / "afm"
SEEDS = range(5)
ROWS = {  # what becomes of the model, what corrects
    "frozen": ("frozen", "none"), "online": ("online", "none"), "replay": ("replay", "none"),
    "snapshot": ("snapshot", "none"), "afm": ("online", "flow"), "afm-frozen": ("frozen", "flow"),
    "regressor": ("online", "regressor"), "least-squares": ("online", "least-squares"),
    "oracle": ("online", "oracle"),
}
PILOTED = ("frozen", "afm-frozen", "regressor", "least-squares")  # no model plans there
CAP = 1_200     # steps of an episode; published: 5,000
_LESSON = 500   # of those that the model is learned in
_LEARN_STEPS = 3_000
_CLEAN_STEPS = 4_000
_COLUMNS = ("robot", "map", "regime", "row", "seed", "success", "progress", "steps",
            "prediction_error", "distance", "ms_per_step")


class Robot(NamedTuple):
    """What a robot is put through.

    Attributes:
        maps: Where.
        regimes: Name → the task of :data:`DYNAMIC_TASKS` that says what changes.
        rows: Which.
        judged: Entries of the observation whose prediction errors count: the position (m) of
            ground vehicles, the velocity (m/s) in the air.
        goal: Entries that say where to go, metres.
    """

    maps: tuple[str, ...]
    regimes: dict[str, str]
    rows: tuple[str, ...]
    judged: slice
    goal: slice


def _gains(robot: str) -> dict[str, str]:
    return {f"{v:g},{w:g}": f"{robot}-v{v:g}-w{w:g}" for v, w in GAINS}


PROTOCOL = {
    **{robot: Robot(("afm-1", "afm-2"), _gains(robot), tuple(ROWS), slice(2),
                    slice(-5, -3))
       for robot in ("unicycle", "ugv")},
    "quadrotor": Robot(("eight", "helix"), {
        name: f"quad-{name}" for name in ("eight", "breeze", "crosswind", "gusts", "payload",
                                          "weak-motor")}, PILOTED, slice(9, 12), slice(-7, -4)),
}


class Drive(NamedTuple):
    """What came of an episode.

    Attributes:
        success: Whether all waypoints were reached.
        progress: The part of them that was.
        steps: How many.
        prediction_error: Of where a step led from where the model says that the wanted action
            does, a mean over the steps in which something was wrong; NaN without such a step.
        distance: From the goal, a mean over all steps, metres.
        way: [steps + 1, d], positions.
    """

    success: bool
    progress: float
    steps: int
    prediction_error: float
    distance: float
    way: np.ndarray


def environment(robot: str, where: str, task: str | None = None, render_mode: str | None = None
                ) -> Env:
    """A robot on a map; what changes is as in a task of :data:`DYNAMIC_TASKS`."""
    env = load_env_creator(ROBOTS["quad" if robot == "quadrotor" else robot])(
        map=where, horizon=CAP, render_mode=render_mode)
    changes = DYNAMIC_TASKS[task].changes if task else ()
    return DynamicsSchedule(env, changes) if changes else env


class Account:
    """What is noted of an episode, step by step.

    Args:
        robot: Which.
        obs: The first observation.
    """

    def __init__(self, robot: str, obs: np.ndarray) -> None:
        self._robot = PROTOCOL[robot]
        self._errors: list[float] = []
        self._away: list[float] = []
        self.way = [obs[:3]]

    def note(self, wrong: bool, expected: np.ndarray, obs: np.ndarray) -> None:
        """A step: whether something was wrong, where the model says that it leads, and did."""
        if wrong:
            error = obs[self._robot.judged] - expected[self._robot.judged]
            self._errors.append(float(np.linalg.norm(error)))
        self._away.append(float(np.linalg.norm(obs[self._robot.goal])))
        self.way.append(obs[:3])

    def closed(self, info: dict[str, Any]) -> Drive:
        """The whole episode, of whose last step this is the info."""
        errors = float(np.mean(self._errors)) if self._errors else math.nan
        return Drive(info["success"], info["progress"], len(self._away), errors,
                     float(np.mean(self._away)), np.array(self.way))


def drive(robot: str, agent: AFM, env: Env, seed: int, steps: int = CAP) -> Drive:
    """An episode, of at most so many steps, that an agent learns from."""
    obs, info = env.reset(seed=seed)
    account, first, count, over = Account(robot, obs), np.array([True]), 0, False
    while not over:
        action = agent.act(obs[None], first)
        wrong = _wrong(info)
        expected = agent.expected(obs[None])[0] if wrong else obs
        following, reward, terminated, truncated, info = env.step(action[0])
        count += 1
        over = bool(truncated or info["success"] or count == steps)
        agent.observe(Step(obs[None], action, np.array([reward], np.float32), following[None],
                           np.array([terminated]), np.array([over]), first, [info]))
        agent.update()
        account.note(wrong, expected, following)
        obs, first = following, np.array([False])
    return account.closed(info)


def _wrong(info: dict[str, Any]) -> bool:
    """Whether the robot is not as it should be, when this is the info of the step before."""
    return any(value != (1 if key.startswith(("gain", "motor")) else 0)
               for key, value in info.get("dynamics", {}).items())


# ---- agents that plan ----


def new_agent(robot: str, row: str, seed: int) -> tuple[AFM, Task]:
    """Of a row, which has learned nothing yet."""
    task = Task(robot, partial(_clean, robot), _LEARN_STEPS, 0)
    adapt, correct = ROWS[row]
    agent = crl.make_agent("afm", TaskStream([task], name=robot), seed=seed, adapt=adapt,
                           correct=correct, learn_steps=_LEARN_STEPS)
    assert isinstance(agent, AFM)
    agent.attach([])
    return agent, task


def _clean(robot: str, render_mode: str | None = None) -> Env:
    return environment(robot, "afm-1", render_mode=render_mode)


def learned(robot: str, seed: int) -> Tree:
    """The state of an agent that is to be deployed after one more step, learned or kept."""
    folder = Path("runs") / "afm" / f"{robot}-{seed}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    store = checkpoint.CheckpointStore(folder)
    if (kept := store.latest()) is not None:
        return checkpoint.load_tree(kept)
    agent, task = new_agent(robot, "frozen", seed)
    agent.begin_task(task)
    env, left, lesson = task.make(), _LEARN_STEPS - 1, 0
    while left:
        left -= drive(robot, agent, env, 1_000 * seed + lesson, min(left, _LESSON)).steps
        lesson += 1
    store.save(agent.state_dict(), "learned")
    return agent.state_dict()


@cache
def deployed(robot: str, row: str, seed: int) -> tuple[AFM, Tree]:
    """An agent of a row, and its state when it has just been deployed."""
    agent, task = new_agent(robot, row, seed)
    agent.load_state_dict(learned(robot, seed))
    agent.begin_task(task)
    drive(robot, agent, task.make(), seed, steps=1)
    return agent, agent.state_dict()


def planned(robot: str, row: str, seed: int, where: str, task: str) -> Drive:
    """An episode of an agent that has just been deployed."""
    agent, state = deployed(robot, row, seed)
    agent.load_state_dict(state)
    env = environment(robot, where, task)
    try:
        return drive(robot, agent, env, seed)
    finally:
        env.close()


# ---- a pilot that does not ----


@cache
def piloted_policies(seed: int) -> tuple[dict[str, Policy], Model]:
    """The quadrotor's policies by row, and the model of it as it should be."""
    env = environment("quadrotor", "eight")
    pilot = PilotPolicy(fly, env)
    lesson, clean = (record(pilot, env, _CLEAN_STEPS, noise=0.2, seed=2 * seed + i)
                     for i in range(2))
    # Actions of the quadrotor are in [-1, 1], as fit_model wants them.
    predict = fit_model(*map(torch.from_numpy, lesson), angles_of(env), seed)

    def model(obs: np.ndarray, action: np.ndarray) -> np.ndarray:
        return predict(torch.from_numpy(obs), torch.from_numpy(action)).numpy()

    transforms = {"afm-frozen": ActionFlow(4, seed=seed),
                  "regressor": ActionFlow(4, REGRESSOR, seed), "least-squares": least_squares}
    return {"frozen": pilot, **{row: refine(pilot, env, clean, model, transform=transform)
                                for row, transform in transforms.items()}}, model


def piloted(row: str, seed: int, where: str, task: str) -> Drive:
    """An episode of a pilot, whose actions a row corrects."""
    policies, model = piloted_policies(seed)
    env, policy, pilot = environment("quadrotor", where, task), policies[row], policies["frozen"]
    obs, info = env.reset(seed=seed)
    account, over = Account("quadrotor", obs), False
    state, first = policy.initial_state(1), np.array([True])
    while not over:
        wanted, _ = pilot.step(obs[None], (), first)
        action, state = policy.step(obs[None], state, first)
        wrong = _wrong(info)
        expected = model(obs[None], wanted)[0]
        obs, _, _, truncated, info = env.step(action[0])
        account.note(wrong, expected, obs)
        over, first = bool(truncated or info["success"]), np.array([False])
    env.close()
    return account.closed(info)


# ---- the experiment ----


def prepare(robot: str, row: str, seed: int) -> None:
    """Learns what the row's episodes begin with, unless that is done."""
    if robot == "quadrotor":
        piloted_policies(seed)
    else:
        deployed(robot, row, seed)


def episode(robot: str, row: str, seed: int, where: str, regime: str) -> Drive:
    """One of them."""
    task = PROTOCOL[robot].regimes[regime]
    if robot == "quadrotor":
        return piloted(row, seed, where, task)
    return planned(robot, row, seed, where, task)


def run(robot: str, seed: int, machine: dict[str, Any]) -> None:
    """All episodes of a seed that are not done yet."""
    folder, settings = FOLDER / robot / f"seed-{seed}", PROTOCOL[robot]
    folder.mkdir(parents=True, exist_ok=True)
    path, info = folder / "episodes.csv", folder / "run.json"
    known = json.loads(info.read_text()) if info.exists() else {
        "robot": robot, "seed": seed, "cap": CAP, "learn_steps": _LEARN_STEPS,
        "agent": to_dict(AFMConfig(learn_steps=_LEARN_STEPS)), "sessions": []}
    if known.get("status") == "finished":
        return
    known = {**known, "status": "running", "sessions": [*known["sessions"], machine]}
    info.write_text(json.dumps(known, indent=1) + "\n")
    done = set()
    if path.exists():
        with open(path, newline="") as file:
            done = {(r["row"], r["map"], r["regime"]) for r in csv.DictReader(file)}
    with open(path, "a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not done:
            writer.writerow(_COLUMNS)
        for where, regime, row in product(settings.maps, settings.regimes, settings.rows):
            if (row, where, regime) in done:
                continue
            prepare(robot, row, seed)
            start = time.process_time()
            found = episode(robot, row, seed, where, regime)
            ms = 1_000 * (time.process_time() - start) / found.steps
            writer.writerow([robot, where, regime, row, seed, int(found.success),
                             *(f"{x:.5g}" for x in (found.progress, found.steps,
                                                    found.prediction_error, found.distance, ms))])
            file.flush()
            print(robot, where, regime, row, seed, f"{found.progress:.2f} {found.steps}",
                  flush=True)
    deployed.cache_clear()
    piloted_policies.cache_clear()
    info.write_text(json.dumps({**known, "status": "finished"}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("robots", nargs="*", help=f"of {', '.join(PROTOCOL)}; all of them if none")
    robots = parser.parse_args().robots or list(PROTOCOL)
    torch.set_num_threads(1)
    machine = describe_machine(threads=1, device="cpu")
    for seed in SEEDS:
        for robot in robots:
            run(robot, seed, machine)


if __name__ == "__main__":
    main()
