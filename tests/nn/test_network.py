"""Passes against autograd through plain layers, in float64; products against torch's own."""

from __future__ import annotations

import pytest
import torch

from crl.nn.network import Network
from crl.nn.products import affine, input_gradient, kernel_gradient


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(dtype=torch.float64, hidden=(8, 6), size_in=5, **settings) -> Network:
    network = Network(size_in, 3, hidden, 4, generator(), **settings)
    with torch.no_grad():  # biases and normalisation away from 0 and 1
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator(1)))
    return network.to(dtype)


def gradients(network: Network) -> dict[str, torch.Tensor | None]:
    return {name: p.grad for name, p in network.named_parameters()}


HEADS = {"one": 2, "per row": torch.tensor([0, 3, 3, 1, 0, 3, 0]),
         "sorted": torch.tensor([0, 0, 1, 1, 1, 3, 3])}


class Plain(torch.nn.Module):
    """ReLU as a module that a method might put in: the network is no longer plain."""

    def forward(self, x, head):
        return torch.relu(x)


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("form", ["normalised", "bare", "changed"])
def test_a_pass_equals_autograd(head, form):
    network, by_hand = (make(layer_norm=form == "normalised") for _ in range(2))
    if form == "changed":
        by_hand.trunk.activation = torch.nn.ModuleList(Plain() for _ in range(2))
    assert by_hand.plain == (form != "changed")
    x = torch.randn(7, 5, generator=generator(2), dtype=torch.float64, requires_grad=True)
    at_out = torch.randn(7, 3, generator=generator(3), dtype=torch.float64)
    out = network(x, head)
    out.backward(at_out)

    done = by_hand.run(x, head)
    torch.testing.assert_close(done.out, out.detach())
    for ours, expected in zip(done.hidden, network.features(x, head), strict=True):
        torch.testing.assert_close(ours, expected.detach())
    assert not done.out.requires_grad
    torch.testing.assert_close(done.to_inputs(at_out), x.grad)
    assert all(g is None for g in gradients(by_hand).values())
    done.to_weights(at_out)
    expected = gradients(network)
    for name, gradient in gradients(by_hand).items():
        assert (gradient is None) == (expected[name] is None), name
        if gradient is not None:
            torch.testing.assert_close(gradient, expected[name], msg=name)


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("changed", [False, True])
def test_rows_may_be_asked_for_different_things(head, changed):
    together, apart = make(), make()
    if changed:
        together.trunk.activation = torch.nn.ModuleList(Plain() for _ in range(2))
    x = torch.randn(7, 5, generator=generator(2), dtype=torch.float64)
    at_out = torch.randn(7, 3, generator=generator(3), dtype=torch.float64)
    first, last = slice(0, 4), slice(4, None)
    with torch.no_grad():  # as agents do
        done = together.run(x, head)
        done.to_weights(at_out[first], first)
        at_x = done.to_inputs(at_out[last], last)

    def of(rows):
        return head if isinstance(head, int) else head[rows]
    apart.run(x[first], of(first)).to_weights(at_out[first])
    torch.testing.assert_close(at_x, apart.run(x[last], of(last)).to_inputs(at_out[last]))
    expected = gradients(apart)
    for name, gradient in gradients(together).items():
        if expected[name] is not None:
            torch.testing.assert_close(gradient, expected[name], msg=name)
        else:  # a head of the other rows: by hand not at all, by autograd zero
            assert gradient is None or (changed and (gradient == 0).all())


def test_gradients_add_up():
    once, twice = make(), make()
    x = torch.randn(7, 5, generator=generator(2), dtype=torch.float64)
    once.run(x, 0).to_weights(torch.ones(7, 3, dtype=torch.float64))
    for _ in range(2):
        twice.run(x, 0).to_weights(torch.full((7, 3), 0.5, dtype=torch.float64))
    torch.testing.assert_close(gradients(once), gradients(twice))


@pytest.mark.parametrize("layer_norm", [True, False])
def test_large_layers_and_bfloat16_agree_with_autograd(layer_norm):
    """Wide enough for the other library's products; bfloat16 to its few per cent."""
    sizes = {"hidden": (256, 256), "size_in": 43, "layer_norm": layer_norm}
    exact = make(torch.float64, **sizes)
    x = torch.randn(128, 43, generator=generator(2), dtype=torch.float64, requires_grad=True)
    at_out = torch.randn(128, 3, generator=generator(3), dtype=torch.float64)
    out = exact(x, 1)
    out.backward(at_out)
    for bf16, tolerance in ((False, 1e-5), (True, 0.1)):
        network = make(torch.float32, bf16=bf16, **sizes)
        done = network.run(x.detach().float(), 1)
        done.to_weights(at_out.float())

        def error(ours, expected):
            return ((ours - expected).norm() / expected.norm()).item()
        errors = [error(done.out, out), error(done.to_inputs(at_out.float()), x.grad)]
        errors += [error(g, e) for g, e in zip(gradients(network).values(),
                                               gradients(exact).values(), strict=True)
                   if e is not None]
        assert max(errors) < tolerance
        assert done.out.dtype == torch.float32
        assert all(p.dtype == torch.float32 for p in network.parameters())
    assert max(errors) > 1e-4, "the control: bfloat16 was not used"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("sizes", [(3, 4, 2), (128, 40, 256), (128, 256, 8), (64, 512, 256)])
def test_products_equal_torchs(sizes, dtype):
    rows, size_in, size_out = sizes
    x, kernel, bias, g = (
        torch.randn(shape, generator=generator(i)).to(dtype)
        for i, shape in enumerate([(rows, size_in), (size_in, size_out), (size_out,),
                                   (rows, size_out)]))
    tolerance = {"atol": 2e-2 * size_in**0.5, "rtol": 2e-2} if dtype is torch.bfloat16 else {}
    if dtype is torch.float32:
        tolerance = {"atol": 1e-5 * size_in**0.5, "rtol": 1e-5}
    exact = [t.double() for t in (x, kernel, bias, g)]
    expected = exact[0] @ exact[1] + exact[2]
    torch.testing.assert_close(affine(x, kernel, bias).double(), expected, **tolerance)
    torch.testing.assert_close(affine(x, kernel, bias, relu=True).double(), expected.relu(),
                               **tolerance)
    torch.testing.assert_close(input_gradient(g, kernel).double(), exact[3] @ exact[1].T,
                               **tolerance)
    torch.testing.assert_close(kernel_gradient(x, g).double(), exact[0].T @ exact[3], **tolerance)
