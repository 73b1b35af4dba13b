"""A bundle's manifest: what may stand in it, and reading one that may be anything.

``manifest.schema.json`` is the definition; it is what is checked here. Of JSON Schema, it uses the
words that :func:`_check` knows, and no others.
"""

from __future__ import annotations

import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

Manifest = dict[str, Any]
LARGEST = 2**24  # bytes of a manifest, and numbers of a state
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,),
    "number": (int, float), "boolean": (bool,), "null": (type(None),)}


class BundleError(ValueError):
    """A bundle is not what it should be; the message is one line that says where and how."""


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of version 1."""
    found: dict[str, Any] = json.loads(
        Path(__file__).with_name("manifest.schema.json").read_text(encoding="utf-8"))
    return found


def read_manifest(content: bytes) -> Manifest:
    """The manifest that bytes stand for.

    Raises:
        BundleError: It is not JSON, does not follow the schema, or contradicts itself.
    """
    try:
        manifest: Manifest = json.loads(content.decode("utf-8"), parse_constant=_refuse,
                                        object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:  # of UTF-8 and of JSON
        reason = str(error).partition("\n")[0] or "it is nested too deeply"
        raise BundleError(f"manifest.json is not valid JSON: {reason[:200]}") from None
    _check(manifest, schema(), "manifest")
    _check_sense(manifest)
    return manifest


def _refuse(constant: str) -> Any:
    raise BundleError(f"{constant} is no number of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BundleError("a key stands twice")
    return found


def _require(condition: bool, where: str, message: str) -> None:
    if not condition:
        raise BundleError(f"manifest.json: {where} {message}")


def _check(value: Any, rule: dict[str, Any], where: str) -> None:
    """Raises ``BundleError`` unless a value follows a rule of the schema."""
    if "$ref" in rule:
        _check(value, schema()["$defs"][rule["$ref"].rpartition("/")[2]], where)
    if "const" in rule:
        _require(value == rule["const"], where, f"must be {rule['const']!r}")
    if "enum" in rule:
        _require(value in rule["enum"], where, f"must be one of {rule['enum']}")
    if "type" in rule:
        names = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
        allowed = tuple(cls for name in names for cls in _TYPES[name])
        fits = isinstance(value, allowed) and (bool in allowed or not isinstance(value, bool))
        _require(fits, where, f"must be of type {' or '.join(names)}")
    if isinstance(value, str):
        size = len(value)
        _require(rule.get("minLength", 0) <= size <= rule.get("maxLength", LARGEST), where,
                 f"has a length of {size}")
        _require(re.fullmatch(rule.get("pattern", "(?s).*"), value) is not None, where,
                 "has characters that may not stand there")
    elif isinstance(value, (int, float)):
        low, high = rule.get("minimum", -math.inf), rule.get("maximum", math.inf)
        _require(low <= value <= high and value > rule.get("exclusiveMinimum", -math.inf), where,
                 "is out of range")
    elif isinstance(value, list):
        size = len(value)
        _require(rule.get("minItems", 0) <= size <= rule.get("maxItems", LARGEST), where,
                 f"has {size} entries")
        for i, item in enumerate(value):
            _check(item, rule.get("items", {}), f"{where}[{i}]")
    elif isinstance(value, dict):
        _require(len(value) <= rule.get("maxProperties", LARGEST), where, "has too many entries")
        for name in rule.get("required", ()):
            _require(name in value, where, f"lacks {name!r}")
        for name, item in value.items():
            rest = rule.get("additionalProperties", {})
            inner = rule.get("properties", {}).get(name, rest)
            _require(inner is not False, where, f"must not have {name[:80]!r}")
            _check(item, inner, f"{where}.{name[:80]}")


def _check_sense(manifest: Manifest) -> None:
    """Raises ``BundleError`` where parts of a manifest that follows the schema do not fit."""
    action, state = manifest["action"], manifest["state"]
    for where, terms in (("observation", manifest["observation"]["terms"]),
                         ("action", action["terms"])):
        names = {term["name"] for term in terms}
        _require(len(names) == len(terms), where, "has two terms of one name")
        for term in terms:
            low, high = (-math.inf if term["low"] is None else term["low"],
                         math.inf if term["high"] is None else term["high"])
            _require(low < high or (where == "observation" and low == high),
                     f"{where} {term['name']!r}", "has bounds in the wrong order")
            _require(low <= term.get("safe", low) <= high, f"{where} {term['name']!r}",
                     "is not safe within its bounds")
    if action["kind"] == "discrete":
        _require(all((t["low"], t["high"], t["slew_per_s"]) == (0, 1, None)
                     for t in action["terms"]), "action", "is of choices, which go from 0 to 1")
        safe = sorted(term["safe"] for term in action["terms"])
        _require(safe[-1] == 1 and not any(safe[:-1]), "action", "must have one safe choice")
        _require(manifest["guard"]["decay_steps"] == 0, "guard", "cannot move between choices")
    tensors = ["observation", "action", *(one[k] for one in state for k in ("input", "output"))]
    _require(len(set(tensors)) == len(tensors), "state", "has two arrays of one name")
    numbers = sum(math.prod(one["shape"]) for one in state)
    _require(numbers <= LARGEST, "state", f"has {numbers} numbers")
