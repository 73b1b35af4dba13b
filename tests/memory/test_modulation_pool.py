"""The pool of modulators: what a slot does, that it stays, and that samples do not mix."""

from __future__ import annotations

import copy
import math
import pickle
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

import crl
from crl.memory.modulation import ModulationPool
from crl.memory.modulators import IA3, FiLM, LoRA, Modulator, Prefix, rows
from crl.nn.adam import Adam
from crl.nn.attention import join_heads, split_heads
from crl.nn.layers import Dense
from crl.nn.network import Network, Pass

B, T, W, HEADS = 5, 4, 8, 2


class Attend(nn.Module):
    """What a prefix asks of an attention: a module that takes queries first, and says its sizes."""

    def __init__(self, heads: int, head_size: int) -> None:
        super().__init__()
        self.heads, self.head_size = heads, head_size

    def forward(self, query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, is_causal=causal)


class Attention(nn.Module):
    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (Dense(W, W, generator) for _ in range(4))
        self.attend = Attend(HEADS, W // HEADS)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (split_heads(layer(x), HEADS)
                             for layer in (self.query, self.key, self.value))
        return self.out(join_heads(self.attend(query, key, value, causal=True)))


class Block(nn.Module):
    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(W)
        self.attention = Attention(generator)
        self.mlp = nn.ModuleDict({"wide": Dense(W, 2 * W, generator), "act": nn.GELU(),
                                  "narrow": nn.Linear(2 * W, W)})
        with torch.no_grad():
            for parameter in self.mlp["narrow"].parameters():
                parameter.normal_(std=0.2, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x + self.attention(x))
        return x + self.mlp["narrow"](self.mlp["act"](self.mlp["wide"](x)))


