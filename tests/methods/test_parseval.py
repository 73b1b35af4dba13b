"""Parseval: closed form on diagonal matrices, and where its minimum is."""

from __future__ import annotations

import pytest
import torch
from visits import make_agent, visit

import crl
from crl.methods.parseval import distance


@pytest.mark.parametrize("shape", [(3, 3), (3, 5), (5, 3)])
def test_the_penalty_of_a_diagonal_matrix_is_the_closed_form(shape):
    kernel, diagonal = torch.zeros(shape), torch.tensor([0.5, -2.0, 1.0])
    kernel[range(3), range(3)] = diagonal
    expected = ((diagonal**2 - 2.0) ** 2).sum()
    torch.testing.assert_close(distance(kernel, 2.0), expected)


def descended(penalty, shape=(6, 10)) -> torch.Tensor:
    """Singular values of a random matrix after gradient descent on a penalty."""
    kernel = (0.4 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
              ).requires_grad_()
    for _ in range(500):
        (gradient,) = torch.autograd.grad(penalty(kernel), kernel)
        with torch.no_grad():
            kernel -= 0.02 * gradient
    return torch.linalg.svdvals(kernel.detach())


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("shape", [(6, 10), (10, 6)])
def test_gradient_descent_makes_all_singular_values_the_root_of_the_scale(shape, scale):
    values = descended(lambda kernel: distance(kernel, scale), shape)
    torch.testing.assert_close(values, torch.full((6,), scale**0.5), rtol=1e-3, atol=0)


def test_other_penalties_do_not():
    fitted = descended(lambda kernel: (kernel.square().sum() - 6 * 2.0) ** 2 / 50)
    assert fitted.square().sum().item() == pytest.approx(12, rel=1e-3)  # the same norm, but
    assert fitted.max() > 1.5 * fitted.min()
    assert descended(lambda kernel: kernel.square().sum()).max() < 1e-3  # weight decay


def test_the_side_does_not_matter_to_the_gradient():
    kernel = torch.randn(4, 7, generator=torch.Generator().manual_seed(1)).requires_grad_()
    small = distance(kernel, 2.0)
    large = (kernel.t() @ kernel - 2.0 * torch.eye(7)).square().sum()
    assert (large - small).item() == pytest.approx(3 * 2.0**2, rel=1e-4)
    torch.testing.assert_close(*(torch.autograd.grad(p, kernel)[0] for p in (small, large)),
                               rtol=1e-4, atol=1e-4)


def test_it_holds_in_training_for_hidden_layers_of_all_parts():
    def spread(*methods) -> float:
        agent, stream = make_agent(*methods, learning_rate=1e-2)
        visit(agent, stream[0], 300)
        roots = [torch.linalg.svdvals(part.parameters()[name].detach()) / 2**0.5
                 for part in agent.parts.values() for name in part.kernels]
        return max((values - 1).abs().max().item() for values in roots)

    assert spread(crl.make_method("parseval", coefficient=1.0)) < 0.1
    assert spread() > 0.5  # the control


def test_a_scale_without_a_root_is_refused():
    with pytest.raises(crl.UserError, match="scale must be above 0"):
        crl.make_method("parseval", scale=0.0)
