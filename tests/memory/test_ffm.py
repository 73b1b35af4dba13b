"""Fast and forgetful memory: the published sum, in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from crl.memory import make_memory


def make(**options):
    return make_memory("ffm", 3, 6, torch.Generator().manual_seed(0), **options)


def traces(memory, x: torch.Tensor) -> torch.Tensor:
    """The traces after each step of one sequence [L, in]: complex [L, m, c]."""
    m, c = memory._sizes
    state, states = memory.initial_state(1), []
    with torch.no_grad():
        for row in x:
            _, state = memory.step(row[None], state, torch.tensor([False]))
            states.append(torch.complex(*state[0].chunk(2)).reshape(m, c))
    return torch.stack(states)


def test_traces_are_the_sum_of_all_inputs_faded_and_turned():
    """Sₜ[j, k] = Σᵢ exp((αⱼ + iωₖ)(t − i)) uᵢ[j]."""
    memory = make(traces=4, frequencies=3, longest=50).double()
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        pre = x @ memory.pre.kernel + memory.pre.bias
        u = pre[:, :4] * torch.sigmoid(pre[:, 10:14])
        rate = torch.complex(-memory.log_decay.exp()[:, None].expand(4, 3),
                             memory.frequency[None, :].expand(4, 3))
        t = torch.arange(30, dtype=torch.float64)
        kernel = torch.exp(rate * t[:, None, None])  # [L, m, c]
        for now in (0, 7, 29):
            expected = sum(kernel[now - i] * u[i][:, None] for i in range(now + 1))
            assert torch.allclose(traces(memory, x)[now], expected)


def test_the_output_is_the_published_one():
    """LN(W [Re S, Im S] + b) ⊙ σ(g) + past ⊙ (1 − σ(g))."""
    memory = make(traces=4, frequencies=3).double()
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        s = traces(memory, x)[-1].flatten()
        mixed = torch.cat((s.real, s.imag)) @ memory.mix.kernel + memory.mix.bias
        normal = (mixed - mixed.mean()) / torch.sqrt(mixed.var(correction=0) + 1e-5)
        pre = x[-1] @ memory.pre.kernel + memory.pre.bias
        past, gate = pre[4:10], torch.sigmoid(pre[14:])
        out, _ = memory.scan(x[None], memory.initial_state(1), torch.zeros(1, 5, dtype=bool))
        assert torch.allclose(out[0, -1], normal * gate + past * (1 - gate))


def test_traces_begin_as_published():
    memory = make()
    decay = -memory.log_decay.exp()
    assert decay[0].item() == pytest.approx(-0.673, abs=1e-6)
    assert math.exp(1024 * decay[-1].item()) == pytest.approx(0.01, rel=1e-4)
    assert torch.allclose(decay.diff(), decay.diff()[0], atol=1e-5)
    assert (2 * math.pi / memory.frequency).tolist() == pytest.approx([1, 342, 683, 1024], rel=1e-4)


def test_single_precision_lasts_where_the_rescaled_sum_overflows():
    length = 2000
    x = torch.randn(1, length, 3, generator=torch.Generator().manual_seed(1))
    first = torch.zeros(1, length, dtype=torch.bool)
    memory = make()
    with torch.no_grad():
        out, _ = memory.scan(x, memory.initial_state(1), first)
        memory.double()
        exact, _ = memory.scan(x.double(), memory.initial_state(1), first)
    assert torch.allclose(out.double(), exact, atol=1e-3)
    # The control: exp(−α t) summed and scaled back, as released.
    decay = -memory.log_decay.exp().detach().float()
    t = torch.arange(length).unsqueeze(1)
    rescaled = torch.exp(decay * t) * torch.cumsum(torch.exp(-decay * t), 0)
    assert not rescaled.isfinite().all()


def test_no_gradient_makes_a_trace_grow():
    memory = make(traces=4, frequencies=2)
    with torch.no_grad():
        memory.log_decay.copy_(torch.tensor([-30.0, -3.0, 0.0, 30.0]))
    real, imag = memory._factors()
    assert (real.square() + imag.square() <= 1 + 1e-6).all()


def test_untrained_traces_tell_the_fourth_last_of_four_suits_six_times_in_ten():
    """By least squares: what policies with it reach in repeat-previous before its pace has learned.
    """
    g = torch.Generator().manual_seed(0)
    suits = torch.randint(4, (400, 51), generator=g)
    cards = torch.nn.functional.one_hot(suits, 4).float()
    memory = make_memory("ffm", 64, 64, g)
    first = torch.zeros(400, 51, dtype=torch.bool)
    with torch.no_grad():
        x = (cards @ torch.randn(4, 64, generator=g)).relu()
        seen = memory.scan(x, memory.initial_state(400), first)[0][:, 10:].flatten(0, 1)
    right = {}
    for back in (0, 3):
        then = suits[:, 10 - back:51 - back].flatten()
        one_hot = torch.nn.functional.one_hot(then, 4).float()
        half = len(then) // 2
        read = torch.linalg.lstsq(seen[:half], one_hot[:half], driver="gelsd").solution
        right[back] = ((seen[half:] @ read).argmax(-1) == then[half:]).float().mean().item()
    assert right[0] > 0.99
    assert 0.5 < right[3] < 0.7
