"""What every memory promises, whichever it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import crl
from crl.memory import Memory, make_memory
from crl.registry import memories

SIZE_IN, HIDDEN, BATCH = 5, 8, 3
SMALL = {"s5": {"modes": 8, "blocks": 2}, "ffm": {"traces": 4, "frequencies": 3},
         "rmc": {"width": 8}, "dt-mem": {"slots": 4, "width": 8}, "gtrxl": {"window": 6},
         "hcam": {"chunks": 3, "chunk": 5}}
LENGTHS = [1, 2, 17, 64, 1000]


@pytest.fixture(params=memories.names())
def name(request) -> str:
    return request.param


def make(name: str, seed: int = 0, **options) -> Memory:
    generator = torch.Generator().manual_seed(seed)
    options = {**SMALL.get(name, {}), **options}
    return make_memory(name, SIZE_IN, HIDDEN, generator, **options).double()


def sequence(length: int, batch: int = BATCH, resets: float = 0.1) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(length)
    x = torch.randn(batch, length, SIZE_IN, generator=g, dtype=torch.float64)
    return x, torch.rand(batch, length, generator=g) < resets


def some_state(memory: Memory) -> Tensor:
    """A state that a sequence leads to."""
    x, first = sequence(7)
    with torch.no_grad():
        return memory.scan(x, memory.initial_state(BATCH), first)[1]


def stepped(memory: Memory, x: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    outs = []
    for t in range(x.shape[1]):
        out, state = memory.step(x[:, t], state, first[:, t])
        outs.append(out)
    return torch.stack(outs, 1), state


@pytest.mark.parametrize("length", LENGTHS)
def test_a_scan_gives_what_its_steps_give_values_and_gradients(name, length):
    memory = make(name)
    x, first = sequence(length)
    found = []
    for run in (memory.scan, lambda *a: stepped(memory, *a)):
        inputs = [x.clone().requires_grad_(), some_state(memory).requires_grad_()]
        out, last = run(*inputs, first)
        g = torch.Generator().manual_seed(0)
        weight = torch.randn(out.shape, generator=g, dtype=out.dtype)
        loss = (out * weight).sum() + last.sin().sum()
        found.append((out, last, *torch.autograd.grad(loss, [*inputs, *memory.parameters()])))
    for scanned, expected in zip(*found, strict=True):
        assert torch.allclose(scanned, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("cut", [1, 20, 63])
def test_a_sequence_may_be_split_anywhere(name, cut):
    memory = make(name)
    x, first = sequence(64)
    state = some_state(memory)
    out, last = memory.scan(x, state, first)
    head, between = memory.scan(x[:, :cut], state, first[:, :cut])
    tail, end = memory.scan(x[:, cut:], between, first[:, cut:])
    assert torch.allclose(torch.cat((head, tail), 1), out, rtol=1e-9, atol=1e-12)
    assert torch.allclose(end, last, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("run", ["scan", "step"])
def test_nothing_crosses_the_start_of_an_episode_not_even_what_is_not_a_number(name, run):
    memory = make(name)
    x, first = sequence(40, resets=0)
    first[:, 20] = True
    clean, clean_last = memory.scan(x[:, 20:], memory.initial_state(BATCH), first[:, 20:])
    broken = x.clone()
    broken[:, :20] = float("nan")
    broken.requires_grad_()
    state = torch.full((BATCH, memory.state_size), float("nan"), dtype=torch.float64)
    scan = memory.scan if run == "scan" else lambda *a: stepped(memory, *a)
    out, last = scan(broken, state, first)
    assert out[:, :20].isnan().any()
    assert torch.allclose(out[:, 20:], clean)
    assert torch.allclose(last, clean_last)
    (gradient,) = torch.autograd.grad(out[:, 20:].sum(), broken)
    assert gradient[:, 20:].isfinite().all()
    assert gradient[:, 20:].abs().sum() > 0


def test_an_episode_depends_on_what_came_before_within_it(name):
    """The control of the test above: without the flag, the past is seen."""
    memory = make(name)
    x, first = sequence(4, resets=0)
    other = x.clone()
    other[:, 0] += 1
    state = memory.initial_state(BATCH)
    change = (memory.scan(x, state, first)[0] - memory.scan(other, state, first)[0]).abs()
    assert (change[:, -1].max() > 1e-6) == (name != "mlp")


@pytest.mark.parametrize("name", ["trmrl", "gtrxl", "hcam", "mlp"])
def test_what_is_longer_ago_than_the_context_is_out_of_sight(name):
    memory = make(name)
    x, first = sequence(memory.context + 8, resets=0)
    out = memory.scan(x, memory.initial_state(BATCH), first)[0]
    for age in range(memory.context + 3):
        other = x.clone()
        other[:, -1 - age] += 1
        change = (memory.scan(other, memory.initial_state(BATCH), first)[0] - out).abs()[:, -1]
        assert age < memory.context or change.max() == 0
        if age == 0 or (age == memory.context - 1 and name == "trmrl"):
            assert change.max() > 1e-9


@pytest.mark.parametrize("name", ["gru", "lstm", "ffm", "s5", "bilinear", "rmc", "dt-mem"])
def test_what_goes_through_a_state_is_not_context(name):
    memory = make(name)
    x, first = sequence(30, resets=0)
    other = x.clone()
    other[:, 0] += 1
    outs = [memory.scan(o, memory.initial_state(BATCH), first)[0] for o in (x, other)]
    assert memory.context == 1
    assert (outs[0] - outs[1]).abs()[:, -1].max() > 1e-12


def test_the_future_is_not_seen(name):
    memory = make(name)
    x, first = sequence(50)
    other = x.clone()
    other[:, 30:] = 7.0
    state = memory.initial_state(BATCH)
    assert torch.equal(memory.scan(x, state, first)[0][:, :30],
                       memory.scan(other, state, first)[0][:, :30])


def test_rows_of_a_batch_do_not_mix(name):
    memory = make(name)
    x, first = sequence(30)
    state = some_state(memory)
    together, _ = memory.scan(x, state, first)
    for row in range(BATCH):
        one = slice(row, row + 1)
        alone, _ = memory.scan(x[one], state[one], first[one])
        assert torch.allclose(together[one], alone, rtol=1e-9, atol=1e-12)


def test_a_state_has_the_size_it_says_and_keeps_it(name):
    memory = make(name)
    state = memory.initial_state(2)
    assert state.shape == (2, memory.state_size)
    assert not state.any()
    x, first = sequence(300, batch=2)
    for t in range(300):
        out, state = memory.step(x[:, t], state, first[:, t])
    assert state.shape == (2, memory.state_size)
    assert out.shape == (2, memory.output_size) == (2, HIDDEN)


def test_gradients_are_finite_over_ten_thousand_steps_in_single_precision(name):
    memory = make(name).float()
    x, first = sequence(10_000, batch=1, resets=0)
    x = x.float().requires_grad_()
    out, _ = memory.scan(x, memory.initial_state(1), first)
    assert out.isfinite().all()
    gradients = torch.autograd.grad(out.square().sum(), [x, *memory.parameters()])
    assert all(g.isfinite().all() for g in gradients)


def test_weights_come_from_the_generator_alone(name):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, same, other = make(name), make(name), make(name, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    a, b, c = (torch.cat([p.flatten() for p in m.parameters()]) for m in (one, same, other))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_unknown_names_and_options_are_refused():
    generator = torch.Generator()
    with pytest.raises(crl.UserError, match=r"unknown memory 'gruu'.*did you mean 'gru'"):
        make_memory("gruu", 2, 3, generator)
    with pytest.raises(crl.UserError, match=r"'layer'.*did you mean 'layers'"):
        make_memory("s5", 2, 3, generator, layer=2)
    with pytest.raises(crl.UserError, match="multiple of blocks"):
        make_memory("s5", 2, 3, generator, modes=10, blocks=4)


class Step(torch.nn.Module):
    """What is exported."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.memory = memory

    def forward(self, x: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        return self.memory.step(x, state, first)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_step_can_be_exported(name):
    """ONNX Runtime walks through episodes as torch does."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    memory = make(name).float().requires_grad_(False)
    x, state = torch.randn(BATCH, SIZE_IN), memory.initial_state(BATCH)
    program = torch.onnx.export(
        Step(memory), (x, state, torch.zeros(BATCH, dtype=torch.bool)), dynamo=True, verbose=False,
        input_names=["x", "state", "first"], output_names=["out", "next"])
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    g = torch.Generator().manual_seed(0)
    for _ in range(40):
        x, first = torch.randn(BATCH, SIZE_IN, generator=g), torch.rand(BATCH, generator=g) < 0.1
        out, following = memory.step(x, state, first)
        given = {"x": x, "state": state, "first": first}
        theirs = session.run(None, {i.name: given[i.name].numpy() for i in session.get_inputs()})
        assert np.allclose(theirs[0], out, atol=1e-5)
        assert np.allclose(theirs[1], following, atol=1e-5)
        state = following


def test_states_are_those_after_each_step(name):
    memory = make(name)
    x, first = sequence(30)
    before = some_state(memory)
    outs, states = memory.states(x, before, first)
    assert torch.allclose(outs, memory.scan(x, before, first)[0], atol=1e-12)
    assert states.shape == (BATCH, 30, memory.state_size)
    for t in (0, 11, 29):
        assert torch.allclose(states[:, t], stepped(memory, x[:, :t + 1], before,
                                                    first[:, :t + 1])[1], atol=1e-12)
