"""Tasks and streams of tasks: what an agent is trained on, in which order and for how long."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, SupportsFloat, overload

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from crl import config
from crl.errors import UserError, unknown

Env = gymnasium.Env[Any, Any]
_NAME = re.compile(r"\w[\w.@+-]*(/\w[\w.@+-]*)?")


@dataclass(frozen=True)
class Task:
    """One task of a stream.

    Attributes:
        name: Unique in its stream, such as ``"push-v3"``; names files, rows and options.
        make: ``make(render_mode=None)`` → a Gymnasium environment, seeded by ``reset(seed=…)``. An
            episode must depend on that seed and the actions alone, and must end by itself. To be
            trained on Ray workers it must be picklable: a module-level function or a ``partial``.
        steps: Training budget in environment steps.
        head: The identity that multi-head agents give the task: 0, 1, 2 …
    """

    name: str
    make: Callable[..., Env]
    steps: int
    head: int

    def __post_init__(self) -> None:
        config.require(bool(_NAME.fullmatch(self.name)),
                       f"task name {self.name!r} must be a word of letters, digits and . _ - + @, "
                       "such as 'push-v3'")
        config.require(callable(self.make), f"task {self.name!r}: make must be a function "
                       "that returns a Gymnasium environment")
        config.require_whole(f"task {self.name!r}: steps", self.steps, least=1)
        config.require_whole(f"task {self.name!r}: head", self.head, least=0)


@dataclass(frozen=True)
class StreamOptions:
    """What a user may set on a stream known by name.

    Attributes:
        steps_per_task: Training budget of each task in environment steps; None: the stream's own.
        horizon: Steps after which an episode is truncated; None: the task's own (Meta-World: 200).
        partially_observable: Hide the goal from the observation (Meta-World only).
        goal_shown: Observations at the start of an episode that show the hidden goal all the same.
        hide_velocities: Take velocities out of the observation; of Meta-World's, the frame before.
        unify: Let robots of different kinds be in one stream: observations of each width have
            entries of their own, the others being 0; actions are in [-1, 1], as many as the widest.
        observe_reward: Append the reward of the step before to the observation.
        frame_stack: Observations that an agent sees at once, the newest among them.
        boundaries: ``"known"``, or ``"hidden"``: agents are not told when a task begins.
    """

    steps_per_task: int | None = None
    horizon: int | None = None
    partially_observable: bool = False
    goal_shown: int = 0
    hide_velocities: bool = False
    unify: bool = False
    observe_reward: bool = False
    frame_stack: int = 1
    boundaries: Literal["known", "hidden"] = "known"

    def __post_init__(self) -> None:
        config.require(self.frame_stack > 0,
                       f"frame_stack must be a whole number above 0, got {self.frame_stack}")
        config.require(self.goal_shown >= 0, "goal_shown must be a whole number from 0, got "
                       f"{self.goal_shown}")
        config.require(self.partially_observable or not self.goal_shown,
                       "goal_shown is of a hidden goal; set partially_observable to true")
        for field in ("steps_per_task", "horizon"):
            value = getattr(self, field)
            config.require(value is None or value > 0,
                           f"{field} must be a whole number above 0, got {value}")


class TaskStream(Sequence[Task]):
    """An immutable sequence of tasks with one observation space and one action space.

    ``stream[0]`` and ``stream["push-v3"]`` both give a :class:`Task`.

    Args:
        tasks: At least one task; names are unique.
        name: Short name for tables and pictures.
        protocol: A versioned string that fixes everything a score depends on except the agent. Two
            results may be compared only if theirs are equal. Default: made from names, steps and
            heads.
        boundaries: ``"known"``: the agent is told when a task begins; ``"hidden"``: it is not.
        options: What :func:`make_stream` needs to make this stream again; None for a stream that
            only the caller's code can make.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        name: str = "custom",
        protocol: str | None = None,
        boundaries: Literal["known", "hidden"] = "known",
        options: dict[str, Any] | None = None,
    ) -> None:
        self._tasks = tuple(tasks)
        config.require(len(self._tasks) > 0, "a stream needs at least one task")
        names = [t.name for t in self._tasks]
        twice = sorted({n for n in names if names.count(n) > 1})
        config.require(not twice, f"task names must be unique in a stream; {twice} stand twice: "
                       "write 'push-v3@2' for a second visit")
        config.require(boundaries in ("known", "hidden"),
                       f"boundaries must be 'known' or 'hidden', got {boundaries!r}")
        self.name = name
        self.boundaries = boundaries
        self.options = options
        entries = ",".join(f"{t.name}:{t.steps}:{t.head}" for t in self._tasks)
        self.protocol = protocol or f"custom-v1:{entries}:{boundaries}"

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks)

    @overload
    def __getitem__(self, key: int | str) -> Task: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Task, ...]: ...
    def __getitem__(self, key: int | str | slice) -> Task | tuple[Task, ...]:
        if isinstance(key, str):
            return self._tasks[self.index(key)]
        return self._tasks[key]

    def __contains__(self, task: object) -> bool:
        """Whether a task, or a task of that name, is in the stream."""
        return task in self._tasks or any(t.name == task for t in self._tasks)

    def index(self, task: Any, start: int = 0, stop: int | None = None) -> int:
        """The position of a task, given the task or its name; ``UserError`` if it is not here."""
        name = task.name if isinstance(task, Task) else task
        for position, candidate in enumerate(self._tasks):
            if candidate.name == name:
                return position
        raise unknown("task", name, [t.name for t in self._tasks], f"stream {self.name!r}")

    @cached_property
    def _spaces(self) -> tuple[Box, Box | Discrete]:
        env = make_env(self._tasks[0])
        try:
            return check_spaces(env, self._tasks[0].name)
        finally:
            env.close()

    @property
    def observation_space(self) -> Box:
        """The space every task's observations lie in: a 1-D Box."""
        return self._spaces[0]

    @property
    def action_space(self) -> Box | Discrete:
        """The space every task's actions lie in: a bounded 1-D Box, or Discrete."""
        return self._spaces[1]

    @property
    def heads(self) -> int:
        """The number of heads that a multi-head agent needs."""
        return 1 + max(t.head for t in self._tasks)

    @property
    def steps(self) -> int:
        """Environment steps of the whole stream."""
        return sum(t.steps for t in self._tasks)

    def make(self, task: Task, render_mode: str | None = None) -> Env:
        """Makes a task's environment and checks that its spaces are the stream's."""
        env = make_env(task, render_mode)
        try:
            observation, action = check_spaces(env, task.name)
            for kind, own, common in (("observation", observation, self.observation_space),
                                      ("action", action, self.action_space)):
                if own.shape != common.shape:
                    raise UserError(f"task {task.name!r} has {kind}s of shape {own.shape}, the "
                                    f"first task of the stream {common.shape}; all must have one "
                                    "shape, which --set stream.unify=true gives them")
            # Agents scale to actions' bounds; those of observations may differ.
            if not _alike(action, self.action_space):
                advice = (" bounds: wrap it in gymnasium.wrappers.RescaleAction"
                          if isinstance(action, Box) else "")
                raise UserError(f"task {task.name!r} has actions {action}, the first task of the "
                                f"stream {self.action_space}; all must have the same{advice}")
        except UserError:
            env.close()
            raise
        return env

    def as_env(self) -> StreamEnv:
        """One Gymnasium environment that moves through the tasks by itself."""
        return StreamEnv(self)

    def __repr__(self) -> str:
        return f"TaskStream({self.name!r}: {', '.join(t.name for t in self._tasks)})"


