"""POPGym's tasks: all sixteen make streams; ours that is also theirs agrees with it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import crl
from crl.envs.memory_tasks import RepeatPrevious
from crl.envs.popgym_tasks import FAMILIES, POPGYM_TASKS
from crl.stream import step_env

SIZES = ("easy", "medium", "hard")


def walk(env, seed: int, steps: int) -> list[np.ndarray]:
    """What is seen and earned by the same random actions."""
    rng = np.random.default_rng(0)
    obs, _ = env.reset(seed=seed)
    seen = [np.asarray(obs, float)]
    for _ in range(steps):
        width = env.action_space.n if hasattr(env.action_space, "n") else 1
        obs, reward, ended, cut, _ = step_env(env, rng.uniform(-1, 1, width).astype(np.float32))
        seen.append(np.append(np.asarray(obs, float), reward))
        if ended or cut:
            break
    return seen


def test_there_are_sixteen_in_three_sizes():
    assert len(FAMILIES) == 16
    assert len(POPGYM_TASKS) == 48


@pytest.mark.parametrize("family", FAMILIES)
def test_an_episode_depends_on_its_seed_alone_and_ends(family):
    pytest.importorskip("popgym")
    stream = crl.make_stream(f"popgym-{family}-easy")
    one, two = stream.make(stream[0]), stream.make(stream[0])
    walk(two, 5, 7)  # another past
    first, second = walk(one, 3, 2000), walk(two, 3, 2000)
    assert len(first) == len(second) < 2000
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("size", SIZES)
def test_repeat_previous_is_theirs(size):
    """Their cards in our deck: the same rewards, at the same steps, for the same answers."""
    pytest.importorskip("popgym")
    name = f"repeat-previous-{size}"
    theirs, ours = (s.make(s[0]) for s in map(crl.make_stream, (f"popgym-{name}", name)))
    assert isinstance(ours.unwrapped, RepeatPrevious)
    rng = np.random.default_rng(0)
    cards, over, rewards = [np.argmax(theirs.reset(seed=0)[0])], False, []
    while not over:
        # Half of the answers right, so that both kinds are seen.
        k = ours.unwrapped.k
        known = len(cards) >= k and rng.random() < 0.5
        answer = int(cards[-k]) if known else int(rng.integers(4))
        obs, reward, over, _, _ = theirs.step(answer)
        rewards.append((answer, reward))
        cards.append(np.argmax(obs))
    ours.reset(seed=0)
    ours.unwrapped._cards = np.array(cards)
    over = False
    for i, (answer, reward) in enumerate(rewards):
        obs, own, over, _, _ = ours.step(answer)
        assert own == pytest.approx(reward)
        assert np.argmax(obs) == cards[i + 1]
    assert over


def test_agents_learn_them(tmp_path):
    pytest.importorskip("popgym")
    for agent in ("recurrent-sac", "recurrent-ppo"):
        stream = crl.make_stream("popgym-mine-sweeper-easy,popgym-mine-sweeper-easy",
                                 steps_per_task=60)
        run = crl.train(crl.make_agent(agent, stream, hidden=(8,)), stream, out=tmp_path / agent,
                        eval_episodes=1)
        assert run.status == "finished"


def test_without_popgym_it_says_what_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "popgym.envs", None)
    with pytest.raises(crl.UserError, match=r"pip install 'crl\[memory\]'"):
        crl.make_stream("popgym-autoencode-easy").observation_space  # noqa: B018


@pytest.mark.parametrize(("name", "options", "hint"), [
    ("popgym-autoencode-huge", {}, "popgym-autoencode-"),
    ("popgym-autoencode-easy", {"horizon": 10}, "leave stream.horizon out"),
    ("popgym-autoencode-easy", {"partially_observable": True}, "Meta-World"),
])
def test_what_cannot_be(name, options, hint):
    with pytest.raises(crl.UserError, match=hint):
        crl.make_stream(name, **options)
