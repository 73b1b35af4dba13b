"""Tasks that need memory: an oracle solves them, guessing gives what chance gives."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import crl
from crl.envs.memory_tasks import MemoryLength, MemoryTask, RepeatPrevious, TMaze

MADE = [lambda: TMaze(7), lambda: MemoryLength(6), lambda: MemoryLength(6, bits=2, actions=4),
        lambda: RepeatPrevious(4)]


def play(env: MemoryTask, choose, seed: int) -> tuple[list[np.ndarray], list[float], bool]:
    """Observations, rewards, and whether the last step was a success; ``choose`` sees them all."""
    obs, _ = env.reset(seed=seed)
    seen, rewards, over = [obs], [], False
    while not over:
        obs, reward, over, truncated, info = env.step(choose(env, seen))
        assert not truncated
        seen.append(obs)
        rewards.append(reward)
    return seen, rewards, info["success"]


def oracle(env: MemoryTask, seen) -> int:
    if isinstance(env, TMaze):
        return (1 if seen[0][1] == 1 else 3) if seen[-1][2] else 0
    if isinstance(env, MemoryLength):
        return int(seen[0][2 + int(seen[-1][1])] == 1)
    return int(seen[max(0, len(seen) - env.k)].argmax())


def guess(env: MemoryTask, seen) -> int:
    """The oracle's way, but for what it remembers."""
    draw = int(env.np_random.integers(env.action_space.n))
    if isinstance(env, TMaze):
        return (1 + 2 * (draw % 2)) if seen[-1][2] else 0
    return draw


@pytest.mark.parametrize("make", MADE)
def test_they_are_environments(make):
    check_env(make(), skip_render_check=True)


@pytest.mark.parametrize("make", MADE)
def test_remembering_solves_them(make):
    env = make()
    for seed in range(20):
        seen, rewards, success = play(env, oracle, seed)
        assert success
        assert sum(rewards) == pytest.approx(1)
        assert len(rewards) == env.horizon == len(seen) - 1


@pytest.mark.parametrize("make", MADE)
def test_guessing_gives_what_chance_gives(make):
    env = make()
    episodes = [play(env, guess, seed) for seed in range(400)]
    assert np.mean([e[2] for e in episodes]) == pytest.approx(env.chance, abs=0.08)
    expected = {TMaze: 0.5, RepeatPrevious: -0.5}.get(type(env), 2 * env.chance - 1)
    assert np.mean([sum(e[1]) for e in episodes]) == pytest.approx(expected, abs=0.12)


@pytest.mark.parametrize("make", MADE[:2])
def test_the_answer_is_as_far_from_the_question_as_the_correlation_horizon_says(make):
    """Episodes that differ in what must be remembered only look the same for ξ − 1 observations."""
    env = make()
    shown = {}
    for seed in range(30):
        seen, _, _ = play(env, oracle, seed)
        clue = seen[0][1 if isinstance(env, TMaze) else 2]
        shown.setdefault(float(clue), []).append(np.array(seen[:-1]))
    assert sorted(shown) == [-1, 1]
    hidden = {clue: np.array(e)[:, 1:, [0, 2] if isinstance(env, TMaze) else [0, 1]]
              for clue, e in shown.items()}
    assert np.array_equal(hidden[-1][0], hidden[1][0])  # but for the T-Maze's noise
    assert hidden[1].shape[1] == env.correlation_horizon - 1


def test_repeat_previous_asks_for_the_suit_of_xi_minus_one_steps_before():
    env = RepeatPrevious(4)
    seen, _, _ = play(env, oracle, 0)
    for shift, earns in ((2, False), (3, True), (4, False)):
        _, rewards, _ = play(env, lambda env, s, shift=shift: int(
            s[max(0, len(s) - 1 - shift)].argmax()), 0)
        assert (sum(rewards) == pytest.approx(1)) == earns
    assert env.correlation_horizon == 4
    assert np.array(seen[:-1]).sum(0).tolist() == pytest.approx([13] * 4, abs=1)  # a deck


def test_a_t_maze_rewards_walking_and_has_no_time_to_waste():
    env = TMaze(5)
    _, rewards, success = play(env, lambda env, seen: 2 if len(seen) == 1 else oracle(env, seen), 0)
    assert rewards == pytest.approx([-0.2] * 5 + [0])  # one step back is never made up for
    assert not success
    assert [round(r, 6) for r in play(env, oracle, 0)[1]] == [0] * 5 + [1]


def test_noise_differs_between_steps_and_seeds_make_episodes():
    env = TMaze(30)
    seen = [np.array(play(env, oracle, seed)[0]) for seed in (0, 0, 1)]
    assert np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0], seen[2])
    assert set(seen[0][:, 3]) == {-1, 0, 1}


@pytest.mark.parametrize(("name", "horizon"), [
    ("t-maze-100", 101), ("memory-length-30", 31), ("memory-query-10", 11),
    ("repeat-previous-easy", 51), ("repeat-previous-medium", 103), ("repeat-previous-hard", 155)])
def test_names(name, horizon):
    stream = crl.make_stream(name, steps_per_task=100)
    assert stream.make(stream[0]).unwrapped.horizon == horizon


@pytest.mark.parametrize("name", ["t-maze", "t-maze-0", "t-maze-x", "repeat-previous-huge"])
def test_names_of_nothing(name):
    with pytest.raises(crl.UserError, match="unknown"):
        crl.make_stream(name)
