"""Working memory: slots that are found by what is in them, written to and read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from crl.config import require_positive
from crl.memory.base import Memory
from crl.nn.layers import Dense


class WorkingMemory(Memory):
    """A working memory that is addressed by content.

    Kang et al. 2024, "Think Before You Act: Decision Transformers with Working Memory" (DT-Mem),
    whose writing is that of Graves et al. 2014, "Neural Turing Machines". Slots M are found by an
    input x with w = softmax(K(M) Q(x) / √d); what they hold is erased by e = σ(W x) and added to by
    a = tanh(W' x): M' = M ⊙ (1 − w eᵀ) + w aᵀ. Then they are read: softmax(K'(M') Q'(x) / √d) M'.
    At an episode's start M is the identity, which is what tells slots apart; the state is what is
    added to it. (In the paper M begins at random and goes on between episodes.)
    """

    @dataclass(frozen=True)
    class Config:
        """Options of :class:`WorkingMemory`.

        Attributes:
            slots, width: Of the memory; the state has slots·width floats.
        """

        slots: int = 8
        width: int = 32

        def __post_init__(self) -> None:
            require_positive(self, "slots", "width")

    def __init__(self, input_size: int, hidden_size: int, config: Config,
                 generator: torch.Generator) -> None:
        slots, width = config.slots, config.width
        super().__init__(input_size, hidden_size, slots * width)
        self.write_query = Dense(input_size, width, generator)
        self.write_key = Dense(width, width, generator)
        self.erase = Dense(input_size, width, generator)
        self.add = Dense(input_size, width, generator)
        self.read_query = Dense(input_size, width, generator)
        self.read_key = Dense(width, width, generator)
        self.leave = Dense(width, hidden_size, generator)
        self.register_buffer("start", torch.eye(slots, width), persistent=False)

    def advance(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        start = cast(Tensor, self.start)
        memory = state.view(-1, *start.shape) + start
        where = _address(self.write_key(memory), self.write_query(x))
        erase, add = self.erase(x).sigmoid().unsqueeze(1), self.add(x).tanh().unsqueeze(1)
        memory = memory * (1 - where * erase) + where * add
        found = (_address(self.read_key(memory), self.read_query(x)) * memory).sum(1)
        return self.leave(found), (memory - start).flatten(1)


def _address(keys: Tensor, query: Tensor) -> Tensor:
    """How much each slot is meant, by keys [B, slots, d] and a query [B, d]: [B, slots, 1]."""
    scores = (keys * query.unsqueeze(1)).sum(-1, keepdim=True) / math.sqrt(keys.shape[-1])
    return scores.softmax(1)
