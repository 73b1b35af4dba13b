"""Stand-ins for the helpers that Meta-World's reward code leans on, fast for single numbers.

They keep stock's arithmetic down to the types: NumPy computes ``float32`` × Python float in single
but ``float32`` × ``float64`` in double precision, so a stand-in that returned the other kind of
float would move rewards by 1e-8.
"""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Callable
from typing import Any

import numpy as np
from metaworld.utils import reward_utils
from numpy.typing import NDArray

Array = NDArray[np.float64]

# --------------------------------------------------------------------------- stand-ins: numpy


def _norm(x: Any, ord: int | None = None) -> Any:
    """``np.linalg.norm`` of a vector or scalar, with NumPy's own dot product, so the same bits."""
    if isinstance(x, np.ndarray) and x.ndim == 1 and (ord is None or ord == 2):
        return np.float64(math.sqrt(x.dot(x)))
    return np.linalg.norm(x, ord)


def _clip(x: Any, low: Any, high: Any) -> Any:
    if isinstance(x, np.ndarray):
        return np.clip(x, low, high)
    return low if x < low else high if x > high else x


def _hstack(parts: Any) -> Array:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return np.array(parts)


class Numpy:
    """``numpy`` for reward code: a few functions made fast for tiny inputs, the rest untouched."""

    linalg = types.SimpleNamespace(norm=_norm)
    clip = staticmethod(_clip)
    hstack = staticmethod(_hstack)
    abs = staticmethod(abs)
    array = staticmethod(np.array)
    zeros = staticmethod(np.zeros)
    ndarray = np.ndarray
    pi = np.pi

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


# --------------------------------------------------------------------- stand-ins: reward terms


def tolerance(
    x: Any,
    bounds: tuple[float, float] = (0.0, 0.0),
    margin: Any = 0.0,
    sigmoid: str = "gaussian",
    value_at_margin: float = 0.1,
) -> Any:
    """dm_control's reward term: 1 inside ``bounds``, falling to ``value_at_margin`` at ``margin``.

    Takes one number; arrays and the rare sigmoids go to Meta-World's own function.

    Raises:
        ValueError: reversed bounds or a negative margin, as Meta-World's function does.
    """
    lower, upper = bounds
    if margin < 0 or lower > upper or sigmoid not in _SIGMOIDS or isinstance(x, np.ndarray):
        return reward_utils.tolerance(x, bounds, margin, sigmoid, value_at_margin)
    if lower <= x <= upper:
        return 1.0
    if margin == 0:
        return 0.0
    distance = float((lower - x if x < lower else x - upper) / margin)
    return _SIGMOIDS[sigmoid](distance, value_at_margin)


def _long_tail(x: float, value_at_1: float) -> float:
    scaled = x * math.sqrt(1 / value_at_1 - 1)
    return 1 / (scaled * scaled + 1)


def _gaussian(x: float, value_at_1: float) -> float:
    scaled = x * math.sqrt(-2 * math.log(value_at_1))
    return math.exp(-0.5 * (scaled * scaled))


_SIGMOIDS: dict[str, Callable[[float, float], float]] = {
    "long_tail": _long_tail,
    "gaussian": _gaussian,
}


def hamacher_product(a: Any, b: Any) -> Any:
    """The Hamacher t-norm ``ab / (a + b - ab)``: a soft "and" of two rewards in [0, 1].

    Raises:
        ValueError: an argument outside [0, 1].
    """
    if not (0.0 <= a <= 1.0 and 0.0 <= b <= 1.0):
        raise ValueError(f"the Hamacher product takes numbers in [0, 1], got {a} and {b}")
    product = a * b
    total = a + b - product
    return product / total if total > 0 else 0


REWARD_UTILS = types.SimpleNamespace(
    tolerance=tolerance,
    hamacher_product=hamacher_product,
    rect_prism_tolerance=reward_utils.rect_prism_tolerance,
    inverse_tolerance=reward_utils.inverse_tolerance,
)


class Rotation:
    """``scipy.spatial.transform.Rotation`` for one matrix: ``from_matrix(m).as_quat()``."""

    __slots__ = ("_quat",)

    def __init__(self, quat: Array) -> None:
        self._quat = quat

    @classmethod
    def from_matrix(cls, matrix: Array) -> Rotation:
        return cls(quaternion(matrix))

    def as_quat(self) -> Array:
        return self._quat


def quaternion(matrix: Array) -> Array:
    """Rotation matrix [3, 3] → unit quaternion (x, y, z, w), with SciPy's choice of sign.

    Divides by the largest of the four components (Markley 2008, "Unit quaternion from rotation
    matrix"), so it is accurate for every rotation.
    """
    (a, b, c), (d, e, f), (g, h, i) = matrix.tolist()
    trace = a + e + i
    largest = max(a, e, i, trace)
    if a == largest:
        x, y, z, w = 1 - trace + 2 * a, d + b, g + c, h - f
    elif e == largest:
        x, y, z, w = d + b, 1 - trace + 2 * e, h + f, c - g
    elif i == largest:
        x, y, z, w = g + c, h + f, 1 - trace + 2 * i, d - b
    else:
        x, y, z, w = h - f, c - g, d - b, 1 + trace
    norm = math.sqrt(x * x + y * y + z * z + w * w)
    return np.array((x / norm, y / norm, z / norm, w / norm))


# ------------------------------------------------------------------------ stand-ins: name look-ups


class _View:
    """The arrays of one named body, geom, site or joint; they stay valid as long as the data."""

    __slots__ = ("id", "qpos", "xmat", "xpos", "xquat")
    id: int
    qpos: Array
    xmat: Array
    xpos: Array
    xquat: Array


class NamedData:
    """``MjData`` whose ``body(name)``, ``geom(name)``… are dictionary look-ups.

    MuJoCo's own accessors search the name and build arrays each time. Anything else is read from
    the real data.
    """

    def __init__(self, model: Any, data: Any) -> None:
        self._model, self._data = model, data
        self.body = functools.cache(self._body)
        self.geom = functools.cache(self._geom)
        self.site = functools.cache(self._site)
        self.joint = functools.cache(self._joint)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def _body(self, name: str) -> _View:
        view = _View()
        view.id = index = self._model.body(name).id
        view.xpos, view.xquat, view.xmat = (
            self._data.xpos[index], self._data.xquat[index], self._data.xmat[index],
        )
        return view

    def _geom(self, name: str) -> _View:
        view = _View()
        view.id = index = self._model.geom(name).id
        view.xpos, view.xmat = self._data.geom_xpos[index], self._data.geom_xmat[index]
        return view

    def _site(self, name: str) -> _View:
        view = _View()
        view.id = index = self._model.site(name).id
        view.xpos, view.xmat = self._data.site_xpos[index], self._data.site_xmat[index]
        return view

    def _joint(self, name: str) -> _View:
        view = _View()
        view.id = self._model.joint(name).id
        view.qpos = self._data.joint(name).qpos
        return view
