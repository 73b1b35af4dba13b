"""L2M on a toy: a point that must go to a corner, which the colour of what it sees tells."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import CORNERS, HORIZON, Corner

import crl
from crl.agents.l2m_model import Bins
from crl.data.episodes import Episodes
from crl.data.minari_store import About, write_data
from crl.envs.views import ObserveReward
from crl.errors import UserError
from crl.evaluation import evaluate
from crl.methods.base import make_method
from crl.stream import Task, TaskStream

EPISODES = 30
OLD, NEW = (0, 3), (1, 2)  # opposite corners: all actions are seen before
TINY = {"window": 3, "batch_size": 32, "warm_up": 10, "prototypes": 1, "learning_rate": 3e-3}


class Coloured(Corner):
    """A corner whose observations say which it is."""

    def __init__(self, corner: int, render_mode: str | None = None) -> None:
        super().__init__(corner)
        self.colour = corner - 1.5

    def _obs(self) -> np.ndarray:
        return np.array([*self.position, self.colour], np.float32)


def coloured(*corners: int, steps: int = 200) -> TaskStream:
    return TaskStream([Task(f"corner-{c}", partial(Coloured, c), steps, i)
                       for i, c in enumerate(corners)], name="coloured")


def expert(corner: int, episodes: int = EPISODES) -> Episodes:
    """Episodes that go straight to the corner, played without anything of crl."""
    env, columns = Coloured(corner), {name: [] for name in ("obs", "actions", "rewards", "success")}
    for seed in range(episodes):
        obs, _ = env.reset(seed=seed)
        columns["obs"].append(obs)
        for _ in range(HORIZON):
            action = np.clip(CORNERS[corner] - env.position, -0.2, 0.2).astype(np.float32)
            obs, reward, _, _, info = env.step(action)
            for name, value in (("obs", obs), ("actions", action), ("rewards", reward),
                                ("success", info["success"])):
                columns[name].append(value)
    over = np.arange(episodes * HORIZON) % HORIZON == HORIZON - 1
    return Episodes.of([HORIZON] * episodes, **columns, terminated=~over & False, truncated=over,
                       seeds=np.arange(episodes))


ABOUT = About(algorithm="straight", settings={}, protocol="coloured",
              observation_space=Coloured.observation_space, action_space=Coloured.action_space)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for corner in range(4):
        write_data(root, f"corner-{corner}", "scripted", expert(corner), ABOUT)
    return root


@pytest.fixture(scope="module")
def pretrained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that goes to two corners."""
    out = tmp_path_factory.mktemp("runs") / "pretrained"
    stream = coloured(*OLD)
    crl.train(agent(stream, data), stream, out=out, **QUIET)
    return out


QUIET: dict[str, Any] = {"eval_every": 10**6, "eval_episodes": 5}


def agent(stream: TaskStream, data: Path, **settings: Any) -> Any:
    return crl.make_agent("l2m", stream, data=str(data), **{**TINY, **settings})


def success(trained: Any, task: Task) -> float:
    return float(np.mean([e.success_end for e in evaluate(trained.policy(task), task, 10)]))


def earned(trained: Any, task: Task) -> float:
    return float(np.mean([e.reward_sum for e in evaluate(trained.policy(task), task, 10)]))


def learned(pretrained: Path, data: Path, stream: TaskStream, tmp_path: Path, *methods: Any,
            **settings: Any) -> Any:
    made = agent(stream, data, pretrained=str(pretrained), **settings)
    crl.train(made, stream, list(methods), out=tmp_path / "run", **QUIET)
    return made


def test_a_number_is_half_a_bin_from_its_bins_centre_at_most() -> None:
    bins, values = Bins(64), torch.linspace(-1, 1, 1001)
    back = bins.centre(bins.of(values))
    assert (back - values).abs().max() <= 1 / 64 + 1e-6
    assert abs(float((back - values).mean())) < 1e-3  # the published decoding is half a bin too low
    lower_edge = back - 1 / 64
    assert float((lower_edge - values).mean()) < -0.015


def test_pre_training_learns_all_tasks_at_once(pretrained: Path) -> None:
    run = crl.Run(pretrained, coloured(*OLD))
    assert run.status == "finished"
    trained = run.agent()
    assert [success(trained, task) for task in run.stream] == [1.0, 1.0]
    assert success(trained, coloured(NEW[0])[0]) < 0.5  # the control


