"""What memories share that attend to steps of the past."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from crl.config import require
from crl.memory.base import Memory
from crl.nn.layers import Dense


class AttentiveMemory(Memory):
    """A memory that keeps embeddings of past steps and attends to them; one step is a segment too.

    Args:
        input_size, hidden_size: Widths of an input; of an embedding and an output.
        steps: How many embeddings the state has; behind them it has one counter.
        heads: Of the attention; the hidden size is a multiple.
        generator: Source of the initial weights.

    Attributes:
        enter: Inputs → embeddings.
    """

    def __init__(self, input_size: int, hidden_size: int, steps: int, heads: int,
                 generator: torch.Generator) -> None:
        require(hidden_size % heads == 0,
                f"a hidden size of {hidden_size} is no multiple of {heads} heads")
        super().__init__(input_size, hidden_size, steps * hidden_size + 1)
        self.enter = Dense(input_size, hidden_size, generator)

    def advance(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        out, state = self.segment(x.unsqueeze(1), state)
        return out.squeeze(1), state

    @abstractmethod
    def segment(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]: ...
