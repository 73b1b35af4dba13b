"""Constructors of Stable-Baselines3's algorithms as configurations of plain values."""

from __future__ import annotations

import functools
import inspect
import operator
import types
import typing
from dataclasses import field, make_dataclass
from typing import Any, Literal

_PLAIN = (bool, int, float, str, types.NoneType)
# What the agent sets itself, what keeps a run from being resumed (noise of use_sde is in no state),
# and what is given another form.
_LEFT_OUT = frozenset({
    "self", "policy", "env", "device", "seed", "verbose", "tensorboard_log", "stats_window_size",
    "_init_setup_model", "optimize_memory_usage", "use_sde", "sde_sample_freq",
    "use_sde_at_warmup", "action_noise", "policy_kwargs"})
Option = bool | int | float | str | tuple[int, ...] | dict[str, tuple[int, ...]]


def settings_of(algorithm: Any) -> type:
    """The dataclass of its constructor's arguments that are plain values, with their defaults.

    Besides them: ``policy_kwargs``; ``action_noise``, the standard deviation of Gaussian noise on
    actions that are scaled to [-1, 1]; and ``reset``: what begins anew at each task.
    """
    arguments = _arguments(algorithm)
    fields: list[Any] = [
        (argument.name, hint, field(default=argument.default))
        for argument in arguments.values()
        if argument.name not in _LEFT_OUT and (hint := _plain(argument))]
    if "action_noise" in arguments:
        fields.append(("action_noise", float | None, field(default=None)))
    fields += [("policy_kwargs", dict[str, Option], field(default_factory=dict)),
               ("reset", tuple[Literal["replay"], ...], field(default=("replay",)))]
    return make_dataclass(f"{algorithm.__name__}Config", fields, frozen=True)


def _arguments(algorithm: type) -> dict[str, inspect.Parameter]:
    """Of its constructor; where that hands on ``**others``, of those that it hands them to."""
    found: dict[str, inspect.Parameter] = {}
    for cls in algorithm.__mro__:
        if "__init__" in vars(cls):
            own = inspect.signature(vars(cls)["__init__"]).parameters
            found = {**own, **found}
            if all(argument.kind is not argument.VAR_KEYWORD for argument in own.values()):
                break
    return found


def _plain(argument: inspect.Parameter) -> Any:
    """What of an argument's type is plain values; None if nothing but None is."""
    hint = argument.annotation
    if isinstance(hint, str):  # not evaluated, and its names may be of type checkers only
        hint = type(argument.default)
    kept = [member for member in typing.get_args(hint) or (hint,) if member in _PLAIN]
    return functools.reduce(operator.or_, kept) if kept and kept != [types.NoneType] else None
