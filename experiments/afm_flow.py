"""What transforms take away of the error of changed actions, without a robot: a table.

    python experiments/afm_flow.py      # then afm_table.py puts it on the page

On the gains of Murillo-González and Liu 2025 and on maps that mix and shift actions, none of which
the flow was trained on: the share of the distance between what acts and what is wanted that goes,
a mean over robots. Windows hold eight steps; `wide`, of actions all over their range; `narrow`, of
actions within a twentieth of it, where a gain cannot be told from an offset; `fresh`, one step
after the change, seven before it. Of `noise`, residuals that no action makes, it is what is added.
"""

from __future__ import annotations

import numpy as np
import torch
from afm import FOLDER
from grid import write_table
from numpy.typing import NDArray
from pages import Row, Rows

from crl.agents.action_flow import REGRESSOR, ActionFlow
from crl.agents.action_maps import Window, least_squares
from crl.agents.correction import Transform
from crl.envs.dynamic_tasks import GAINS

_ROBOTS, _LENGTH, _ERROR = 400, 8, 0.02
Array = NDArray[np.float64]


def gone(transform: Transform, matrix: Array, offset: Array, rng: np.random.Generator, *,
         spread: float = 1.0, fresh: int = _LENGTH, noise: float = _ERROR) -> float:
    """The share of the error that goes, of robots whose actions act as matrix · a + offset."""
    wanted = 0.95 * (rng.uniform(-1, 1, (_ROBOTS, 1, 2)) @ np.swapaxes(matrix, -1, -2) + offset)
    wanted = wanted.clip(-1, 1)
    around = wanted if spread < 1 else 0
    actions = (around + rng.uniform(-spread, spread, (_ROBOTS, _LENGTH, 2))).clip(-1, 1)
    changed = (np.arange(_LENGTH) < fresh)[:, None]
    acted = np.where(changed, actions @ np.swapaxes(matrix, -1, -2) + offset, actions)
    residuals = acted - actions + rng.normal(0, noise, actions.shape)
    shown = (torch.from_numpy(x.astype(np.float32)) for x in (actions, residuals))
    sent = transform(torch.from_numpy(wanted[:, 0].astype(np.float32)),
                     Window(*shown, torch.ones(_ROBOTS, _LENGTH, 1))).numpy()[:, None]
    before, after = (np.linalg.norm(x @ np.swapaxes(matrix, -1, -2) + offset - wanted, axis=-1)
                     for x in (wanted, sent))
    return float(1 - after.mean() / max(before.mean(), 1e-9)) if noise == _ERROR else float(
        after.mean())


def row(name: str, transform: Transform) -> Row:
    """Of one transform."""
    rng = np.random.default_rng(0)

    def gains(**options: float | int) -> list[float]:
        return [gone(transform, np.diag(g), np.zeros(1), rng, **options) for g in GAINS]

    mixed = np.diag([-1.0, 1.0]) * rng.uniform(0.5, 1.5, (_ROBOTS, 1, 1)) + rng.normal(
        0, 0.3, (_ROBOTS, 2, 2))
    wide = gains()
    return {"transform": name, "wide": float(np.mean(wide)), "worst_gains": min(wide),
            "mixed": gone(transform, mixed, rng.normal(0, 0.2, (_ROBOTS, 1, 2)), rng),
            "narrow": float(np.mean(gains(spread=0.05))),
            "fresh": float(np.mean(gains(fresh=1))),
            "noise": gone(transform, np.eye(2), np.zeros(1), rng, noise=0.3)}


def main() -> None:
    torch.set_num_threads(1)
    table: Rows = [row("flow", ActionFlow(2)), row("regressor", ActionFlow(2, REGRESSOR)),
                   row("least squares", least_squares)]
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_table(FOLDER / "flow.csv", list(table[0]), table)
    for line in table:
        print(line)


if __name__ == "__main__":
    main()
