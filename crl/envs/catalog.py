"""Names → streams and tasks: registered streams, tasks of ours, and any Gymnasium id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import gymnasium
from gymnasium.envs.registration import load_env_creator

from crl import config, registry
from crl.envs.arm_tasks import ARM_TASKS, HIDDEN_ARM_TASKS
from crl.envs.dynamic_tasks import DYNAMIC_TASKS, make_task
from crl.envs.hcrl_tasks import HCRL_TASKS
from crl.envs.memory_names import EXAMPLES, memory_task
from crl.envs.metaworld_tasks import TASKS
from crl.envs.popgym_tasks import POPGYM_TASKS
from crl.envs.popgym_tasks import make as make_popgym_task
from crl.errors import UserError, unknown
from crl.stream import Env, StreamOptions, Task, TaskStream

if TYPE_CHECKING:
    from crl.envs.unified import Place

DEFAULT_STEPS = 100_000
ARMS = (*ARM_TASKS, *HIDDEN_ARM_TASKS)
_META_WORLD_ONLY = "partially_observable works on Meta-World tasks, not on {!r}"


def make_stream(name: str, **options: Any) -> TaskStream:
    """Makes a stream from its name.

    Args:
        name: A registered name (``crl list streams``) or a comma-separated list of task names
            (``crl list tasks``, or any Gymnasium id), such as ``"push-v3,window-close-v3"``.
        **options: Fields of :class:`StreamOptions`.

    Raises:
        UserError: Unknown name, unknown option, or a value out of range.
    """
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"a stream's name must be a word such as 'quick3', got {name!r}")
    checked = config.build(StreamOptions, options, "stream")
    if name in registry.streams:
        stream: TaskStream = registry.streams.load(name)(name, checked)
    else:
        stream = stream_of(name, [part.strip() for part in name.split(",")], checked)
    stream.options = {"name": name, **config.to_dict(checked)}
    return stream


def stream_of(
    name: str,
    tasks: Sequence[str],
    options: StreamOptions,
    *,
    steps: int = DEFAULT_STEPS,
    label: str | None = None,
) -> TaskStream:
    """A stream of the named tasks, in this order; a task that comes again gets a head of its own.

    Args:
        name: The stream's name.
        tasks: Task names; a name that comes for the k-th time is called ``name@k``.
        options: What the user set.
        steps: Steps per task where the user set none.
        label: The versioned name that the protocol starts with; default: a list of tasks.
    """
    steps = options.steps_per_task or steps
    seen: dict[str, int] = {}
    entries, where = [], _places(tasks, options)
    for head, task in enumerate(tasks):
        seen[task] = seen.get(task, 0) + 1
        unique = task if seen[task] == 1 else f"{task}@{seen[task]}"
        make = partial(_make, maker(task, options), task, options, where.get(task))
        entries.append(Task(unique, make, steps, head))
    protocol = ":".join([
        label or "tasks-v1," + ",".join(tasks),
        f"steps={steps}",
        f"horizon={options.horizon or 'default'}",
        *(["goal=hidden"] if options.partially_observable else []),
        *([f"shown={options.goal_shown}"] if options.goal_shown else []),
        *(["velocities=hidden"] if options.hide_velocities else []),
        *(["spaces=unified"] if options.unify else []),
        *(["reward=observed"] if options.observe_reward else []),
        *([f"frames={options.frame_stack}"] if options.frame_stack > 1 else []),
        *(["boundaries=hidden"] if options.boundaries == "hidden" else []),
    ])
    return TaskStream(entries, name=name, protocol=protocol, boundaries=options.boundaries)


def maker(task: str, options: StreamOptions) -> Callable[..., Env]:
    """``make(render_mode=None)`` for a task's name; ``UserError`` if there is no such task."""
    found = memory_task(task)
    if found or task in POPGYM_TASKS:
        config.require(options.horizon is None,
                       f"the horizon of {task!r} is what its name says; leave stream.horizon out")
        config.require(not options.partially_observable, _META_WORLD_ONLY.format(task))
        return (partial(_make_memory_task, *found) if found else
                partial(make_popgym_task, task))
    if task in TASKS:
        hidden = options.partially_observable and not options.goal_shown
        return partial(_make_metaworld, task, options.horizon, hidden)
    ours = (*ARMS, *HCRL_TASKS, *DYNAMIC_TASKS)
    if options.partially_observable and (task in ours or task in gymnasium.registry):
        raise UserError(_META_WORLD_ONLY.format(task))
    if task in ARMS:
        return partial(_make_arm, task, options.horizon)
    if task in HCRL_TASKS:
        return partial(_make_hcrl, task, options.horizon)
    if task in DYNAMIC_TASKS:
        return partial(make_task, task, options.horizon)
    if task in gymnasium.registry:
        return partial(_make_gymnasium, task, options.horizon)
    others = (name for name in gymnasium.registry if not name.startswith("crl/"))  # TASKS again
    known = [*registry.streams.names(), *ours, *TASKS, *EXAMPLES, *POPGYM_TASKS, *others]
    raise unknown("stream or task", task, known, "type 'crl list streams' or 'crl list tasks'")


