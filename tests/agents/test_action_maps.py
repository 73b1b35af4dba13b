"""What acts when an action is sent: inverses and estimates against SciPy's and NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear

from crl.agents.action_maps import (
    ActionMaps,
    Window,
    draw_maps,
    estimate_gains,
    estimate_maps,
    least_squares,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def window_of(maps: ActionMaps, count: int, known: int | None = None) -> Window:
    """Steps of robots with these maps, of which the newest ``known`` are seen."""
    batch, size = maps.offset.shape
    actions = 2 * torch.rand(batch, count, size, generator=generator(1)) - 1
    seen = (torch.arange(count) < (count if known is None else known)).float()
    seen = seen.expand(batch, count)[..., None]
    return Window(actions * seen, (maps(actions) - actions) * seen, seen)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_an_inverse_is_the_nearest_that_bounds_allow(size):
    """SciPy's bounded least squares, the same small damping in further rows."""
    maps = draw_maps(60, size, generator())
    wanted = 2 * torch.rand(60, size, generator=generator(1)) - 1
    found, bound = maps.inverse(wanted), 0
    assert (found.abs() <= 1).all()
    for matrix, offset, action, ours in zip(*maps, wanted, found, strict=True):
        rows = np.vstack((matrix, np.sqrt(1e-3) * np.eye(size)))
        target = np.append(action - offset, np.sqrt(1e-3) * action)
        best = lsq_linear(rows, target, (-1, 1)).x

        def miss(x, rows=rows, target=target):
            return np.linalg.norm(rows @ x - target)

        assert miss(ours.numpy()) <= miss(best) + 0.01
        bound += int((np.abs(best) > 0.999).any())
    assert bound > 10  # it was about bounds


def test_an_inverse_of_what_has_no_effect_leaves_the_action_alone():
    maps = ActionMaps(torch.zeros(1, 2, 2), torch.zeros(1, 2))
    wanted = torch.tensor([[0.3, -0.8]])
    torch.testing.assert_close(maps.inverse(wanted), wanted)


def test_drawn_maps_are_of_either_sign_and_some_are_plain():
    maps = draw_maps(4_000, 3, generator())
    gains = maps.matrix.diagonal(dim1=1, dim2=2)
    assert gains.abs().min() >= 0.1
    assert gains.abs().max() <= 3
    changed = gains[gains != 1]
    assert (changed < 0).float().mean().item() == pytest.approx(0.4, abs=0.03)
    mixed = (maps.matrix - torch.diag_embed(gains)).abs().amax((1, 2)) > 0
    assert mixed.float().mean().item() == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("known", [3, 8])
def test_estimates_are_ridge_regressions(known):
    maps = draw_maps(5, 2, generator())
    window = window_of(maps, 8, known)
    found, gains = estimate_maps(window), estimate_gains(window)
    for i in range(5):
        actions, moved = (column[i, :known].double().numpy() for column in window[:2])
        x = np.column_stack((actions, np.ones(known)))
        solved = np.linalg.solve(x.T @ x + 0.01 * np.eye(3), x.T @ moved)
        np.testing.assert_allclose(found.matrix[i], np.eye(2) + solved[:2].T, atol=1e-3)
        np.testing.assert_allclose(found.offset[i], solved[2], atol=1e-3)
        alone = 1 + (actions * moved).sum(0) / ((actions**2).sum(0) + 0.01)
        np.testing.assert_allclose(gains.matrix[i], np.diag(alone), atol=1e-4)


def test_of_nothing_nothing_is_estimated_and_of_enough_everything():
    maps = draw_maps(20, 2, generator())
    wanted = 0.2 * (2 * torch.rand(20, 2, generator=generator(2)) - 1)
    unknown = window_of(maps, 8, known=0)
    torch.testing.assert_close(least_squares(wanted, unknown), wanted)
    gains = ActionMaps(torch.diag_embed(torch.tensor([[-1.0, 2.0], [2.0, 0.5]])),
                       torch.zeros(2, 2))
    sent = least_squares(wanted[:2], window_of(gains, 40))
    torch.testing.assert_close(sent, wanted[:2] / gains.matrix.diagonal(dim1=1, dim2=2),
                               atol=0.02, rtol=0)
