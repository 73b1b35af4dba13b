"""A gradient step of HyperCRL's model: its regulariser, and what more tasks cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from crl.agent import Step, make_agent
from crl.agents.mpc import HyperCRL
from crl.bench.rows import Row, row, take_turns, threads
from crl.envs.catalog import make_stream
from crl.memory.hypernetwork import Hypernetwork
from crl.nn.adam import Adam

_TASK = "pusher-500-500"
_STORED = 1_000  # transitions in the replay, made up


def bench_hypernetwork() -> Iterator[Row]:
    """The pusher's model and hypernetwork at their published sizes, one thread.

    The regulariser is everything that old tasks add to a gradient step: the look ahead, what the
    hypernetwork gives for them all, and the gradient. The peer goes through a task at a time, each
    with the step added to the weights anew, as hypnettorch does, on which HyperCRL's code builds;
    the step itself it gets as fast as ours. In pieces is the agent's default.
    """
    with threads(1):
        agent = _agent(old=10)
        ours, theirs = take_turns(agent.methods.gradients, _task_by_task(agent, 10), turns=10,
                                  calls=5)
        yield row("hypernetwork", "regulariser, 10 old tasks", "s", ours,
                  ("a task at a time", theirs))
        for regularized, name in ((3, "3 drawn of them"), (0, "all of them")):
            few, many = (partial(_agent(old, regularized=regularized).learn, 1)
                         for old in (10, 20))
            ours, theirs = take_turns(many, few, turns=20, calls=5)
            yield row("hypernetwork", f"update, 20 old tasks for 10, {name}", "s/update", ours,
                      ("10 old tasks", theirs))
        pieces = HyperCRL.Config().trunk_options
        ours, theirs = take_turns(*(partial(_agent(10, **options).learn, 1)
                                    for options in (pieces, {})), turns=20, calls=5)
        yield row("hypernetwork", "update, 10 old tasks, in pieces", "s/update", ours,
                  ("in one", theirs))


def _agent(old: int, **options: bool | int | float | str) -> HyperCRL:
    """In the task after so many, with a gradient and moments as within training."""
    stream = make_stream(",".join([_TASK] * (old + 1)))
    agent = make_agent("hypercrl", stream, trunk_options=options)
    assert isinstance(agent, HyperCRL)
    agent.attach([])
    rng = np.random.default_rng(0)
    for task in stream:
        agent.begin_task(task)
        for _ in range(_STORED if task.head == old else 1):
            obs, following = rng.normal(size=(2, 1, 10)).astype(np.float32)
            agent.act(obs, np.array([False]))
            no = np.array([False])
            agent.observe(Step(obs, np.zeros((1, 2), np.float32), np.zeros(1, np.float32),
                               following, no, no, no, [{}]))
        if task.head < old:
            agent.end_task(task)
    agent.learn(2)
    return agent


def _task_by_task(agent: HyperCRL, old: int) -> Callable[[], None]:
    part = agent.parts["model"]
    (hypernetwork,) = (m for m in part.module.modules() if isinstance(m, Hypernetwork))
    optimizer = cast(Adam, part.optimizer)
    shared = hypernetwork.shared_parameters()
    room = {name: torch.empty_like(p) for name, p in shared.items()}
    embeddings = [hypernetwork.heads([task]).detach() for task in range(old)]
    with torch.no_grad():
        targets = [hypernetwork(embedding) + 0.01 for embedding in embeddings]

    def run() -> None:
        step = {}
        for name, parameter in shared.items():
            optimizer.ahead(parameter, room[name])
            step[name] = room[name] - parameter.detach()
        loss: Tensor = torch.zeros(())
        for embedding, target in zip(embeddings, targets, strict=True):
            ahead = {name: parameter + step[name] for name, parameter in shared.items()}
            given = functional_call(hypernetwork, ahead, (embedding,))
            loss = loss + (given - target).square().sum()
        torch.autograd.grad(0.05 / old * loss, list(shared.values()))

    return run
