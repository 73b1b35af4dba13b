"""The replay of a run becomes the episodes that were played, step for step."""

from __future__ import annotations

import numpy as np
import pytest
from toy import Corner, corners

import crl
from crl.agents.recurrent_sac import RecurrentSAC
from crl.agents.sac import SAC
from crl.data import make_replay_data, read_data
from crl.data.replays import replay_episodes
from crl.stream import Task, TaskStream

SMALL = {"hidden": (8,), "start_steps": 40, "update_after": 1000, "reset": ()}


class Recorded:
    """The steps that an agent was told of, kept apart from its replay: a list an episode."""

    def __init__(self, monkeypatch, agent=SAC):
        self.episodes = []
        observe = agent.observe

        def record(agent, step):
            if step.first[0]:
                self.episodes.append([])
            self.episodes[-1].append(step)
            observe(agent, step)

        monkeypatch.setattr(agent, "observe", record)


def train(out, stream, **settings):
    agent = crl.make_agent("sac", stream, **{**SMALL, **settings})
    return crl.train(agent, stream, out=out, eval_episodes=1, eval_every=1000)


def equal(episodes, steps_of):
    """Whether episodes are those of recorded steps."""
    assert episodes.lengths.tolist() == [len(steps) for steps in steps_of]
    row = s = 0
    for steps, seed in zip(steps_of, episodes.seeds.tolist(), strict=True):
        env = Corner(0)
        assert np.array_equal(env.reset(seed=seed)[0], steps[0].obs[0])
        for step in steps:
            assert np.array_equal(episodes.obs[row : row + 2], (step.obs[0], step.next_obs[0]))
            assert np.array_equal(episodes.actions[s], step.action[0])  # in the task's units
            assert episodes.rewards[s] == step.reward[0]
            assert (episodes.terminated[s], episodes.truncated[s]) == (
                step.terminated[0], step.truncated[0])
            row, s = row + 1, s + 1
        row += 1
    once = [any(step.info[0]["success"] for step in steps) for steps in steps_of]
    assert episodes.successful.tolist() == once
    assert episodes.successful_at_end.tolist() == [
        steps[-1].info[0]["success"] for steps in steps_of]
    return any(once)


@pytest.mark.parametrize("settings", [
    {},                                          # all of it is there
    {"replay_size": 130},                        # the oldest rows are overwritten
    {"replay_size": 125},                        # down to the end of an episode
    {"multi_head": False},                       # heads do not tell the tasks
    {"reset": ("replay",), "replay_size": 200},  # the last task only
])
def test_episodes_are_those_that_were_played(settings, tmp_path, monkeypatch):
    recorded = Recorded(monkeypatch)
    # A budget of 110 cuts the fifth episode of each task short.
    run = train(tmp_path / "run", corners(3, steps=110), **settings)
    episodes, tasks = replay_episodes(run, run.checkpoint())
    room = 110 if "reset" in settings else settings.get("replay_size", 10_000)
    kept, held = [], 0
    for number, steps in reversed(list(enumerate(recorded.episodes))):
        held += len(steps)
        if held > room:
            break
        kept.insert(0, number)
    assert tasks.tolist() == [number // 5 for number in kept]
    equal(episodes, [recorded.episodes[number] for number in kept])


def test_successes_on_the_way_and_at_the_end(tmp_path, monkeypatch):
    class Easy(Corner):
        """Success near the middle, which is left again."""

        def step(self, action):
            obs, reward, terminated, truncated, info = super().step(action)
            info["success"] = bool(np.abs(self.position).max() < 0.5)
            return obs, reward, terminated, truncated, info

    recorded = Recorded(monkeypatch)
    stream = TaskStream([Task("easy", lambda render_mode=None: Easy(0), 500, 0)])
    run = train(tmp_path / "run", stream)
    episodes, _ = replay_episodes(run, run.checkpoint())
    assert equal(episodes, recorded.episodes)
    on_the_way = episodes.successful & ~episodes.successful_at_end
    assert on_the_way.any()
    assert episodes.successful_at_end.any()


def test_a_set_of_each_task_and_one_for_both_visits(tmp_path, monkeypatch):
    recorded = Recorded(monkeypatch)
    tasks = [Task(name, corners(2)[corner].make, 50, head)
             for head, (name, corner) in enumerate([("a", 0), ("b", 1), ("a@2", 0)])]
    run = train(tmp_path / "run", TaskStream(tasks))
    made = make_replay_data(run, tmp_path / "data")
    assert [(m.task, m.episodes, m.steps) for m in made] == [("a", 4, 100), ("b", 2, 50)]
    equal(read_data(tmp_path / "data", "a", run.stream, kind="replay"),
          recorded.episodes[:2] + recorded.episodes[4:])
    equal(read_data(tmp_path / "data", "b"), recorded.episodes[2:4])
    again = make_replay_data(run, tmp_path / "data")
    assert [m._replace(seconds=None) for m in made] == again
    other = train(tmp_path / "other", TaskStream(tasks))
    with pytest.raises(crl.UserError, match="was made with run run, not other"):
        make_replay_data(other, tmp_path / "data")


def test_errors(tmp_path):
    run = train(tmp_path / "run", corners(1, steps=100), replay_size=20)
    with pytest.raises(crl.UserError, match="holds no whole episode"):
        make_replay_data(run, tmp_path / "data")
    run = train(tmp_path / "good", corners(1, steps=100))
    tree = run.checkpoint()
    columns = tree["agent"]["replay"]["columns"]
    for name, row in (("last", 24), ("last", 30), ("obs", 40), ("next_obs", 60)):
        kept = columns[name].copy()
        columns[name][row] = ~kept[row] if name == "last" else kept[row] + 1
        with pytest.raises(crl.UserError, match=r"is not of the episodes in its train\.csv"):
            replay_episodes(run, tree)
        columns[name][:] = kept
    assert len(replay_episodes(run, tree)[0]) == 4
    agent = crl.make_agent("recurrent-sac", corners(1, steps=50))
    assert isinstance(agent, RecurrentSAC)
    run = crl.train(agent, corners(1, steps=50), out=tmp_path / "other", eval_episodes=1)
    with pytest.raises(crl.UserError, match=r"'recurrent-sac' .* add --policy"):
        make_replay_data(run, tmp_path / "data")
    assert not (tmp_path / "data").exists()
