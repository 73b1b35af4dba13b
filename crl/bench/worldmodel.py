"""The world model of R2I beside the recurrent state-space model of DreamerV3, equally wide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from crl.agent import make_agent
from crl.agents.r2i import R2I
from crl.agents.r2i_config import SIZES
from crl.bench import dreamer
from crl.bench.rows import Row, row, take_turns, threads
from crl.chunks import Chunks
from crl.envs.catalog import make_stream
from crl.stream import Task, TaskStream

_SHAPES = ((16, 64), (4, 256), (1, 1024))  # chunks × rows: as many of them in all
_RESETS = 0.01                             # share of rows that begin an episode
_STREAM = "memory-length-15"
_TURNS = 5
_GRU = "GRU, step by step"


def bench_worldmodel() -> Iterator[Row]:
    """Size nano, one thread.

    An update is forward, backward and optimiser of the model alone. The peer is the same model with
    a GRU and a posterior that looks at the past, for which one step must follow another, as
    DreamerV3 has it; another is :mod:`~crl.bench.dreamer`, if there. A step of acting is of one
    environment.
    """
    stream = make_stream(_STREAM)
    with threads(1):
        ours, theirs = (_agent(stream, **settings) for settings in (
            {}, {"memory": "gru", "posterior": "recurrent"}))
        for batch, length in _SHAPES:
            chunks = _chunks(ours, batch, length)
            peers = {_GRU: _update(theirs, _chunks(theirs, batch, length))}
            others = dreamer.dreamer_update(SIZES[ours.config.size], chunks)
            if others is not None:
                peers[dreamer.NAME] = others
            mine, *times = take_turns(_update(ours, chunks), *peers.values(), turns=_TURNS, calls=1)
            for peer in zip(peers, times, strict=True):
                yield row("worldmodel", f"update, {batch}x{length}", "s/update", mine, peer)
        mine, other = take_turns(_step(ours, stream[0]), _step(theirs, stream[0]), turns=_TURNS,
                                 calls=50)
        yield row("worldmodel", "acting", "s/step", mine, (_GRU, other))


def _agent(stream: TaskStream, **settings: Any) -> R2I:
    agent = make_agent("r2i", stream, **settings)
    assert isinstance(agent, R2I)
    agent.attach([])
    return agent


def _chunks(agent: R2I, batch: int, length: int) -> Chunks:
    model, draw = agent.model, torch.Generator().manual_seed(0)
    return Chunks(
        torch.randn(batch, length, model.obs_size, generator=draw),
        torch.randn(batch, length, model.action_size, generator=draw),
        torch.randn(batch, length, generator=draw), torch.zeros(batch, length, dtype=torch.bool),
        torch.rand(batch, length, generator=draw) < _RESETS,
        torch.zeros(batch, model.state_size), 0)


def _update(agent: R2I, chunks: Chunks) -> Callable[[], None]:
    model, part, draw = agent.model, agent.parts["model"], torch.Generator().manual_seed(0)

    def run() -> None:
        for parameter in model.parameters():
            parameter.grad = None
        losses, _ = model.losses(chunks, draw)
        torch.autograd.backward(list(losses.values()))
        part.optimizer.step()

    return run


def _step(agent: R2I, task: Task) -> Callable[[], object]:
    policy = agent.policy(task)
    obs, first = np.zeros((1, *policy.spec.observation_low.shape), np.float32), np.array([False])
    state = policy.initial_state(1)
    return lambda: policy.step(obs, state, first, deterministic=False)
