"""Cholesky by hand, as it is exported, beside LAPACK."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crl.nn.solve import solve_positive


@pytest.mark.parametrize("exported", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_it_solves(size, exported, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: exported)
    rng = np.random.default_rng(size)
    root = rng.normal(size=(4, size, size + 1))
    square = root @ root.transpose(0, 2, 1) + 0.1 * np.eye(size)
    right = rng.normal(size=(4, size, 2))
    found = solve_positive(torch.from_numpy(square), torch.from_numpy(right))
    assert found.shape == right.shape
    assert np.allclose(found.numpy(), np.linalg.solve(square, right), atol=1e-9)
