"""Small systems of equations, also for networks that are to be exported."""

from __future__ import annotations

import torch
from torch import Tensor


def solve_positive(square: Tensor, right: Tensor) -> Tensor:
    """x of ``square`` x = ``right``, ``square`` being symmetric and positive definite.

    It is computed in double precision, so that whoever does it does it alike. ONNX has no operator
    for it: while a network is exported it is Cholesky's method, number by number.

    Args:
        square: [..., n, n], n known.
        right: [..., n, k].

    Returns:
        [..., n, k].
    """
    kind, square, right = right.dtype, square.double(), right.double()
    if not torch.compiler.is_exporting():
        solved: Tensor = torch.linalg.solve(square, right)
        return solved.to(kind)
    size = square.shape[-1]
    lower: list[list[Tensor]] = []
    for i in range(size):
        row: list[Tensor] = []
        for j in range(i + 1):
            entry = square[..., i, j]
            for k in range(j):
                entry = entry - row[k] * (lower[j][k] if j < i else row[k])
            row.append(entry.sqrt() if i == j else entry / lower[j][j])
        lower.append(row)
    x = [right[..., i, :] for i in range(size)]
    for i in range(size):  # lower y = right
        for k in range(i):
            x[i] = x[i] - lower[i][k][..., None] * x[k]
        x[i] = x[i] / lower[i][i][..., None]
    for i in reversed(range(size)):  # lowerᵀ x = y
        for k in range(i + 1, size):
            x[i] = x[i] - lower[k][i][..., None] * x[k]
        x[i] = x[i] / lower[i][i][..., None]
    return torch.stack(x, -2).to(kind)