@pytest.mark.parametrize("kind", ["lora", "ia3", "prefix"])
def test_slots_learn_new_tasks_and_nothing_is_forgotten(kind, pretrained, data, tmp_path) -> None:
    stream, old = coloured(*NEW), coloured(*OLD)
    before = crl.Run(pretrained, old).agent()
    trained = learned(pretrained, data, stream, tmp_path, kind=kind)
    # Slot 0 is what was pre-trained, to the last bit.
    frozen = dict(before.parts["model"].module.named_parameters())
    now = dict(trained.parts["model"].module.named_parameters())
    assert all(torch.equal(p, now[name]) for name, p in frozen.items())
    # Nobody says which task it is.
    assert [success(trained, task) for task in old] == [1.0, 1.0]
    if kind == "lora":  # the others change too little for corners so different
        for task in stream:
            assert earned(trained, task) > -15 > earned(before, task)


def test_whose_policy_it_is_does_not_matter(pretrained, data, tmp_path) -> None:
    stream = coloured(*NEW)
    policy = learned(pretrained, data, stream, tmp_path).policy(stream[0])  # meets the other task
    assert np.mean([e.success_end for e in evaluate(policy, stream[1], 10)]) == 1.0
    told = learned(pretrained, data, stream, tmp_path / "told", select="oracle")
    assert success(told, stream[1]) == 1.0
    policy = told.policy(stream[0])
    assert np.mean([e.success_end for e in evaluate(policy, stream[1], 10)]) < 0.5


def test_a_finished_slot_does_not_move(pretrained, data, tmp_path) -> None:
    stream = coloured(*NEW)
    made = agent(stream, data, pretrained=str(pretrained))
    made.attach([])
    made.begin_task(stream[0])
    for _ in range(5):
        made.update()
    made.end_task(stream[0])
    pool = made.parts["model"].module
    slot = {name: p.clone() for name, p in pool.slot_parameters(1).items()}
    made.begin_task(stream[1])
    for _ in range(5):
        made.update()
    assert all(torch.equal(p, slot[name]) for name, p in pool.slot_parameters(1).items())
    moved = [p.abs().sum() for name, p in pool.slot_parameters(2).items() if name.endswith(".b")]
    assert all(m > 0 for m in moved)  # the control


def test_full_fine_tuning_forgets(pretrained, data, tmp_path) -> None:
    trained = learned(pretrained, data, coloured(*NEW), tmp_path, tune="full")
    assert success(trained, coloured(NEW[1])[0]) == 1.0
    assert np.mean([success(trained, task) for task in coloured(*OLD)]) < 0.9


def test_methods_work_on_its_part(pretrained, data, tmp_path) -> None:
    stream = coloured(*NEW, steps=5)
    ewc = make_method("ewc", batches=1, batch_size=8)
    trained = learned(pretrained, data, stream, tmp_path, ewc, tune="full")
    assert trained.methods.items[0].parts[0].name == "model"


def test_a_batch_of_policies_is_each_policy_alone(pretrained, data, tmp_path) -> None:
    stream = coloured(*NEW)
    policy = learned(pretrained, data, stream, tmp_path).policy(stream[0])
    rng = np.random.default_rng(0)
    obs = rng.uniform(-1, 1, (4, 3, 3)).astype(np.float32)  # steps, batch
    obs[..., 2] = [-1.5, -0.5, 0.5]  # three tasks
    first = np.zeros((4, 3), bool)
    first[0] = True
    first[2, 1] = True  # one begins anew on the way
    state = policy.initial_state(3)
    alone = [policy.initial_state(1) for _ in range(3)]
    for t in range(4):
        together, state = policy.step(obs[t], state, first[t])
        for b in range(3):
            action, alone[b] = policy.step(obs[t, b:b + 1], alone[b], first[t, b:b + 1])
            np.testing.assert_allclose(together[b], action[0], atol=1e-6)


def test_a_policy_forgets_what_was_before_the_reset(pretrained) -> None:
    policy = crl.Run(pretrained, coloured(*OLD)).policy("corner-0")
    rng = np.random.default_rng(0)
    past = policy.initial_state(1)
    for _ in range(5):
        _, past = policy.step(rng.normal(size=(1, 3)).astype(np.float32), past, np.array([False]))
    obs = rng.normal(size=(1, 3)).astype(np.float32)
    anew, _ = policy.step(obs, past, np.array([True]))
    fresh, _ = policy.step(obs, policy.initial_state(1), np.array([True]))
    assert np.array_equal(anew, fresh)


