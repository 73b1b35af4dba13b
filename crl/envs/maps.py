"""Where vehicles are sent: maps of waypoints, on the ground and in the air."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crl.config import require
from crl.errors import unknown

Points = NDArray[np.float64]

# The two closed maps of Murillo-González and Liu 2025, "Action Flow Matching for Continual Robot
# Learning": 99.7 m and 70.1 m. Coordinates as published with the paper (MIT), to a centimetre.
_AFM_1 = (
    (-5.07, 6.59), (-2.59, 4.11), (-0.11, 1.62), (2.43, -0.83), (3.55, 1.36), (1.07, 3.87),
    (1.07, 5.55), (2.74, 6.18), (5.29, 5.71), (6.95, 3.51), (7.05, 0.72), (6.28, -2.05),
    (4.01, -3.60), (1.50, -3.37), (-0.56, -1.58), (-3.12, 0.98), (-5.55, 0.14), (-5.51, -3.59),
    (-3.02, -5.11), (-2.67, -6.80), (-4.75, -7.38), (-3.96, -9.90), (-0.05, -9.90), (1.88, -8.14),
    (2.94, -7.50), (5.69, -7.46), (8.92, -5.40), (9.63, -1.61), (9.63, 2.27), (8.70, 6.03),
    (5.66, 8.43), (1.70, 8.76), (-2.33, 8.76),
)
_AFM_2 = (
    (7.20, 5.40), (8.32, 2.19), (3.81, 1.80), (2.33, -1.27), (6.78, -1.80), (8.61, -4.72),
    (4.32, -5.40), (-0.20, -5.39), (-1.80, -1.69), (-3.60, 1.80), (-5.40, -1.69), (-7.00, -5.39),
    (-9.00, -2.16), (-9.00, 2.37), (-6.79, 5.40), (-2.33, 5.40), (2.13, 5.40), (6.59, 5.40),
)
_SQUARE = ((0, 0), (4, 0), (4, 4), (0, 4))


def _closed(points: ArrayLike) -> Points:
    way = np.asarray(points, np.float64)
    return np.vstack((way, way[:1]))


_TURN = np.linspace(0, 2 * np.pi, 25)
_EIGHT = np.column_stack((4 * np.sin(_TURN), 2 * np.sin(2 * _TURN)))  # Gerono's lemniscate

GROUND: dict[str, Points] = {
    "afm-1": _closed(_AFM_1),
    "afm-2": _closed(_AFM_2),
    "square": _closed(_SQUARE),
    "eight": _EIGHT,
    "slalom": np.array([(0, 0), *((2 * i, (-1) ** i) for i in range(1, 8)), (16, 0)], np.float64),
}
"""Name → [n, 2], metres; a robot starts at the first point."""

AIR: dict[str, Points] = {
    "square": _closed([(x, y, 1 + i % 2) for i, (x, y) in enumerate(_SQUARE)]),
    "eight": np.column_stack((_EIGHT, 1.5 + 0.5 * np.sin(_TURN))),
    "helix": np.column_stack([2 * np.sin(2 * _TURN), 2 - 2 * np.cos(2 * _TURN), 1 + _TURN / 3]),
}
"""Name → [n, 3], metres, z upwards."""


def find_map(which: str | ArrayLike, known: dict[str, Points]) -> Points:
    """The points [n, d] of a map.

    Args:
        which: One of the ``known`` names, or the points themselves.
        known: :data:`GROUND` or :data:`AIR`.

    Raises:
        UserError: An unknown name, or points that are no list of at least two of d finite numbers.
    """
    if isinstance(which, str):
        if which not in known:
            raise unknown("map", which, known)
        return known[which]
    size = next(iter(known.values())).shape[1]
    try:
        points: Points = np.array(which, np.float64)
    except (TypeError, ValueError):  # words, ragged lists
        points = np.zeros(0)
    require(points.ndim == 2 and len(points) > 1 and points.shape[1] == size
            and bool(np.isfinite(points).all()),
            f"a map is one of {', '.join(known)}, or a list of at least two points of {size} "
            "finite numbers each, metres")
    return points