def make_env(task: Task, render_mode: str | None = None) -> Env:
    """Makes a task's environment; ``UserError`` if something that it needs is not installed."""
    try:
        return task.make(render_mode=render_mode)
    except (gymnasium.error.Error, ImportError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"task {task.name!r} cannot be made here: {reason}") from error


def check_spaces(env: Env, name: str) -> tuple[Box, Box | Discrete]:
    """The environment's spaces, or a ``UserError`` if no agent here could use them."""
    observation, action = env.observation_space, env.action_space
    if not (isinstance(observation, Box) and len(observation.shape) == 1):
        raise UserError(f"task {name!r} has observations {observation}; expected a flat Box: "
                        "wrap it in gymnasium.wrappers.FlattenObservation")
    if isinstance(action, Discrete) and action.start == 0:
        return observation, action
    if not (isinstance(action, Box) and len(action.shape) == 1 and action.is_bounded()):
        raise UserError(f"task {name!r} has actions {action}; expected a flat Box with bounds, or "
                        "Discrete(n); type 'crl list tasks'")
    return observation, action


def _alike(one: Box | Discrete, other: Box | Discrete) -> bool:
    if isinstance(one, Box) and isinstance(other, Box):
        return (np.array_equal(one.low, other.low) and np.array_equal(one.high, other.high))
    return one == other


def step_env(env: Env, action: np.ndarray[Any, Any]
             ) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
    """Steps with an agent's action [act]: a vector, or where the largest number stands."""
    return env.step(int(action.argmax()) if isinstance(env.action_space, Discrete) else action)


class StreamEnv(gymnasium.Env[Any, Any]):
    """A stream as one environment: each task for its budget of steps, then the next.

    When a task's budget is spent the episode is truncated, and the next ``reset`` begins the next
    task; the last task goes on for as long as it is stepped. ``info["task"]`` names the task and
    ``info["task_index"]`` gives its position.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  (Gymnasium's own attribute)

    def __init__(self, stream: TaskStream) -> None:
        self.stream = stream
        self.observation_space = stream.observation_space
        self.action_space = stream.action_space
        self.task_index = 0
        self._steps_in_task = 0
        self._env: Env | None = None

    @property
    def _labels(self) -> dict[str, Any]:
        return {"task": self.stream[self.task_index].name, "task_index": self.task_index}

    @property
    def _budget_spent(self) -> bool:
        return self._steps_in_task >= self.stream[self.task_index].steps

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if self._budget_spent and self.task_index + 1 < len(self.stream):
            self.close()
            self.task_index += 1
            self._steps_in_task = 0
        if self._env is None:
            self._env = self.stream.make(self.stream[self.task_index])
        # Every episode gets a seed of its own, so that it depends on nothing before it.
        episode_seed = int(self.np_random.integers(2**31)) if seed is None else seed
        obs, info = self._env.reset(seed=episode_seed, options=options)
        return obs, {**info, **self._labels}

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        if self._env is None:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        obs, reward, terminated, truncated, info = self._env.step(action)
        self._steps_in_task += 1
        last = self.task_index + 1 == len(self.stream)
        truncated = truncated or (self._budget_spent and not last)
        return obs, reward, terminated, truncated, {**info, **self._labels}

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None


def space_bounds(space: Box) -> tuple[np.ndarray, np.ndarray]:
    """The bounds of a Box as float32 arrays."""
    return space.low.astype(np.float32), space.high.astype(np.float32)