def test_returns_to_come_fall_by_the_rewards_that_came(tmp_path) -> None:
    """Rewards are the last number of an observation, and the policy keeps the account."""
    def make(render_mode: str | None = None) -> ObserveReward:
        return ObserveReward(Coloured(0))

    stream, env = TaskStream([Task("corner-0", make, 3, 0)]), make()
    recorded = expert(0)
    seen = np.insert(recorded.rewards.reshape(EPISODES, HORIZON), 0, 0, axis=1)
    shown = replace(recorded, obs=np.column_stack((recorded.obs, seen.ravel())))
    write_data(tmp_path / "data", "corner-0", "scripted", shown,
               ABOUT._replace(observation_space=env.observation_space))
    made = agent(stream, tmp_path / "data", returns=True)
    crl.train(made, stream, out=tmp_path / "run", **QUIET)
    policy, unit = made.policy(stream[0]), np.abs(recorded.rewards).max()
    obs, _ = env.reset(seed=0)
    state, first, rewards = policy.initial_state(1), np.array([True]), [0.0]
    for _ in range(5):
        action, state = policy.step(obs[None], state, first)
        _, to_go, reward, _, _ = state
        assert to_go[0, -1] == pytest.approx(
            np.quantile(recorded.returns, 0.9) / unit - sum(rewards) / unit, abs=1e-4)
        assert reward[0, -1] == pytest.approx(rewards[-1] / unit, abs=1e-5)
        obs, got, _, _, _ = env.step(action[0])
        rewards.append(got)
        first = np.array([False])
    assert len(made.parts["model"].module.backbone.rewards) == 2


@pytest.mark.parametrize("phase", ["pre-training", "stream"])
def test_resume_is_bit_identical(phase, pretrained, data, tmp_path) -> None:
    stream = coloured(*NEW, steps=12)
    settings = {} if phase == "pre-training" else {"pretrained": str(pretrained)}

    class StoppedError(Exception):
        pass

    def stop(progress: Any) -> None:
        if progress.env_step == 17:
            raise StoppedError

    often: dict[str, Any] = {"checkpoint_every": 5, "eval_every": 5, "eval_episodes": 1}
    whole = crl.train(agent(stream, data, **settings), stream, out=tmp_path / "whole", **often)
    with pytest.raises(StoppedError):
        crl.train(agent(stream, data, **settings), stream, out=tmp_path / "cut", watch=stop,
                  **often)
    cut = crl.resume(tmp_path / "cut", stream)
    one, other = whole.checkpoint()["agent"], cut.checkpoint()["agent"]
    for name, array in one["parts"]["model"].items():
        assert np.array_equal(array, other["parts"]["model"][name]), name
    assert whole.evals()["return"].tolist() == cut.evals()["return"].tolist()


@pytest.mark.parametrize(("settings", "message"), [
    ({"data": "nowhere"}, "crl data"),
    ({"pretrained": "nowhere"}, "nowhere"),
    ({"window": 4, "pretrained": "it"}, "agent.window=3"),
    ({"bins": 1}, "bins must be above 1"),
    ({"size": "huge"}, "nano"),
])
def test_errors_say_what_to_type(settings, message, pretrained, data, tmp_path) -> None:
    settings = {"data": str(data), **settings}
    if settings.get("pretrained") == "it":
        settings["pretrained"] = str(pretrained)
    stream = coloured(2, steps=2)
    with pytest.raises(UserError, match=message):
        crl.train(crl.make_agent("l2m", stream, **{**TINY, **settings}), stream,
                  out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_returns_need_rewards_that_are_seen(data) -> None:
    stream = crl.make_stream("arm-plain")
    with pytest.raises(UserError, match=r"stream\.observe_reward=true"):
        crl.make_agent("l2m", stream, returns=True)


def test_records_that_changed_meanwhile_are_refused(data, tmp_path) -> None:
    stream = coloured(0, steps=4)
    made = agent(stream, data)
    made.attach([])
    made.begin_task(stream[0])
    tree = made.state_dict()
    other = tmp_path / "data"
    write_data(other, "corner-0", "scripted", expert(0, 5), ABOUT)
    again = agent(stream, other)
    again.attach([])
    again.load_state_dict(tree)
    with pytest.raises(UserError, match="not the one that this run began with"):
        again.update()