def _places(tasks: Sequence[str], options: StreamOptions) -> dict[str, Place]:
    """Where the numbers of each task's robot are in those of all; empty if each is by itself."""
    if not options.unify:
        return {}
    from crl.envs.unified import places

    return places(tasks, lambda task: _make(maker(task, options), task, replace(
        options, unify=False, observe_reward=False, frame_stack=1), None))


def _make(make: Callable[..., Env], name: str, options: StreamOptions, place: Place | None,
          render_mode: str | None = None) -> Env:
    """An environment, and around it what the user wants it to show."""
    from crl.envs import unified, views

    env = make(render_mode=render_mode)
    if options.goal_shown:
        env = views.HideGoal(env, options.goal_shown)
    if options.hide_velocities:
        env = views.HideVelocities(env, name)
    if place is not None:
        env = unified.Unified(env, place)
    if options.observe_reward:
        env = views.ObserveReward(env)
    return env if options.frame_stack == 1 else views.stack_frames(env, options.frame_stack)


def _make_metaworld(
    task: str, horizon: int | None, partially_observable: bool, render_mode: str | None = None
) -> Env:
    from crl.envs.metaworld import MetaworldEnv

    options: dict[str, Any] = {} if horizon is None else {"horizon": horizon}
    return MetaworldEnv(task, render_mode=render_mode, partially_observable=partially_observable,
                        **options)


def _make_memory_task(cls: str, arguments: tuple[int, ...], render_mode: str | None = None) -> Env:
    from crl.envs import memory_tasks

    env: Env = getattr(memory_tasks, cls)(*arguments)
    return env


def _make_arm(task: str, horizon: int | None, render_mode: str | None = None) -> Env:
    from crl.envs.arm import ArmEnv
    from crl.envs.hidden_arm import HiddenArmEnv

    options: dict[str, Any] = {} if horizon is None else {"horizon": horizon}
    if task in HIDDEN_ARM_TASKS:
        return HiddenArmEnv(HIDDEN_ARM_TASKS[task], render_mode=render_mode, **options)
    return ArmEnv(*ARM_TASKS[task], render_mode=render_mode, **options)


def _make_hcrl(task: str, horizon: int | None, render_mode: str | None = None) -> Env:
    target, arguments = HCRL_TASKS[task]
    options = {} if horizon is None else {"horizon": horizon}
    return cast(Env, load_env_creator(target)(**arguments, **options, render_mode=render_mode))


def _make_gymnasium(task: str, horizon: int | None, render_mode: str | None = None) -> Env:
    env: Env = gymnasium.make(task, max_episode_steps=horizon, render_mode=render_mode,
                         disable_env_checker=True)
    limit = env.spec.max_episode_steps if env.spec else None
    if limit is None:
        env.close()
        raise UserError(f"task {task!r} has no time limit; set one with --set stream.horizon=1000")
    return env
