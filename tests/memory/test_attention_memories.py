"""RMC, GTrXL, TrMRL and HCAM: each against its equations written out, and how far each sees."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

import crl
from crl.memory import make_memory

WIDTH, HEADS = 8, 2


def make(name: str, seed: int = 0, **options):
    generator = torch.Generator().manual_seed(seed)
    return make_memory(name, 3, WIDTH, generator, heads=HEADS, **options).double()


def inputs(length: int, batch: int = 1) -> Tensor:
    g = torch.Generator().manual_seed(length)
    return torch.randn(batch, length, 3, generator=g, dtype=torch.float64)


def outputs(memory, x: Tensor) -> Tensor:
    first = torch.zeros(x.shape[:2], dtype=torch.bool)
    with torch.no_grad():
        return memory.scan(x, memory.initial_state(len(x)), first)[0]


def reach(memory, length: int) -> int:
    """How many steps later the first input still matters."""
    x = inputs(length)
    other = x.clone()
    other[:, 0] += 1
    changed = (outputs(memory, x) - outputs(memory, other)).abs().amax(-1)[0] > 1e-12
    return int(changed.nonzero().max())


def dense(layer, x: np.ndarray) -> np.ndarray:
    return x @ layer.kernel.detach().numpy() + layer.bias.detach().numpy()


def norm(layer, x: np.ndarray) -> np.ndarray:
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return normal * layer.weight.detach().numpy() + layer.bias.detach().numpy()


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def attention(query: np.ndarray, keys: np.ndarray, values: np.ndarray, heads: int = HEADS,
              bias: np.ndarray | None = None) -> np.ndarray:
    """Of one query [W] to [K, W], head by head; bias [heads, K]."""
    out, size = [], len(query) // heads
    for h in range(heads):
        own = slice(h * size, (h + 1) * size)
        score = keys[:, own] @ query[own] + (0 if bias is None else bias[h])
        out.append(softmax(score / math.sqrt(size)) @ values[:, own])
    return np.concatenate(out)


def positions(count: int, width: int = WIDTH) -> np.ndarray:
    rate = 10_000.0 ** (-np.arange(0, width, 2) / width)
    angle = np.arange(count)[:, None] * rate
    return np.concatenate((np.sin(angle), np.cos(angle)), -1)


# ---- relational memory core ----


def test_rmc_is_its_equations():
    memory = make("rmc", slots=3, width=4)
    x = inputs(6)
    m = np.eye(3, 4)
    for row, out in zip(x[0].numpy(), outputs(memory, x)[0].numpy(), strict=True):
        entered = dense(memory.enter, row)
        query, key, value = np.split(dense(memory.attention, np.vstack((m, entered))), 3, -1)
        found = np.stack([attention(query[i], key, value) for i in range(3)])
        a = norm(memory.norms[0], m + found)
        new = norm(memory.norms[1],
                   a + dense(memory.back, np.maximum(dense(memory.hidden, a), 0)))
        gates = dense(memory.gates_of_input, entered) + dense(memory.gates_of_memory, np.tanh(m))
        gate_in, forget = np.split(gates, 2, -1)
        m = sigmoid(gate_in) * np.tanh(new) + sigmoid(forget + 1) * m
        assert np.allclose(dense(memory.leave, m.flatten()), out, atol=1e-6)


def test_slots_differ():
    """The control: from a start of zeros all slots stay equal for ever."""
    def spread(memory) -> float:
        x = inputs(5)
        state = memory.initial_state(1)
        for t in range(5):
            _, state = memory.step(x[:, t], state, torch.tensor([False]))
        slots = state.view(3, 4) + memory.start
        return float((slots[0] - slots[1]).abs().max().detach())

    memory = make("rmc", slots=3, width=4)
    assert spread(memory) > 0.1
    memory.start.zero_()
    assert spread(memory) < 1e-12


# ---- GTrXL ----


def test_gtrxl_is_its_equations():
    memory = make("gtrxl", layers=2, window=3)
    x = inputs(9)
    h = dense(memory.enter, x[0].numpy())
    for layer in memory.layers:
        seen = norm(layer.norm_in, h)
        key, value = np.split(dense(layer.key_value, seen), 2, -1)
        where = dense(layer.distance, positions(4))
        new = []
        for t in range(len(h)):
            window = range(max(0, t - 3), t + 1)
            query = dense(layer.query, seen[t])
            by_distance = query + layer.distance_bias.detach().numpy()
            size = WIDTH // HEADS
            bias = np.stack([[where[t - s][i * size:(i + 1) * size]
                              @ by_distance[i * size:(i + 1) * size] for s in window]
                             for i in range(HEADS)])
            found = attention(query + layer.content_bias.detach().numpy(), key[window],
                              value[window], bias=bias)
            y = gate(layer.gate_attended, h[t], np.maximum(dense(layer.attended, found), 0))
            wide = np.maximum(dense(layer.wide, norm(layer.norm_mid, y)), 0)
            new.append(gate(layer.gate_narrow, y, np.maximum(dense(layer.narrow, wide), 0)))
        h = np.stack(new)
    assert np.allclose(outputs(memory, x)[0].numpy(), h, atol=1e-6)


def gate(layer, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    reset, update, new = np.split(dense(layer.of_layer, y), 3)
    reset_x, update_x = np.split(dense(layer.of_past, x), 2)
    reset, update = sigmoid(reset + reset_x), sigmoid(update + update_x - 2)
    return (1 - update) * x + update * np.tanh(new + dense(layer.of_reset, reset * x))


@pytest.mark.parametrize(("layers", "window"), [(1, 4), (3, 4), (2, 70)])
def test_gtrxl_sees_a_window_a_layer_and_no_further(layers, window):
    memory = make("gtrxl", layers=layers, window=window)
    assert reach(memory, layers * window + 10) == layers * window


def test_gates_of_gtrxl_let_a_new_layer_change_little():
    """z = σ(−2) = 0.12 of what comes out of it."""
    layer = make("gtrxl").layers[0]
    x = torch.randn(100, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.zeros(100, WIDTH, dtype=torch.float64)
    change = (layer.gate_attended(x, y) - x).norm() / x.norm()
    assert change < 0.2


# ---- TrMRL ----


@pytest.mark.parametrize("window", [2, 5])
def test_trmrl_sees_its_window_and_no_further(window):
    assert reach(make("trmrl", window=window), 20) == window - 1


def test_trmrl_is_a_transformer_over_the_last_steps():
    memory = make("trmrl", window=4, layers=2)
    x = inputs(6)
    entered = dense(memory.enter, x[0].numpy())
    for t in range(6):
        begin = max(0, t - 3)
        h = entered[begin:t + 1] + positions(4)[-(t + 1 - begin):]
        for layer in memory.layers:
            query, key = np.split(dense(layer.query_key, h), 2, -1)
            value = dense(layer.value, h)
            h = h + dense(layer.attended, np.stack([attention(q, key, value) for q in query]))
            h = h + dense(layer.narrow, np.maximum(dense(layer.wide, h), 0))
        assert np.allclose(outputs(memory, x)[0, t].numpy(), h[-1], atol=1e-6)


def test_trmrl_begins_as_t_fixup_says():
    """The kernels that it scales, beside those that it leaves alone, all drawn alike."""
    memory = make_memory("trmrl", 3, 64, torch.Generator().manual_seed(0), layers=4)
    layer = memory.layers[0]
    scaled = layer.value.kernel.std() / layer.query_key.kernel.std()
    assert float(scaled.detach()) == pytest.approx(0.67 * 4**-0.25, rel=0.05)


# ---- HCAM ----


def hcam_by_hand(memory, x: np.ndarray, kept: int, size: int, best: int) -> np.ndarray:
    h = dense(memory.enter, x)
    places, outs = positions(size), []
    for t in range(len(h)):
        current = t // size
        own = norm(memory.norms[0], h[current * size:t + 1])
        keys = own + places[:len(own)]
        y = h[t] + projected(memory.local, keys[-1], keys)
        query = norm(memory.norms[1], y)
        here = query + places[t % size]
        chunks = [h[k * size:(k + 1) * size] for k in range(max(0, current - kept), current)]
        if chunks:
            fit = np.array([dense(memory.look, query) @ dense(memory.label, c.mean(0))
                            for c in chunks]) / math.sqrt(WIDTH)
            chosen = np.argsort(-fit)[:best]
            for w, k in zip(softmax(fit[chosen]), chosen, strict=True):
                inside = norm(memory.norms[1], chunks[k]) + places
                y = y + w * projected(memory.within, here, inside)
        wide = np.maximum(dense(memory.wide, norm(memory.norms[2], y)), 0)
        outs.append(y + dense(memory.narrow, wide))
    return np.stack(outs)


def projected(layer, query: np.ndarray, memory: np.ndarray) -> np.ndarray:
    key, value = np.split(dense(layer.key_value, memory), 2, -1)
    return dense(layer.out, attention(dense(layer.query, query), key, value))


@pytest.mark.parametrize("best", [1, 2])
def test_hcam_is_its_equations(best):
    memory = make("hcam", chunks=3, chunk=4, best=best)
    x = inputs(30)
    expected = hcam_by_hand(memory, x[0].numpy(), 3, 4, best)
    assert np.allclose(outputs(memory, x)[0].numpy(), expected, atol=1e-6)


def test_hcam_can_tell_how_long_ago_something_was():
    """Which of four came three steps ago; it must know its own place to say so."""
    generator = torch.Generator().manual_seed(0)
    memory = make_memory("hcam", 4, 32, generator)
    parameters = [*memory.parameters(), kernel := torch.zeros(32, 4, requires_grad=True)]
    optimizer, first = torch.optim.Adam(parameters, 3e-3), torch.zeros(8, 40, dtype=torch.bool)
    for _ in range(300):
        shown = torch.randint(4, (8, 40), generator=generator)
        out, _ = memory.scan(one_hot(shown, 4).float(), memory.initial_state(8), first)
        loss = cross_entropy((out[:, 3:] @ kernel).flatten(0, 1), shown[:, :-3].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3  # guessing: log 4


def test_hcam_sees_as_many_chunks_as_it_keeps():
    """The first step is in the first chunk, which goes when three later ones are full."""
    assert reach(make("hcam", chunks=3, chunk=4, best=3), 40) == 4 + 3 * 4 - 1


def test_no_gradient_passes_through_the_means_of_chunks():
    """With one chunk to look into, its weight is 1: what its label says has no effect."""
    memory = make("hcam", chunks=3, chunk=4, best=2)
    x = inputs(13).requires_grad_()
    first = torch.zeros(1, 13, dtype=torch.bool)
    out, _ = memory.scan(x, memory.initial_state(1), first)
    (whole,) = torch.autograd.grad(out[0, -1].sum(), x)
    assert whole[0, :4].abs().max() > 0  # by way of what is attended to
    with torch.no_grad():
        memory.within.out.kernel.zero_()  # now what is attended to does not matter
    out, _ = memory.scan(x, memory.initial_state(1), first)
    (through_weights,) = torch.autograd.grad(out[0, -1].sum(), x)
    assert through_weights[0, :12].abs().max() == 0


@pytest.mark.parametrize("name", ["gtrxl", "trmrl", "hcam"])
def test_a_hidden_size_that_heads_do_not_divide_is_refused(name):
    with pytest.raises(crl.UserError, match="hidden size of 8 is no multiple of 3 heads"):
        make_memory(name, 3, 8, torch.Generator(), heads=3)
