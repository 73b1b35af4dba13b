"""Selectors: the right slot for what is seen, told nothing else, and none where none fits."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import crl
from crl import checkpoint
from crl.memory.selectors import (
    Cosine,
    Oracle,
    Prototypes,
    Selector,
    distances,
    held_out_distances,
    k_means,
    make_selector,
)
from crl.nn.scaling import Standardizer

D = 6
NAMES = ["oracle", "cosine", "prototypes"]
TASKS = (3, 1, 2, 4)  # slots, in the order of learning


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def states(task: int, count: int = 200, seed: int = 0, spread: float = 0.3) -> Tensor:
    """Of a task: two clusters, elsewhere for each task."""
    centres = torch.randn(2, D, generator=seeded(100 + task)) * 3
    g = seeded(1000 * task + seed)
    which = torch.randint(2, (count,), generator=g)
    return centres[which] + spread * torch.randn(count, D, generator=g)


def fitted(name: str, seed: int = 0, **options) -> Selector:
    selector = make_selector(name, D, seeded(seed), **options)
    for slot in TASKS:
        selector.fit(states(slot), slot)
    return selector


def accuracy(selector: Selector, slots=TASKS, of=states) -> float:
    """Share of unseen states whose slot is told; of the control, with keys that are swapped."""
    return float(np.mean([(selector.select(of(slot, seed=1)) == slot).float().mean()
                          for slot in slots]))


# ---- all of them ----


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_told_but_states(name):
    assert list(inspect.signature(type(make_selector(name, D, seeded())).select).parameters) == [
        "self", "states"]
    selector = make_selector(name, D, seeded())
    assert selector.select(states(1, 5)).tolist() == [0] * 5  # nothing is known yet
    for slot in TASKS:
        selector.fit(states(slot), slot)
    chosen = selector.select(states(2, 7))
    assert chosen.dtype == torch.int64
    assert chosen.shape == (7,)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(NAMES), st.permutations(range(12)), st.integers(1, 12))
def test_each_state_is_looked_at_by_itself(name, order, some):
    selector = fitted(name)
    batch = torch.cat([states(slot, 3, seed=2, spread=3.0) for slot in TASKS])
    alone = torch.cat([selector.select(row[None]) for row in batch])
    chosen = order[:some]
    assert torch.equal(selector.select(batch[chosen]), alone[chosen])


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_selector_goes_on_to_the_bit(name, tmp_path):
    selector = make_selector(name, D, seeded())
    selector.fit(states(3), 3)
    checkpoint.save_tree(selector.state_dict(), tmp_path / "state")
    again = make_selector(name, D, seeded(9))
    again.load_state_dict(checkpoint.load_tree(tmp_path / "state"))
    draw = seeded(5)
    for one in (selector, again):
        one._generator = draw.clone_state()
        one.fit(states(1), 1)
    for key in selector.learned:
        assert torch.equal(getattr(selector, key), getattr(again, key))
    everything = torch.cat([states(slot, spread=3.0) for slot in TASKS])
    assert torch.equal(selector.select(everything), again.select(everything))


def test_unknown_names_and_options():
    with pytest.raises(crl.UserError, match="unknown selector 'nearest'; known: cosine, oracle"):
        make_selector("nearest", D, seeded())
    with pytest.raises(crl.UserError, match="count must be above 0"):
        Prototypes(D, seeded(), count=0)
    with pytest.raises(crl.UserError, match="reject must be from 0 to below 1"):
        Prototypes(D, seeded(), reject=1.0)
    with pytest.raises(crl.UserError, match="two states or more"):
        Prototypes(D, seeded()).fit(states(1, 1), 1)
    with pytest.raises(crl.UserError, match="keys of slots 0 to 2, not of 3; give the selector"):
        Cosine(D, seeded(), slots=2).fit(states(1), 3)


# ---- the oracle ----


def test_the_oracle_says_what_it_was_told_last():
    oracle = Oracle(D, seeded())
    for slot in TASKS:
        oracle.fit(states(slot), slot)
        assert (oracle.select(states(1)) == slot).all()


# ---- cosines ----


def test_a_key_is_where_gradient_ascent_on_the_cosines_ends():
    seen = states(1, spread=1.0)
    key = torch.randn(D, generator=seeded(3), requires_grad=True)
    optimizer = torch.optim.SGD([key], 2.0)
    for _ in range(300):
        optimizer.zero_grad()
        (-torch.nn.functional.cosine_similarity(seen, key[None]).mean()).backward()
        optimizer.step()
    selector = Cosine(D, seeded())
    for part in seen.split(64):  # all at once or not
        selector.fit(part, 1)
    assert torch.cosine_similarity(selector.keys[1], key, dim=0) > 0.99999


def test_the_slot_with_the_largest_cosine_is_selected():
    selector, unseen = fitted("cosine"), torch.cat([states(slot, seed=1) for slot in TASKS])
    for row, slot in zip(unseen, selector.select(unseen).tolist(), strict=True):
        cosines = {k: float(torch.cosine_similarity(row, selector.keys[k], dim=0)) for k in TASKS}
        assert cosines[slot] == pytest.approx(max(cosines.values()), abs=1e-5)


def test_slot_0_is_selected_once_it_has_a_key():
    selector = fitted("cosine")
    assert (selector.select(states(0)) > 0).all()
    selector.fit(states(0), 0)
    assert (selector.select(states(0, seed=1)) == 0).float().mean() > 0.9


def slots_used(count_penalty: bool, scaled: bool) -> int:
    """How many slots eight tasks take that differ in small entries behind a large one."""
    tasks = [torch.cat((torch.full((100, 1), 20.0), states(task, 100)), 1) for task in range(8)]
    scaling = Standardizer(1, D + 1)
    if scaled:
        scaling.fit(torch.cat(tasks), 0)
    selector, used = Cosine(D + 1, seeded(), count_penalty=count_penalty), set()
    for seen in tasks:
        slot = selector.allocate(scaling(seen, 0))
        assert slot > 0
        selector.fit(scaling(seen, 0), slot)
        used.add(slot)
    return len(used)


def test_with_the_count_penalty_every_task_has_a_slot_of_its_own():
    assert slots_used(True, scaled=False) == slots_used(True, scaled=True) == 8
    assert slots_used(False, scaled=False) <= 2  # the control
    assert slots_used(False, scaled=True) > 2


def test_when_all_slots_are_used_the_penalty_chooses_the_least_trained():
    selector = Cosine(D, seeded(), slots=2)
    selector.fit(states(1, 300), 1)
    selector.fit(states(1, 10), 2)
    assert selector.allocate(states(1)) == 2


# ---- prototypes ----


def test_prototypes_tell_tasks_apart_and_permuted_ones_do_not():
    selector = fitted("prototypes")
    assert accuracy(selector) > 0.97
    swapped = fitted("prototypes")
    swapped.slots = swapped.slots % 4 + 1
    assert accuracy(swapped) < 0.1


def test_what_is_large_hides_what_differs_unless_scaled():
    def seen(task: int, count: int = 200, seed: int = 0) -> Tensor:
        noise = 50 * torch.randn(count, 1, generator=seeded(task + 10 * seed))
        return torch.cat((noise, states(task, count, seed)), 1)

    scaling = Standardizer(1, D + 1)
    scaling.fit(torch.cat([seen(task) for task in range(10, 16)]), 0)  # of pre-training
    found = []
    for scale in (lambda x: scaling(x, 0), lambda x: x):
        selector = Prototypes(D + 1, seeded(), reject=None)
        for slot in TASKS:
            selector.fit(scale(seen(slot)), slot)
        found.append(accuracy(selector, of=lambda *a, scale=scale, **k: scale(seen(*a, **k))))
    assert found[0] > 0.95
    assert found[1] < 0.7


def test_one_prototype_of_a_task_with_two_places_is_not_enough():
    """The task between them is taken for it."""
    ends = torch.tensor([[-4.0] + [0] * (D - 1), [4.0] + [0] * (D - 1)])
    outer = torch.cat([end + 0.5 * torch.randn(100, D, generator=seeded(i))
                       for i, end in enumerate(ends)])[torch.randperm(200, generator=seeded())]
    inner = 0.5 * torch.randn(100, D, generator=seeded(2)) + 1.0
    found = []
    for count in (1, 3):
        selector = Prototypes(D, seeded(), count=count, reject=None)
        selector.fit(inner, 1)
        selector.fit(outer, 2)
        found.append(float((selector.select(outer) == 2).float().mean()))
    assert found[0] < 0.9
    assert found[1] > 0.99


@pytest.mark.parametrize("count", [40, 60, 2000])
def test_no_more_of_a_tasks_own_states_are_rejected_than_asked_for(count):
    """And those of tasks that were never learned are."""
    rejected = []
    for seed in range(20):
        selector = Prototypes(D, seeded(seed), reject=0.02)
        selector.fit(states(1, count, seed=2 * seed), 1)
        rejected.append((selector.select(states(1, 500, seed=2 * seed + 1)) == 0).float().mean())
        assert (selector.select(states(2)) == 0).all()
    assert np.mean(rejected) < 0.03 + 1 / count
    selector = Prototypes(D, seeded(), reject=None)
    selector.fit(states(1, count), 1)
    assert (selector.select(states(2)) == 1).all()  # the control


def test_several_tasks_may_share_a_slot():
    selector = fitted("prototypes")
    for task in (5, 6):
        selector.fit(states(task), 0)
    assert accuracy(selector) > 0.97
    assert (selector.slots == 0).sum() == 6
    assert sum((selector.select(states(task, seed=1)) == 0).all() for task in (5, 6)) == 2


def test_centres_are_found_where_points_are():
    places = 10 * torch.randn(4, D, generator=seeded())
    for seed in range(10):
        points = places.repeat(50, 1) + 0.1 * torch.randn(200, D, generator=seeded(seed))
        centres = k_means(points, 4, seeded(seed))
        assert distances(places, centres).amin(1).max() < 0.2
        assert torch.equal(centres, k_means(points, 4, seeded(seed)))


def test_there_are_no_more_centres_than_points():
    points = torch.ones(30, D)
    assert torch.equal(k_means(points, 3, seeded()), points[:1])
    points[7] = 2.0
    assert len(k_means(points, 3, seeded())) == 2
    selector = Prototypes(D, seeded())
    selector.fit(points[6:8], 1)
    assert selector.select(points[6:8]).tolist() == [1, 1]


def test_held_out_points_are_farther_away_than_points_that_centres_were_made_of():
    points = torch.randn(40, D, generator=seeded())
    away = held_out_distances(points, 5, seeded())
    assert away.shape == (40,)
    assert away.mean() > 1.1 * distances(points, k_means(points, 5, seeded())).amin(1).mean()
