"""No memory at all: the control that every memory is held against."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from crl.memory.base import Memory
from crl.nn.layers import Dense


class MLP(Memory):
    """A feed-forward layer, ReLU(W x + b), in the place of a memory; its state is empty."""

    def __init__(self, input_size: int, hidden_size: int, config: Memory.Config,
                 generator: torch.Generator) -> None:
        super().__init__(input_size, hidden_size, 0)
        self.dense = Dense(input_size, hidden_size, generator)

    def advance(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return F.relu(self.dense(x)), state

    def scan(self, x: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        return F.relu(self.dense(x)), state
