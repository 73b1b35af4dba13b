"""Frozen dataclasses ↔ plain dictionaries ↔ what a user typed.

A configuration is a frozen dataclass of plain values. :func:`build` makes one from a dictionary and
checks every name and type; :func:`parse_value` reads one value from the command line.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from crl.errors import UserError, unknown

T = TypeVar("T")
_TOO_LARGE = 2**63  # for NumPy, torch and everything else that is not Python itself
_LONGEST_SHOWN = 80


def build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Makes the dataclass ``cls`` from ``values``; anything missing keeps its default.

    Args:
        cls: A dataclass of plain values: bool, int, float, str, None, tuples of them, Literals.
        values: Field name → value. Lists become tuples, ints become floats where a float is due.
        where: The prefix under which the user knows these fields, such as ``"agent"``.

    Raises:
        UserError: Unknown field, or a value of the wrong type or out of range.
    """
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    checked = {}
    for name, value in values.items():
        if name not in fields:
            raise unknown(f"setting of {where}", name, fields)
        checked[name] = convert(value, hints[name], f"{where}.{name}")
    try:
        return cls(**checked)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except TypeError:
        required = [f.name for f in fields.values() if f.name not in checked
                    and f.default is f.default_factory is dataclasses.MISSING]
        if not required:
            raise
        raise UserError(f"{where}: missing setting {required[0]!r}") from None


def convert(value: Any, hint: Any, name: str) -> Any:
    """``value`` as the type ``hint``, or a ``UserError`` that says what was expected."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        inner = [a for a in arguments if a is not type(None)]
        if len(inner) == 1:
            return convert(value, inner[0], name)
        for option in inner:
            with contextlib.suppress(UserError):
                return convert(value, option, name)
    elif origin is typing.Literal:
        if value in arguments and any(value is a or type(value) is type(a) for a in arguments):
            return value
        raise UserError(f"{name} must be {describe(hint)}, got {_shown(value)}")
    elif origin is tuple:
        if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
            value = (value,)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(convert(v, arguments[0], name) for v in value)
    elif origin is dict:
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {key: convert(v, arguments[1], f"{name}.{key}") for key, v in value.items()}
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # a whole number above 1e308
            if math.isfinite(value):
                return float(value)
    elif hint is bool or isinstance(value, bool):
        if hint is bool and isinstance(value, bool):
            return value
    elif hint is int and isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)  # 1e5 is a whole number to whoever types it
    elif hint is int and isinstance(value, int) and abs(value) >= _TOO_LARGE:
        raise UserError(f"{name} must be a whole number below 2**63, got {_shown(value)}")
    elif isinstance(hint, type) and isinstance(value, hint):
        return value
    raise UserError(f"{name} must be {describe(hint)}, got {_shown(value)}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"


def describe(hint: Any) -> str:
    """A type in a user's words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(a) for a in arguments)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is tuple:
        return f"a list such as [a, b], each {describe(arguments[0])}"
    if origin is dict:
        return 'options such as {"name": 1}'
    words = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a word",
             type(None): "null"}
    return words.get(hint, str(hint))


def parse_value(text: str) -> Any:
    """The value that a user means by ``text``: JSON where it parses, else the text itself."""
    if text in ("None", "True", "False"):
        return {"None": None, "True": True, "False": False}[text]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # also a number of thousands of digits, a thousand [[[
        pass
    inner = text.strip("()[]")
    if "," in inner or (inner and text[0] in "([" and text[-1] in ")]"):
        return [parse_value(part.strip()) for part in inner.split(",") if part.strip()]
    try:
        return float(text) if text.isascii() else text  # .5 and 1e-4. are numbers, but not JSON
    except ValueError:
        return text


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as JSON-ready plain values (tuples become lists)."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def require(condition: bool, message: str) -> None:
    """Raises ``UserError(message)`` unless ``condition`` holds; for ``__post_init__`` checks."""
    if not condition:
        raise UserError(message)


def require_positive(settings: Any, *names: str) -> None:
    """Raises ``UserError`` unless the fields of these names are above 0."""
    for name in names:
        value = getattr(settings, name)
        require(value > 0, f"{name} must be above 0, got {value}")


def require_not_negative(settings: Any, *names: str) -> None:
    """Raises ``UserError`` unless the fields of these names are from 0."""
    for name in names:
        value = getattr(settings, name)
        require(value >= 0, f"{name} must not be negative, got {value}")


def require_whole(name: str, value: Any, *, least: Literal[0, 1]) -> None:
    """Raises ``UserError`` unless ``value``, which users know as ``name``, is an int ≥ least."""
    require(isinstance(value, int) and not isinstance(value, bool) and value >= least,
            f"{name} must be a whole number {'above' if least else 'from'} 0, got {value!r}")
