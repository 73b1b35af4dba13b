"""Draws docs/afm-ROBOT.png: where it drives under each of the gains, with AFM and without.

    python experiments/afm_picture.py unicycle    # or ugv
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import torch
from afm import PROTOCOL, planned

from crl.envs.maps import GROUND
from crl.envs.top_view import top_view

DOCS = Path(__file__).parents[1] / "docs"
MAP, SEED = "afm-2", 0
SHOWN = {"frozen": "no correction", "afm": "AFM"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("robot", choices=("unicycle", "ugv"))
    robot = parser.parse_args().robot
    torch.set_num_threads(1)
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(3, 4, figsize=(11, 7.6), layout="constrained")
    panels = iter(axes.flat)
    for regime, task in PROTOCOL[robot].regimes.items():
        axis, drives = next(panels), {row: planned(robot, row, SEED, MAP, task)
                                      for row in SHOWN}
        top_view(axis, GROUND[MAP], {SHOWN[row]: drive.way for row, drive in drives.items()})
        axis.set_title("gains " + regime.replace(",", ", "), fontsize=10)
        axis.set(xlim=(-13, 13), ylim=(-10, 10), xlabel="", ylabel="", xticks=(), yticks=())
        handles, labels = axis.get_legend_handles_labels()
        axis.get_legend().remove()
        done = " · ".join(f"{SHOWN[row]} {drive.progress:.0%}" for row, drive in drives.items())
        axis.text(0.5, -0.08, done, transform=axis.transAxes, ha="center", fontsize=8)
        print(regime, done, flush=True)
    for axis in panels:
        axis.axis("off")
        axis.legend(handles, labels, loc="center", frameon=False)
    figure.savefig(DOCS / f"afm-{robot}.png", dpi=80)


if __name__ == "__main__":
    main()
