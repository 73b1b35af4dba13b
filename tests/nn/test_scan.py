"""The linear scan against the recurrence written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from crl.nn.scan import linear_scan

LENGTHS = [1, 2, 3, 15, 16, 17, 37, 64, 256, 257, 1000]


def loop(a: Tensor, b: Tensor, initial: Tensor, first: Tensor) -> Tensor:
    xs, x = [], initial
    for t in range(b.shape[1]):
        x = torch.where(first[:, t, None], b[:, t], (a if a.dim() == 1 else a[:, t]) * x + b[:, t])
        xs.append(x)
    return torch.stack(xs, 1)


def draw(length: int, constant: bool, dtype=torch.complex128, batch=3, size=5, resets=0.1,
         grad=True):
    g = torch.Generator().manual_seed(length)
    shape = (size,) if constant else (batch, length, size)
    a = torch.polar(torch.rand(shape, generator=g, dtype=torch.float64),
                    6 * torch.rand(shape, generator=g, dtype=torch.float64))
    a = (a if dtype.is_complex else a.real).to(dtype)
    b = torch.randn(batch, length, size, generator=g, dtype=dtype)
    initial = torch.randn(batch, size, generator=g, dtype=dtype)
    first = torch.rand(batch, length, generator=g) < resets
    return *(t.requires_grad_(grad) for t in (a, b, initial)), first


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_values_and_gradients_are_those_of_the_loop(length, constant, dtype):
    *inputs, first = draw(length, constant, dtype)
    weight = torch.randn(3, length, 5, dtype=dtype, generator=torch.Generator().manual_seed(1))
    found = []
    for scan in (linear_scan, loop):
        x = scan(*inputs, first)
        total = (x * weight).sum()
        found.append((x, *torch.autograd.grad(total.real if dtype.is_complex else total, inputs)))
    for ours, expected in zip(*found, strict=True):
        assert torch.allclose(ours, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("length", [5, 35])
def test_the_gradient_is_that_of_finite_differences(length, constant):
    *inputs, first = draw(length, constant, batch=2, size=2)
    assert torch.autograd.gradcheck(lambda *x: linear_scan(*x, first), inputs)


@pytest.mark.parametrize("cut", [1, 16, 20, 40, 63])
def test_a_sequence_may_be_split_anywhere(cut):
    a, b, initial, first = draw(64, False)
    whole = linear_scan(a, b, initial, first)
    head = linear_scan(a[:, :cut], b[:, :cut], initial, first[:, :cut])
    tail = linear_scan(a[:, cut:], b[:, cut:], head[:, -1], first[:, cut:])
    assert torch.allclose(torch.cat((head, tail), 1), whole, rtol=1e-12)


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("reset", [1, 9, 16, 21, 32, 300])
def test_nothing_that_is_not_finite_crosses_the_start_of_an_episode(reset, constant):
    a, b, initial, first = draw(310, constant, resets=0, grad=False)
    first[:, reset] = True
    b[:, :reset] = float("nan")
    if not constant:
        a[:, reset] = float("inf")  # the factor of what came before
    initial[:] = float("nan")
    b.requires_grad_()
    x = linear_scan(a, b, initial, first)
    assert x[:, :reset].isnan().all()
    expected = loop(a[..., reset:, :] if a.dim() > 1 else a, b[:, reset:], torch.zeros(3, 5),
                    first[:, reset:])
    assert torch.allclose(x[:, reset:], expected)
    (gradient,) = torch.autograd.grad(x[:, reset:].abs().sum(), b)
    assert gradient[:, reset:].isfinite().all()
    assert (gradient[:, :reset] == 0).all()


def test_ten_thousand_steps_close_to_the_unit_circle_stay_exact_and_finite():
    """Against the closed form: constant input, xₜ = b (1 − aᵗ⁺¹) / (1 − a)."""
    a = torch.polar(torch.tensor([0.9999, 0.9999, 0.99], dtype=torch.float64),
                    torch.tensor([0.0, 0.3, 3.0], dtype=torch.float64)).requires_grad_()
    b = torch.ones(1, 10_000, 3, dtype=torch.complex128)
    initial, first = torch.zeros(1, 3, dtype=b.dtype), torch.zeros(1, 10_000, dtype=torch.bool)
    x = linear_scan(a, b, initial, first)
    steps = torch.arange(1, 10_001, dtype=torch.float64).unsqueeze(-1)
    assert torch.allclose(x[0], (1 - a**steps) / (1 - a), rtol=1e-9)
    single = linear_scan(*(t.detach().to(torch.complex64) for t in (a, b, initial)), first)
    assert torch.allclose(single.to(x.dtype), x, rtol=2e-3, atol=1e-3)
    (gradient,) = torch.autograd.grad(x.real.sum(), a)
    assert gradient.isfinite().all()


def test_gradients_can_be_taken_sample_by_sample():
    """As methods that measure importance do."""
    a, b, initial, first = draw(40, True, grad=False)

    def loss(a, b, initial, first):
        return linear_scan(a, b[None], initial[None], first[None]).abs().square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0, 0))(a, b, initial, first)
    for i, gradient in enumerate(each):
        expected = torch.func.grad(loss)(a, b[i], initial[i], first[i])
        assert torch.allclose(gradient, expected)