class Backbone(nn.Module):
    """A small transformer: [B, T, W] → [B, T, 3]."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.blocks = nn.ModuleList(Block(generator) for _ in range(2))
        self.head = Dense(W, 3, generator)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


KINDS: dict[str, dict[str, Modulator]] = {
    "lora": {"blocks.*.attention.[qv]*": LoRA(3), "blocks.*.mlp.*w*": LoRA(2, alpha=4.0)},
    "ia3": {"blocks.*.attention.key": IA3(), "blocks.*.mlp.*w*": IA3()},
    "film": {"blocks.*.norm": FiLM(), "blocks.1.mlp.act": FiLM(2 * W), "head": FiLM()},
    "prefix": {"*.attend": Prefix(3)},
}
KINDS["all"] = {k: v for of_kind in ("film", "lora", "prefix") for k, v in KINDS[of_kind].items()}


@pytest.fixture(params=KINDS)
def kinds(request) -> dict[str, Modulator]:
    return KINDS[request.param]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inputs(batch: int = B) -> Tensor:
    return torch.randn(batch, T, W, generator=seeded(1))


def make(kinds, slots: int = 3, moved: bool = True, **options) -> ModulationPool:
    """A pool over a frozen backbone, of slots that differ from the backbone and each other."""
    pool = ModulationPool(Backbone().requires_grad_(False), kinds, seeded(), **options)
    for slot in range(1, slots + 1):
        assert pool.grow() == slot
        if moved:
            with torch.no_grad():
                for parameter in pool.slot_parameters(slot).values():
                    parameter += 0.3 * torch.randn(parameter.shape, generator=seeded(slot))
    return pool


def with_slot(pool: ModulationPool, slot, x: Tensor) -> Tensor:
    with pool.use(slot):
        return pool(x)


def learn(pool: ModulationPool, optimizer, slot: int, steps: int = 5) -> None:
    """Gradient steps of a slot towards a target of its own."""
    target = torch.randn(B, T, 3, generator=seeded(100 + slot))
    with pool.use(slot):
        for _ in range(steps):
            optimizer.zero_grad()
            (pool(inputs()) - target).square().mean().backward()
            optimizer.step()


# ---- a slot ----


def test_a_fresh_slot_does_what_the_backbone_does(kinds):
    expected = Backbone()(inputs())
    pool = make(kinds, moved=False)
    for slot in (None, 0, 1, 3, torch.tensor([0, 1, 3, 3, 2])):
        assert torch.allclose(with_slot(pool, slot, inputs()), expected, atol=1e-6)
    moved = make(kinds)
    assert torch.equal(with_slot(moved, 0, inputs()), expected)
    for slot in (1, 2, 3):  # the control
        assert (with_slot(moved, slot, inputs()) - expected).abs().max() > 0.05


def test_slots_are_drawn_from_the_generator():
    same, again, other = (ModulationPool(Backbone(), KINDS["all"], seeded(seed))
                          for seed in (0, 0, 1))
    for pool in (same, again, other):
        pool.grow()
        pool.grow()
    values = [[p for slot in (1, 2) for p in pool.slot_parameters(slot).values()]
              for pool in (same, again, other)]
    assert all(map(torch.equal, values[0], values[1]))
    assert not all(map(torch.equal, values[0], values[2]))
    assert not torch.equal(values[0][0], same.slot_parameters(2)["blocks.0.attention.query"
                                                                 ".slots.2.a"])


def test_lora_is_a_change_of_the_kernel():
    dense = Dense(4, 6, seeded())
    pool = ModulationPool(dense, {"": LoRA(2, alpha=6.0)}, seeded())
    pool.grow()
    a, b = pool.slot_parameters(1).values()
    assert pool.slot_parameters(1).keys() == {"slots.1.a", "slots.1.b"}
    assert a.abs().max() <= 1 / math.sqrt(4)
    assert (b == 0).all()
    nn.init.normal_(b, generator=seeded())
    x = torch.randn(7, 4, generator=seeded())
    expected = x @ (dense.kernel + 3 * a @ b) + dense.bias
    assert torch.allclose(with_slot(pool, 1, x), expected, atol=1e-5)


@pytest.mark.parametrize("kind", [FiLM(), IA3()])
def test_film_is_a_scale_and_a_shift(kind):
    pool = ModulationPool(nn.LayerNorm(4), {"": kind}, seeded())
    pool.grow()
    values = [nn.init.normal_(p, generator=seeded(i)) for i, p in
              enumerate(pool.slot_parameters(1).values())]
    x = torch.randn(2, 3, 4, generator=seeded())
    shift = values[1] if kind == FiLM() else 0
    assert torch.allclose(with_slot(pool, 1, x), F.layer_norm(x, (4,)) * values[0] + shift)


def test_a_prefix_is_seen_by_every_query_through_a_gate():
    attend = Attend(2, 3)
    pool = ModulationPool(attend, {"": Prefix(4)}, seeded())
    pool.grow()
    gate, key, value = (pool.slot_parameters(1)[f"slots.1.{n}"] for n in ("gate", "key", "value"))
    nn.init.normal_(gate, generator=seeded())
    query, k, v = torch.randn(3, B, 2, T, 3, generator=seeded())
    with pool.use(1):
        out = attend(query, k, v, causal=True)
    plain = Attend(2, 3)(query, k, v, causal=True)
    for b in range(B):
        for h in range(2):
            for t in range(T):
                weights = torch.softmax(key[h] @ query[b, h, t] / math.sqrt(3), 0)
                expected = plain[b, h, t] + gate[h] * weights @ value[h]
                assert torch.allclose(out[b, h, t], expected, atol=1e-5)


def test_slots_of_a_kind_have_the_gradients_of_finite_differences(kinds):
    """For one slot and for a slot a sample."""
    pool = make(kinds).double()
    x = inputs(3).double()
    for slot in (2, torch.tensor([1, 0, 2])):
        names, values = zip(*{**pool.slot_parameters(1), **pool.slot_parameters(2)}.items(),
                            strict=True)

        def out(*given, slot=slot, names=names):
            with pool.use(slot):
                return functional_call(pool.backbone, dict(zip(names, given, strict=True)), (x,))

        assert torch.autograd.gradcheck(out, values, fast_mode=True)


# ---- a slot for each sample ----


@pytest.mark.parametrize("slots", [[2, 0, 3, 2, 1], [3, 1, 1, 2, 3], [0, 2, 0, 0, 2]])
def test_a_mixed_batch_is_each_sample_alone_and_with_merged_weights(kinds, slots):
    pool, x, slots = make(kinds), inputs(), torch.tensor(slots)
    out = with_slot(pool, slots, x)
    for i, slot in enumerate(slots.tolist()):
        alone, merged = with_slot(pool, slot, x[i:i + 1])[0], pool.merged(slot)(x[i:i + 1])[0]
        assert torch.allclose(out[i], alone, atol=1e-5)
        assert torch.allclose(out[i], merged, atol=1e-5)
    others = with_slot(pool, (slots + 1) % 4, x)  # the control
    assert (out - others).abs().amax((1, 2)).min() > 1e-3


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=7), st.randoms(use_true_random=False))
def test_the_order_of_a_batch_does_not_matter(slots, random):
    pool, x = make(KINDS["all"]), inputs(len(slots))
    order = list(range(len(slots)))
    random.shuffle(order)
    slot = torch.tensor(slots)
    out, shuffled = with_slot(pool, slot, x), with_slot(pool, slot[order], x[order])
    assert torch.allclose(out[order], shuffled, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 4), (6, 1, 4), (6, 2, 3, 4), (6, 6, 4)])
def test_inputs_may_have_any_number_of_dimensions(shape):
    network = nn.Sequential(Dense(4, 6, seeded()), nn.LayerNorm(6))
    pool = ModulationPool(network, {"0": LoRA(2), "1": FiLM()}, seeded())
    for _ in range(2):
        for p in pool.slot_parameters(pool.grow()).values():
            nn.init.normal_(p, generator=seeded(len(pool)))
    x = torch.randn(shape, generator=seeded())
    slots = torch.tensor([1, 2, 0, 0, 2, 2])
    out = with_slot(pool, slots, x)
    assert out.shape == (*shape[:-1], 6)
    for i, slot in enumerate(slots.tolist()):
        assert torch.allclose(out[i], with_slot(pool, slot, x[i:i + 1])[0], atol=1e-5)


def test_slots_that_do_not_occur_get_no_gradient(kinds):
    pool = make(kinds, slots=4)
    pool.freeze(3)
    with_slot(pool, torch.tensor([3, 1, 1, 0, 4]), inputs()).square().sum().backward()
    for slot, learns in ((1, True), (2, False), (3, False), (4, True)):
        assert all((p.grad is not None) == learns for p in pool.slot_parameters(slot).values())
    assert all(p.grad is None for n, p in pool.backbone.named_parameters() if ".slots." not in n)


# ---- what is learned stays ----


@pytest.mark.parametrize("optimizer", [Adam, torch.optim.AdamW])
def test_finished_slots_stay_to_the_bit_whatever_the_momentum(kinds, optimizer):
    pool = make(kinds, moved=False)
    backbone = {n: p.clone() for n, p in Backbone().named_parameters()}
    expected = Backbone()(inputs())
    optimizer = optimizer([p for p in pool.parameters() if p.requires_grad], 1e-2)
    kept = []
    for slot in (1, 2, 3):
        learn(pool, optimizer, slot)
        pool.freeze(slot)
        kept.append(with_slot(pool, slot, inputs()))
        assert (kept[-1] - expected).abs().max() > 1e-2
    for slot, before in zip((1, 2, 3), kept, strict=True):
        assert torch.equal(with_slot(pool, slot, inputs()), before)
    assert torch.equal(with_slot(pool, 0, inputs()), expected)
    now = dict(pool.backbone.named_parameters())
    assert all(torch.equal(now[name], p) for name, p in backbone.items())


@pytest.mark.parametrize("separate", [True, False])
def test_in_one_parameter_momentum_moves_finished_slots(separate):
    """As in the published release, the control."""
    pool = [torch.zeros(4, requires_grad=True) for _ in range(2)] if separate else torch.zeros(
        2, 4, requires_grad=True)
    optimizer = torch.optim.Adam(pool if separate else [pool], 1e-2)

    def steps(slot: int) -> None:
        for _ in range(5):
            optimizer.zero_grad()
            (pool[slot] - 1).square().sum().backward()
            optimizer.step()

    steps(0)
    before = pool[0].detach().clone()
    steps(1)
    assert torch.equal(pool[0], before) == separate


def test_a_frozen_slot_has_no_part_in_a_step_that_is_due():
    pool = make(KINDS["lora"], slots=1)
    optimizer = torch.optim.AdamW(pool.slot_parameters(1).values(), 1e-2, weight_decay=0.1)
    learn(pool, optimizer, 1)
    before = {n: p.detach().clone() for n, p in pool.slot_parameters(1).items()}
    pool.freeze(1)
    optimizer.step()
    assert all(torch.equal(p, before[n]) for n, p in pool.slot_parameters(1).items())


# ---- merging ----


def test_merged_weights_cost_nothing_extra():
    for name in ("lora", "ia3"):
        merged, plain = make(KINDS[name]).merged(2), Backbone()
        shapes = [{n: p.shape for n, p in m.named_parameters()} for m in (merged, plain)]
        assert shapes[0] == shapes[1]
        assert [type(m) for m in merged.modules()] == [type(m) for m in plain.modules()]


def test_what_cannot_be_multiplied_in_stays_on_top(kinds):
    pool, x = make(kinds), inputs()
    before = {n: p.clone() for n, p in pool.backbone.named_parameters()}
    for slot in range(4):
        merged = pool.merged(slot)
        with pool.use(3 - slot):  # which the copy knows nothing of
            out = merged(x)
        assert torch.allclose(out, with_slot(pool, slot, x), atol=1e-5)
        on_top = [n for n, _ in merged.named_parameters() if ".slots." in n]
        assert all(f".attend.slots.{slot}." in n or f".act.slots.{slot}." in n for n in on_top)
        assert slot or not on_top
    assert all(torch.equal(p, before[n]) for n, p in pool.backbone.named_parameters())


@pytest.mark.parametrize(("module", "kind"), [
    (nn.Linear(W, 4, bias=False), FiLM()), (nn.Linear(W, 4, bias=False), IA3()),
    (nn.LayerNorm(W, elementwise_affine=False), FiLM()), (nn.LayerNorm(W, bias=False), FiLM()),
    (nn.LayerNorm(W), IA3()), (nn.Linear(W, 4), LoRA(2)), (nn.Tanh(), FiLM(W)),
    (Backbone(), FiLM(3))])
def test_any_module_merges(module, kind):
    pool = ModulationPool(module, {"": kind}, seeded())
    pool.grow()
    for p in pool.slot_parameters(1).values():
        nn.init.normal_(p, generator=seeded())
    merged = pool.merged(1)
    assert torch.allclose(merged(inputs()), with_slot(pool, 1, inputs()), atol=1e-5)


def test_what_is_inside_of_a_modulated_module_may_be_modulated_too():
    pool = make({"blocks.0": FiLM(W), "blocks.0.mlp.wide": LoRA(2)}, slots=1)
    merged = pool.merged(1)
    assert torch.allclose(merged(inputs()), with_slot(pool, 1, inputs()), atol=1e-5)


# ---- inside of other things ----


def test_names_copies_and_functional_calls_are_those_of_any_module():
    pool, x = make(KINDS["all"]), inputs()
    own = {n for slot in (1, 2, 3) for n in pool.slot_parameters(slot)}
    names = [n for n, _ in pool.backbone.named_parameters()]
    assert [n for n in names if n not in own] == [n for n, _ in Backbone().named_parameters()]
    assert isinstance(pool.backbone.head, Dense)

    pool.use(2)
    expected, copied, pickled = pool(x), copy.deepcopy(pool), pickle.dumps(pool)
    swapped = {n.replace(".2.", ".1."): p for n, p in pool.slot_parameters(2).items()}
    for slot, parameters in ((2, {}), (1, swapped)):
        pool.use(slot)
        assert torch.equal(functional_call(pool.backbone, parameters, (x,)), expected)
    for same in (copied, pickle.loads(pickled)):  # go on with the slot that was in use
        assert torch.equal(same(x), expected)
    copied.use(0)
    copied.grow()
    assert len(pool) == 4
    assert not torch.equal(pool(x), copied(x))


def test_in_a_trunk_the_head_says_the_slot():
    network = Network(4, 2, (6, 6), 3, seeded())
    plain = copy.deepcopy(network)
    pool = ModulationPool(network, {"trunk.dense.*": LoRA(2)}, seeded())
    for _ in range(2):
        for p in pool.slot_parameters(pool.grow()).values():
            nn.init.normal_(p, generator=seeded(len(pool)))
    x, head = torch.randn(6, 4, generator=seeded()), torch.tensor([0, 0, 1, 2, 2, 1])
    assert torch.equal(network(x, 0), plain(x, 0))
    out = network(x, head)
    for h in range(3):
        own, merged = head == h, pool.merged(h)
        assert torch.allclose(out[own], network(x[own], h), atol=1e-5)
        assert torch.allclose(out[own], merged(x[own], h), atol=1e-5)
        assert isinstance(merged.run(x, h), Pass)  # the fast one
    assert (network(x, 1) - plain(x, 1)).abs().min() > 1e-3


def test_a_memory_can_be_modulated():
    memory = crl.memory.make_memory("s5", 3, 8, seeded(), modes=8, blocks=1)
    pool = ModulationPool(memory, {"layers.*.gate": LoRA(2), "enter": FiLM()}, seeded())
    for p in pool.slot_parameters(pool.grow()).values():
        nn.init.normal_(p, generator=seeded())
    x, first = torch.randn(3, 9, 3, generator=seeded()), torch.zeros(3, 9, dtype=torch.bool)
    state = memory.initial_state(3)
    with pool.use(torch.tensor([1, 0, 1])):
        out = memory.scan(x, state, first)[0]
    assert torch.allclose(out[1], memory.scan(x, state, first)[0][1], atol=1e-6)
    merged = pool.merged(1).scan(x, state, first)[0]
    assert torch.allclose(out[[0, 2]], merged[[0, 2]], atol=1e-5)


# ---- using it ----


def test_use_lasts_until_the_next_or_as_long_as_its_with():
    pool, x = make(KINDS["lora"]), inputs()
    alone = [with_slot(pool, slot, x) for slot in range(4)]
    pool.use(2)
    assert torch.equal(pool(x), alone[2])
    with pool.use(1):
        assert torch.equal(pool(x), alone[1])
        with pool.use(3):
            assert torch.equal(pool(x), alone[3])
        assert torch.equal(pool(x), alone[1])
    assert torch.equal(pool(x), alone[2])
    with pytest.raises(ZeroDivisionError), pool.use(1):
        raise ZeroDivisionError
    assert torch.equal(pool(x), alone[2])
    pool.use(None)
    assert torch.equal(pool(x), alone[0])


def test_a_pool_that_is_full_says_so():
    pool = make(KINDS["lora"], slots=3, maximum=3)
    before = [p.detach().clone() for p in pool.parameters()]
    with pytest.raises(crl.UserError, match="all 3 slots of the pool are taken"):
        pool.grow()
    assert len(pool) == 4
    assert all(map(torch.equal, before, pool.parameters()))


def test_what_a_slot_costs():
    pool = make({"blocks.*.attention.query": LoRA(3), "head": FiLM()}, slots=1)
    assert pool.slot_size(1) == (2 * 3 * (W + W) + 2 * 3, 4 * (2 * 3 * (W + W) + 2 * 3))
    assert pool.slot_size(0) == (0, 0)
    assert pool.slot_parameters(0) == {}


@pytest.mark.parametrize(("kinds", "hint"), [
    ({"blocks.*.attention.qwery": LoRA()},
     r"unknown module 'blocks\.\*\.attention\.qwery'; did you mean 'blocks.1.attention.query'"),
    ({"blocks.*.mlp.*": LoRA()}, r"LoRA cannot modulate 'blocks.0.mlp.act', which is of class "
     r"GELU; it can: blocks.0.attention.query, .*, …$"),
    ({"blocks.0.mlp.act": FiLM()}, "FiLM cannot modulate"),
    ({"blocks.0.attention": Prefix()}, "Prefix cannot modulate .* Attention; it can: "
     r"blocks.0.attention.attend, blocks.1.attention.attend$"),
    ({"head": LoRA(), "he*": FiLM()}, "'head' is modulated already"),
    ({}, "must modulate something"),
])
def test_paths_that_lead_nowhere(kinds, hint):
    backbone = Backbone()
    with pytest.raises(crl.UserError, match=hint):
        ModulationPool(backbone, kinds, seeded())
    assert [type(m) for m in backbone.modules()] == [type(m) for m in Backbone().modules()]


def test_mistakes_in_use():
    pool = make(KINDS["lora"], slots=2)
    with pytest.raises(crl.UserError, match="query' is modulated already"):
        ModulationPool(pool.backbone, {"blocks.0.attention.query": LoRA()}, seeded())
    for slot in (3, -1, torch.tensor([0, 3, 1]), torch.tensor([0, -1])):
        with pytest.raises(crl.UserError, match=r"no slot (3|-1), but 0 to 2; add one"):
            pool.use(slot)
    with pytest.raises(crl.UserError, match="no slot 3"):
        pool.merged(3)
    with pool.use(torch.tensor([1, 2])), pytest.raises(crl.UserError, match="got 5 samples while"):
        pool(inputs())
    for wrong in (lambda: LoRA(0), lambda: LoRA(alpha=0.0), lambda: Prefix(0)):
        with pytest.raises(crl.UserError, match="must be above 0"):
            wrong()


# ---- a kind of one's own ----


@dataclass(frozen=True)
class Bias(Modulator):
    """A bias of each slot's own for dense layers (Ben Zaken et al. 2022, "BitFit")."""

    def fits(self, module):
        return isinstance(module, Dense)

    def init(self, module, generator):
        return {"bias": torch.zeros_like(module.bias)}

    def apply(self, x, out, own):
        return (rows(out, own["bias"]) + own["bias"].unsqueeze(1)).view_as(out)

    def merge(self, module, own):  # may be left out; then it stays on top
        module.bias.add_(own["bias"])
        return True


def test_a_new_kind_takes_a_few_lines():
    pool, x = make({"blocks.*.attention.query": Bias()}), inputs()
    slots = torch.tensor([1, 0, 2, 2, 1])
    out = with_slot(pool, slots, x)
    for i, slot in enumerate(slots.tolist()):
        assert torch.allclose(out[i], pool.merged(slot)(x)[i], atol=1e-5)
    learn(pool, torch.optim.Adam(pool.slot_parameters(3).values()), 3)
