"""Episodes to learn from: step by step as the agent learns, or round by round by its explorers.

A round is some episodes of one version of the agent's weights. An episode depends on these, its
task and its seed alone, so that a run is the same whoever plays it: this process or Ray workers,
however many, whatever dies meanwhile. Rounds that are played ahead, while earlier ones are learned
from, have weights that are as many rounds old.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from crl.agent import BoolArray, Explorer, ExploringAgent, FloatArray, Step, Taken
from crl.checkpoint import Tree
from crl.errors import UserError
from crl.evaluation import as_row, read_success
from crl.rollout import hung, known, play_in_worker, shares
from crl.stream import Env, Task, step_env
from crl.workers import Call, HungError, Workers


def play_steps(act: Callable[[FloatArray, BoolArray], FloatArray], env: Env, task: str, seed: int
               ) -> Generator[Step, None, None]:
    """An episode, step by step.

    Args:
        act: :meth:`Agent.act <crl.agent.Agent.act>`, or an explorer's.
        env: It is reset with the seed.
        task: The task's name, for messages.
        seed: Of the episode.

    Raises:
        UserError: The environment gave a reward or observation that is not finite.
    """
    obs = as_row(env.reset(seed=seed)[0])
    first, length, done = np.array([True]), 0, False
    while not done:
        action = act(obs, first)
        following, reward, terminated, truncated, info = step_env(env, action[0])
        next_obs = as_row(following)
        if not (np.isfinite(next_obs).all() and np.isfinite(float(reward))):
            raise UserError(f"task {task!r} gave a reward or observation that is not finite at "
                            f"step {length} of the episode with seed {seed}")
        yield Step(obs, action, np.array([reward], np.float32), next_obs,
                   np.array([bool(terminated)]), np.array([bool(truncated)]), first, [info])
        obs, first, length = next_obs, np.array([False]), length + 1
        done = bool(terminated or truncated)


class Fragment(NamedTuple):
    """An episode of n steps, as columns."""

    obs: FloatArray           # [n + 1, obs]
    action: FloatArray        # [n, act], as given to the environment
    reward: FloatArray        # [n]
    success: BoolArray        # [n]
    taken: FloatArray         # [n, act], the action as the agent sees it
    memory: FloatArray        # [n, …]; see crl.agent.Taken
    terminated: BoolArray     # [1]: whether its end was for good

    def steps(self) -> Iterator[Step]:
        """Its steps, for the agent whose explorer played it."""
        last = len(self.action) - 1
        for i in range(last + 1):
            here, over = slice(i, i + 1), np.array([i == last])
            yield Step(self.obs[here], self.action[here], self.reward[here],
                       self.obs[i + 1:i + 2], over & self.terminated, over & ~self.terminated,
                       np.array([i == 0]), [{"success": bool(self.success[i])}],
                       Taken(self.taken[i], self.memory[i]))


def play(explorer: Explorer, env: Env, task: str, seed: int) -> Fragment:
    """An episode of a copy of the explorer; arguments as of :func:`play_steps`."""
    acting = copy.deepcopy(explorer)  # what this one leaves in it is not the next one's
    acting.seed(seed)
    steps, taken = [], []
    for step in play_steps(acting.act, env, task, seed):
        steps.append(step)
        taken.append(acting.taken)
    return Fragment(
        np.concatenate([step.obs for step in steps] + [steps[-1].next_obs]),
        np.concatenate([step.action for step in steps]),
        np.concatenate([step.reward for step in steps]),
        np.array([read_success(step.info[0]) for step in steps]),
        np.array([each.action for each in taken]), np.array([each.memory for each in taken]),
        steps[-1].terminated)


class Collector:
    """Rounds of episodes of one task at a time, which it numbers as they are handed out.

    Args:
        workers: Who plays; they are within their ``with``.
        size: Episodes of a round.
        ahead: Rounds that are played ahead.
        seed_of: The seed of an episode by its number.
        limit_s: Seconds after which an episode counts as hung.
    """

    def __init__(self, workers: Workers, size: int, ahead: int, seed_of: Callable[[int], int],
                 limit_s: float) -> None:
        self._workers, self._size, self._ahead = workers, size, ahead
        self._seed_of, self._limit_s = seed_of, limit_s
        self._rounds: deque[_Round] = deque()
        self._next = 0

    def wait(self) -> None:
        """Until all that workers were given is played; errors as of :meth:`next_round`."""
        for each in self._rounds:
            each.played()

    def begin(self, number: int) -> None:
        """Forgets what was played ahead; the next episode has this number."""
        self.wait()  # rather than stop workers, who would have to begin anew
        self._rounds.clear()
        self._next = number

    def next_round(self, agent: ExploringAgent, task: Task, env: Env) -> Sequence[Fragment]:
        """The next round of the task.

        Args:
            agent: Whose explorers play.
            task: The task.
            env: Its environment in this process, if that plays.

        Raises:
            UserError: An episode has hung or was not finite, or workers died again and again.
        """
        while len(self._rounds) <= self._ahead:
            seeds = [self._seed_of(self._next + i) for i in range(self._size)]
            self._next += self._size
            explorer = agent.explorer()
            self._rounds.append(
                self._handed_out(explorer, task, seeds) if self._workers.count else
                _Round([play(explorer, env, task.name, seed) for seed in seeds]))
        return self._rounds.popleft().played()

    def _handed_out(self, explorer: Explorer, task: Task, seeds: Sequence[int]) -> _Round:
        shared = self._workers.put(explorer)
        calls = [(share, self._workers.submit(play_in_worker, play, shared, known(task), share))
                 for share in shares(seeds, self._workers.count)]
        return _Round([], calls, task.name, self._limit_s)

    def state_dict(self) -> Tree:
        """What was played ahead; waits for what is being played."""
        return {"next": self._next, "rounds": [[fragment._asdict() for fragment in each.played()]
                                               for each in self._rounds]}

    def load_state_dict(self, tree: Tree) -> None:
        """Puts back what :meth:`state_dict` gave."""
        self._next = tree["next"]
        self._rounds = deque(_Round([Fragment(**fragment) for fragment in each])
                             for each in tree["rounds"])


class _Round:
    """Fragments, after them those that calls are to bring, of seeds each."""

    def __init__(self, fragments: list[Fragment],
                 calls: Sequence[tuple[Sequence[int], Call[list[Fragment]]]] = (),
                 task: str = "", limit_s: float = 0.0) -> None:
        self._fragments, self._calls = fragments, deque(calls)
        self._task, self._limit_s = task, limit_s

    def played(self) -> Sequence[Fragment]:
        while self._calls:
            seeds, call = self._calls[0]
            try:
                self._fragments += call.result(self._limit_s * len(seeds))
            except HungError:
                raise hung(self._task, seeds, self._limit_s) from None
            self._calls.popleft()
        return self._fragments
