"""Matrix products, each by the faster of the two libraries that torch brings for the CPU.

Torch gives float32 products to MKL. On processors that are not Intel's, MKL leaves half of the
vector width unused; oneDNN, to which torch gives bfloat16, does not, and it takes float32 too. Its
calls cost 12 µs more, so small products stay with MKL (``crl bench sac`` measures the sum).
"""

from __future__ import annotations

import torch
from torch import Tensor

_SMALL = 2**20  # multiplications; below, MKL's cheaper call wins
_NARROW = 32    # columns; below, neither library is fast and MKL's call is cheaper
_HAS_ONEDNN = torch._C._has_mkldnn and hasattr(
    torch.ops.mkldnn, "_linear_pointwise")


def affine(x: Tensor, kernel: Tensor, bias: Tensor, relu: bool = False) -> Tensor:
    """``x @ kernel + bias``, then ReLU if asked for: [B, in], [in, out], [out] → [B, out]."""
    if _large(x, *kernel.shape):
        return _onednn(x, kernel.t(), bias, "relu" if relu else "none")
    y = torch.addmm(bias, x, kernel)
    return y.relu_() if relu else y


def input_gradient(gradient: Tensor, kernel: Tensor) -> Tensor:
    """``gradient @ kernel.T``: [B, out], [in, out] → [B, in]."""
    if _large(gradient, *kernel.shape):
        return _onednn(gradient, kernel)
    return torch.mm(gradient, kernel.t())


def kernel_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """``x.T @ gradient``: [B, in], [B, out] → [in, out]."""
    if x.dtype is torch.float32 and _large(x, x.shape[1], gradient.shape[1]):
        return _onednn(x.t(), gradient.t())
    return torch.mm(x.t(), gradient)  # bfloat16: oneDNN's already, and in fewer copies


def _large(x: Tensor, size_in: int, size_out: int) -> bool:
    return (_HAS_ONEDNN and x.is_cpu and x.dtype is not torch.float64
            and min(size_in, size_out) >= _NARROW and len(x) * size_in * size_out >= _SMALL)


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    """``x @ weight.T + bias``, then ``"relu"`` or ``"none"``."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, then, [], "")
    return out
