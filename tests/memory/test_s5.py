"""S5: the recurrence of its dense form, stable whatever the weights, HiPPO at first."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.func import functional_call

from crl.memory import make_memory, modes
from crl.memory.s5 import S5, S5Layer, hippo_modes


def make(**options):
    return make_memory("s5", 3, 6, torch.Generator().manual_seed(0),
                       **{"modes": 8, "blocks": 2, "layers": 1, **options})


def modulus(layer) -> torch.Tensor:
    (real, imag), _ = layer.discretised()
    return (real.square() + imag.square()).sqrt().detach()


def test_a_layer_is_the_bilinear_discretisation_of_its_continuous_system():
    """x' = Λx + Bu by (I − ΔΛ/2)⁻¹((I + ΔΛ/2) x + Δ B u), with matrices, step by step."""
    memory = make().double()
    layer = memory.layers[0]
    p = {n: v.detach().numpy() for n, v in layer.named_parameters()}
    half = len(p["frequency"])
    lam = np.diag(-1 / (p["slowness"] ** 2 + 0.5) + 1j * p["frequency"])
    step = np.diag(np.exp(p["log_step"]))
    b = p["b"][:, :half].T + 1j * p["b"][:, half:].T
    c = p["c"][:half].T - 1j * p["c"][half:].T
    eye = np.eye(half)
    inverse = np.linalg.inv(eye - step @ lam / 2)
    u = np.random.default_rng(0).normal(size=(20, 6))
    x, ys = np.zeros(half, complex), []
    for row in u:
        x = inverse @ ((eye + step @ lam / 2) @ x + step @ b @ row)
        ys.append((c @ x).real + p["d"] * row)

    seen = []
    states = torch.zeros(1, 2 * half, dtype=torch.float64)
    with torch.no_grad():
        for row in torch.from_numpy(u):
            a, scale = layer.discretised()
            states = modes.advance(a, layer.inputs(row[None], scale), states)
            seen.append((states @ layer.c + layer.d * row)[0])
    assert np.allclose(torch.stack(seen).numpy(), ys)
    assert np.allclose(torch.complex(*states[0].chunk(2)).numpy(), x)


@pytest.mark.parametrize("size", [2, 8, 16])
def test_modes_are_those_of_the_normal_part_of_hippo(size):
    values, vectors = (t.numpy() for t in hippo_modes(size))
    n = np.arange(size)
    legs = np.array([[-np.sqrt((2 * i + 1) * (2 * j + 1)) if i > j else -(i + 1) * (i == j)
                      for j in n] for i in n])
    normal = legs + np.outer(np.sqrt(n + 0.5), np.sqrt(n + 0.5))
    assert np.allclose(vectors @ np.diag(values) @ vectors.conj().T, normal, atol=1e-4 * size)
    assert np.allclose(values.real, -0.5)


def test_time_constants_are_twenty_to_two_thousand_steps_at_first():
    """Of modes that turn slowly; the bilinear map slows the decay of those near half a turn."""
    layer = make(modes=256, blocks=4).layers[0]
    constants = -1 / modulus(layer).log()
    slow = (layer.frequency * layer.log_step.exp()).abs() < 0.3
    assert slow.sum() > 50
    assert 20 <= constants[slow].min() < 60
    assert 1000 < constants[slow].max() <= 2100
    assert constants[~slow].max() > 2100


def test_mimetic_modes_sum_over_time():
    layer = make(modes=16, blocks=1, init="mimetic").layers[0]
    (real, imag), _ = layer.discretised()
    assert torch.allclose(real[::2], torch.ones(8), atol=2e-5)
    assert torch.allclose(imag[::2], torch.zeros(8), atol=1e-6)
    assert (modulus(layer)[1::2] < 0.9999).all()


@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
def test_no_weights_make_it_unstable(scale):
    layer = make(modes=64, blocks=1).double().layers[0]
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in (layer.slowness, layer.frequency, layer.log_step):
            parameter.add_(scale * torch.randn(64, generator=g, dtype=torch.float64))
    assert (modulus(layer) <= 1).all()


def test_a_frozen_layer_follows_its_parameters():
    """What is kept between steps is made anew when weights are put in, and only then."""
    memory, other = (make_memory("s5", 5, 4, torch.Generator().manual_seed(seed), modes=8,
                                 blocks=2) for seed in (0, 1))
    memory.requires_grad_(False)
    x, first = torch.randn(3, 5), torch.zeros(3, dtype=torch.bool)
    state = torch.randn(3, memory.state_size)
    with torch.inference_mode():
        before = memory.step(x, state, first)[0]
        assert memory.layers[0].discretised() is memory.layers[0].discretised()
    with torch.no_grad():
        for p, q in zip(memory.parameters(), other.parameters(), strict=True):
            p.copy_(q)
    with torch.inference_mode():
        assert torch.equal(memory.step(x, state, first)[0], other.step(x, state, first)[0])
        assert torch.equal(copy.deepcopy(memory).step(x, state, first)[0],
                           other.step(x, state, first)[0])
        assert not torch.allclose(before, memory.step(x, state, first)[0])
    layer, swapped = memory.layers[0], {n: p + 0.1 for n, p in memory.layers[0].named_parameters()}
    layer.forward = lambda: layer.discretised()[0][0]
    assert not torch.allclose(functional_call(layer, swapped, ()), layer())


def test_normalized_inputs_leave_states_the_variance_of_what_comes_in():
    """White noise in, and the state's variance is that of B u; by steps it is about Δ/2 of it."""
    variances = {}
    for normalized in (True, False):
        layer = S5Layer(4, S5.Config(modes=16, blocks=2, normalized=normalized),
                        torch.Generator().manual_seed(0))
        a, scale = layer.discretised()
        decay, entering = (torch.complex(*pair).abs().square().double() for pair in (a, scale))
        variances[normalized] = entering / (1 - decay)  # of Σ Āᵏ s w, w white
    torch.testing.assert_close(variances[True], torch.ones(16, dtype=torch.float64), rtol=1e-3,
                               atol=0)
    assert variances[False].max() < 0.11
