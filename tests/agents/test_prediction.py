"""Self-prediction against the theory of it (Tang et al. 2023): what it finds, and its collapse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from crl.agents.prediction import SelfPredictor

STATES, WIDTH, SUCCESSORS = 10, 2, 4


def chain(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs (x, y), all equally likely, of a doubly stochastic chain; and its transition matrix."""
    rng = np.random.default_rng(seed)
    x = torch.arange(STATES).repeat(SUCCESSORS)
    y = torch.from_numpy(np.concatenate([rng.permutation(STATES) for _ in range(SUCCESSORS)]))
    matrix = torch.zeros(STATES, STATES)
    matrix.index_put_((x, y), torch.full((len(x),), 1 / SUCCESSORS), accumulate=True)
    return x, y, matrix


def captured(matrix: Tensor, left: Tensor, right: Tensor) -> float:
    """Share of the largest Σ σ² that a pair of WIDTH-dimensional subspaces can capture."""
    u, v = torch.linalg.qr(left)[0], torch.linalg.qr(right)[0]
    best = torch.linalg.svdvals(matrix)[:WIDTH].square().sum()
    return float((u.T @ matrix @ v).square().sum() / best)


def learn(seed: int, stop: bool, steps: int = 2000) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient descent on both representations, tables, with maps that are always the best ones."""
    x, y, matrix = chain(seed)
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.linalg.qr(torch.randn(STATES, WIDTH, generator=generator))[0]
                   .requires_grad_() for _ in range(2))
    predictor = SelfPredictor(WIDTH, 0, WIDTH, generator)
    for dense in (predictor.forth, predictor.back):  # the theory's maps are linear
        torch.nn.init.zeros_(dense.bias)
    for _ in range(steps):
        features, code = left[x], right[y]
        with torch.no_grad():
            predictor.forth.kernel.copy_(torch.linalg.lstsq(features, code).solution)
            predictor.back.kernel.copy_(torch.linalg.lstsq(code, features).solution)
        if stop:
            loss = predictor.loss(features, features[:, :0], code)
        else:
            loss = 0.5 * ((predictor(features, features[:, :0]) - code).square()
                          + (predictor.back(code) - features).square()).sum(-1).mean()
        gradients = torch.autograd.grad(loss, (left, right))
        with torch.no_grad():
            for table, gradient in zip((left, right), gradients, strict=True):
                table -= 0.5 * gradient
    return matrix, left.detach(), right.detach()


@pytest.mark.parametrize("seed", range(3))
def test_both_ways_find_the_directions_that_predict_most(seed):
    """The left and right singular vectors of the transition matrix; and nothing collapses."""
    before, after = (captured(*learn(seed, True, steps)) for steps in (0, 2000))
    assert before < 0.8
    assert after > 0.99
    _, left, right = learn(seed, True)
    for table in (left, right):  # orthonormal at the start: the flow keeps it so
        assert torch.allclose(table.T @ table, torch.eye(WIDTH), atol=0.15)


def test_without_the_stop_they_collapse():
    _, left, right = learn(0, False)
    assert left.norm() < 0.1 * WIDTH**0.5
    assert right.norm() < 0.1 * WIDTH**0.5
