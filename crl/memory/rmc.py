"""Relational memory core: slots that attend to each other and to the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crl.config import require
from crl.memory.base import Memory
from crl.nn.attention import attend
from crl.nn.layers import Dense


class RMC(Memory):
    """Relational memory core (Santoro et al. 2018).

    M̃ = LN(A + MLP(A)) with A = LN(M + attention of M to [M; Wx]), slot by slot; gates
    i, f = σ(Wx + U tanh M + (0, 1)) of each unit; M' = i ⊙ tanh M̃ + f ⊙ M. At an episode's start
    M is the identity, which is what tells slots apart; the state is what is added to it.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of :class:`RMC`.

        Attributes:
            slots, width: Of the memory; the state has slots·width floats.
            heads: Of the attention; width is a multiple.
        """

        slots: int = 4
        width: int = 32
        heads: int = 4

        def __post_init__(self) -> None:
            for name in ("slots", "width", "heads"):
                require(getattr(self, name) > 0, f"{name} must be above 0")
            require(self.width % self.heads == 0, "width must be a multiple of heads")

    def __init__(self, input_size: int, hidden_size: int, config: Config,
                 generator: torch.Generator) -> None:
        slots, width = config.slots, config.width
        super().__init__(input_size, hidden_size, slots * width)
        self._heads = config.heads
        self.enter = Dense(input_size, width, generator)
        self.attention = Dense(width, 3 * width, generator)
        self.hidden = Dense(width, width, generator)
        self.back = Dense(width, width, generator)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.gates_of_input = Dense(width, 2 * width, generator)
        self.gates_of_memory = Dense(width, 2 * width, generator)
        self.leave = Dense(slots * width, hidden_size, generator)
        self.register_buffer("start", torch.eye(slots, width), persistent=False)

    def advance(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        start = cast(Tensor, self.start)
        memory = state.view(-1, *start.shape) + start
        entered = self.enter(x).unsqueeze(1)
        query, key, value = self.attention(torch.cat((memory, entered), 1)).chunk(3, -1)
        everything = torch.ones(1, 1, dtype=torch.bool, device=x.device)
        found = attend(query[:, :-1], key, value, self._heads, everything)
        found = self.norms[0](memory + found)
        new = self.norms[1](found + self.back(F.relu(self.hidden(found))))
        gates = self.gates_of_input(entered) + self.gates_of_memory(memory.tanh())
        gate_in, forget = gates.chunk(2, -1)
        memory = gate_in.sigmoid() * new.tanh() + (forget + 1).sigmoid() * memory
        return self.leave(memory.flatten(1)), (memory - start).flatten(1)
