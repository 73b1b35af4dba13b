"""Maps and the ways that robots took over them, seen from above."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crl.envs.maps import Points

_INK, _PASSED = "0.55", "tab:green"


def top_view(axis: Any, points: Points, ways: Mapping[str, NDArray[Any]],
             radius: float = 0.5) -> None:
    """Draws a map of waypoints and trajectories over it.

    Args:
        axis: Matplotlib's axes.
        points: [n, d], the waypoints; what is above x and y is not seen.
        ways: Name, for the legend, → positions [steps, 2 or more], metres.
        radius: Of the waypoints, metres.
    """
    from matplotlib.patches import Circle

    axis.plot(*points[:, :2].T, color=_INK, lw=0.8, ls="--", zorder=1)
    for x, y in points[:, :2]:
        axis.add_patch(Circle((x, y), radius, color=_PASSED, alpha=0.15, lw=0, zorder=0))
    axis.plot(*points[0, :2], marker="o", color=_PASSED, ms=5, zorder=3)
    for name, way in ways.items():
        axis.plot(*np.asarray(way)[:, :2].T, lw=1.4, label=name, zorder=2)
    axis.set_aspect("equal")
    axis.set_xlabel("x (m)")
    axis.set_ylabel("y (m)")
    if ways:
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=4, ncols=2,
                    fontsize="small", frameon=False)


def picture(points: Points, way: NDArray[Any], size: int = 480) -> NDArray[np.uint8]:
    """A map, and on it a vehicle at the end of its way [steps, 3] of x, y and heading.

    Returns:
        uint8 [size, size, 3].
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((size / 100, size / 100), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axis = figure.add_subplot()
    top_view(axis, points, {})
    axis.plot(*way[:, :2].T, lw=1.4)
    if len(way):
        x, y, heading = way[-1]
        axis.plot(x, y, marker=(3, 0, np.degrees(heading) - 90), ms=12, color="tab:orange")
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]
