"""The memory of finished tasks: whose transitions it keeps, and how it draws them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from crl.methods.memory import TaskMemory
from crl.replay import Batch, Replay


def filled(head: int, count: int) -> Replay:
    """A replay whose transitions are numbered by their reward."""
    replay = Replay(1000, 2, 1)
    for i in range(count):
        replay.add(np.full(2, head), np.zeros(1), 1000 * head + i, np.zeros(2), terminated=False,
                   truncated=False, head=head)
    return replay


def make(sizes=(50, 30, 5), per_task=20) -> TaskMemory:
    memory, rng = TaskMemory(per_task), np.random.default_rng(0)
    for head, size in enumerate(sizes):
        memory.add(filled(head, size), rng)
    return memory


def test_it_keeps_different_transitions_of_each_task():
    memory = make()
    assert [len(task.obs) for task in memory.tasks] == [20, 20, 5]
    assert len(memory) == 45
    for head, task in enumerate(memory.tasks):
        assert len(set(task.reward.tolist())) == len(task.reward)
        assert (task.reward // 1000 == head).all()
        assert (task.head == head).all()


def test_draws_follow_the_weights_and_rows_stay_whole():
    memory, rng = make(), np.random.default_rng(1)
    plain = memory.sample(9000, rng)
    shares = [(plain.head == h).float().mean().item() for h in range(3)]
    assert shares == pytest.approx([20 / 45, 20 / 45, 5 / 45], abs=0.02)
    weighted = memory.sample(9000, rng, [0, 1, 3])
    shares = [(weighted.head == h).float().mean().item() for h in range(3)]
    assert shares == pytest.approx([0, 0.25, 0.75], abs=0.02)
    assert torch.equal((weighted.reward // 1000).long(), weighted.head)
    assert torch.equal(weighted.obs[:, 0].long(), weighted.head)


def test_a_loaded_memory_draws_the_same():
    memory, again = make(), TaskMemory(20)
    again.load_state_dict(memory.state_dict())
    draws = [m.sample(64, np.random.default_rng(2)) for m in (memory, again)]
    for a, b in zip(*(draw.columns().values() for draw in draws), strict=True):
        assert torch.equal(a, b)


def test_batches_are_joined_and_cut_by_rows():
    one = Batch(*(torch.full((2, 1), 1.0), torch.ones(2, 1)), torch.ones(2), torch.ones(2, 1),
                torch.ones(2), 0)
    joined = Batch.join([one, replace(one, head=torch.tensor([2, 3]))])
    assert joined.head.tolist() == [0, 0, 2, 3]
    assert joined.obs.shape == (4, 1)
    assert joined.rows(torch.tensor([3, 0])).head.tolist() == [3, 0]
    assert one.rows(torch.tensor([True, False])).head == 0
    mixed = joined.rows(torch.tensor([3, 0, 2, 1]))
    assert mixed.sorted().head.tolist() == [0, 0, 2, 3]
    assert one.sorted() is one
