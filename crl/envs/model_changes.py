"""How a MuJoCo model is changed, and put back to the last bit."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

import mujoco
import numpy as np

from crl.envs.changes import Change
from crl.errors import UserError, unknown

# What MuJoCo derives from masses when it compiles a model.
_DERIVED = ("body_subtreemass", "body_invweight0", "dof_invweight0", "dof_M0", "tendon_invweight0",
            "actuator_acc0", "stat.meaninertia", "stat.meanmass")
_MASSES = ("body_mass", "body_inertia")
_FORCES = ("actuator_gainprm", "actuator_biasprm", "actuator_forcerange")


def _scale(fields: Sequence[str], model: Any, which: Any, value: float) -> None:
    for field in fields:
        getattr(model, field)[which] *= value


def _add_mass(model: Any, which: Any, value: float) -> None:
    model.body_mass[which] += value


def _scale_friction(model: Any, which: Any, value: float) -> None:
    model.geom_friction[which, 0] *= value
    chosen = np.zeros(model.ngeom, bool)
    chosen[which] = True
    pairs = chosen[model.pair_geom1] | chosen[model.pair_geom2]  # these have friction of their own
    model.pair_friction[pairs, :2] *= value


def _blow(model: Any, which: Any, value: float) -> None:
    model.opt.wind[which] += value


class _Effect(NamedTuple):
    """What a kind of change is on, the fields that it touches, and what writes a value there."""

    kind: str
    fields: tuple[str, ...]
    write: Callable[[Any, Any, float], None]


_EFFECTS: dict[str, _Effect] = {
    "mass": _Effect("body", (*_MASSES, *_DERIVED), partial(_scale, _MASSES)),
    "payload": _Effect("body", (*_MASSES, *_DERIVED), _add_mass),
    "friction": _Effect("geom", ("geom_friction", "pair_friction"), _scale_friction),
    "damping": _Effect("joint", ("dof_damping",), partial(_scale, ("dof_damping",))),
    "motor": _Effect("actuator", _FORCES, partial(_scale, _FORCES)),
    "wind": _Effect("axis", ("opt.wind",), _blow),
}
_COUNTS = {"body": "nbody", "geom": "ngeom", "joint": "njnt", "actuator": "nu"}

OF_MODELS = tuple(_EFFECTS)
"""The kinds of :class:`~crl.envs.changes.Change` that change a model."""


class ModelChanges:
    """Changes of one model, written together and undone together.

    Args:
        model: The compiled model.
        changes: Those of :data:`OF_MODELS` that will be written.

    Raises:
        UserError: A change of something that the model has not.
    """

    def __init__(self, model: Any, changes: Sequence[Change]) -> None:
        # What is carried is not made heavier with what carries it.
        ordered = sorted(changes, key=lambda change: change.what == "payload")
        self._entries = {c.key: (c, _EFFECTS[c.what], _entries(model, c)) for c in ordered}
        self._fields = sorted({field for c in changes for field in _EFFECTS[c.what].fields})
        self._scratch: tuple[Any, Any] | None = None
        self._usual: dict[str, Any] = {}

    def remember(self, model: Any) -> None:
        """Takes the model as it is for the usual one, which changes are changes of."""
        self._usual = {field: _read(model, field) for field in self._fields}

    def write(self, model: Any, values: Mapping[str, float]) -> None:
        """Makes the usual model one with these values, by key of the changes."""
        self.restore(model)
        heavier = False
        for key, (change, effect, which) in self._entries.items():
            if values[key] != change.neutral:
                effect.write(model, which, values[key])
                heavier = heavier or effect.kind == "body"
        if heavier:
            self._derive(model)

    def restore(self, model: Any) -> None:
        """Makes the model the usual one, to the last bit."""
        for field, value in self._usual.items():
            _assign(model, field, value)

    def _derive(self, model: Any) -> None:
        # On a twin: MuJoCo would put the simulation back to its start.
        if self._scratch is None:
            twin = copy.copy(model)
            self._scratch = twin, mujoco.MjData(twin)
        twin, data = self._scratch
        for field in _MASSES:
            _assign(twin, field, _read(model, field))
        mujoco.mj_setConst(twin, data)
        for field in _DERIVED:
            _assign(model, field, _read(twin, field))


def find(kind: str, on: str | int | None, names: Sequence[str]) -> int | slice:
    """The number of what is called so or has this number, all for None; else a ``UserError``."""
    if on is None:
        return slice(None)
    if isinstance(on, int) and 0 <= on < len(names):
        return on
    if isinstance(on, str) and on in names and on:
        return list(names).index(on)
    named = [name for name in names if name]
    raise unknown(kind, on, named, f"a number from 0 to {len(names) - 1} will do as well")


def _entries(model: Any, change: Change) -> Any:
    """Where in its fields the things stand that a change is on."""
    kind = _EFFECTS[change.what].kind
    if kind == "axis":
        if model.opt.density <= 0:
            raise UserError("wind needs air, which this model has not: add "
                            '<option density="1.2"/> to its MJCF')
        return find(kind, change.on, ("x", "y", "z"))
    named = (getattr(model, kind)(i).name for i in range(getattr(model, _COUNTS[kind])))
    found = find(kind, change.on, list(named))
    if kind == "joint" and isinstance(found, int):
        return np.flatnonzero(model.dof_jntid == found)
    return found


def _read(model: Any, field: str) -> Any:
    return np.copy(attrgetter(field)(model))


def _assign(model: Any, field: str, value: Any) -> None:
    owner, _, name = field.rpartition(".")
    setattr(attrgetter(owner)(model) if owner else model, name, value)
