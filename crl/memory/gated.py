"""GRU and LSTM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from crl.config import require
from crl.memory.base import Memory


@dataclass(frozen=True)
class GatedConfig(Memory.Config):
    """Options of :class:`GRU` and :class:`LSTM`.

    Attributes:
        horizon: 0: biases as PyTorch has them, which forget within a few steps. Else gates begin
            such that units keep what they hold for 2 to so many steps (chrono initialisation,
            Tallec & Ollivier 2018).
    """

    horizon: int = 0

    def __post_init__(self) -> None:
        require(self.horizon == 0 or self.horizon > 2, "horizon must be 0 or above 2")


class GRU(Memory):
    """Gated recurrent unit (Cho et al. 2014), PyTorch's."""

    Config = GatedConfig
    cell: Any

    def __init__(self, input_size: int, hidden_size: int, config: GatedConfig,
                 generator: torch.Generator) -> None:
        super().__init__(input_size, hidden_size, hidden_size)
        self.cell = _drawn(nn.GRU, input_size, hidden_size, generator)
        if config.horizon:
            _, keep, _ = self.cell.bias_ih_l0.detach().chunk(3)
            keep.copy_(_keeping(config.horizon, hidden_size, generator))

    def advance(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = torch.gru_cell(x, state, *self.cell.all_weights[0])
        return state, state

    def segment(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        out, state = self.cell(x, state.unsqueeze(0))
        return out, state.squeeze(0)

    def states(self, x: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        out, _ = self.scan(x, state, first)
        return out, out


class LSTM(Memory):
    """Long short-term memory (Hochreiter & Schmidhuber 1997), PyTorch's. State: hidden, cell."""

    Config = GatedConfig
    cell: Any

    def __init__(self, input_size: int, hidden_size: int, config: GatedConfig,
                 generator: torch.Generator) -> None:
        super().__init__(input_size, hidden_size, 2 * hidden_size)
        self.cell = _drawn(nn.LSTM, input_size, hidden_size, generator)
        if config.horizon:
            enter, keep, _, _ = self.cell.bias_ih_l0.detach().chunk(4)
            keep.copy_(_keeping(config.horizon, hidden_size, generator))
            enter.copy_(-keep)

    def advance(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        hidden, cell = torch.lstm_cell(x, state.chunk(2, -1), *self.cell.all_weights[0])
        return hidden, torch.cat((hidden, cell), -1)

    def segment(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        hidden, cell = state.unsqueeze(0).chunk(2, -1)
        out, last = self.cell(x, (hidden.contiguous(), cell.contiguous()))
        return out, torch.cat(last, -1).squeeze(0)


def _keeping(horizon: int, units: int, generator: torch.Generator) -> Tensor:
    """Biases b of keeping: σ(b) = 1 − 1/T with T uniform from 2 to ``horizon``."""
    return (1 + (horizon - 2) * torch.rand(units, generator=generator)).log()


def _drawn(kind: type[nn.GRU] | type[nn.LSTM], input_size: int, hidden_size: int,
           generator: torch.Generator) -> nn.Module:
    """Its weights uniform(±1/√hidden), PyTorch's default, but from our own generator."""
    # Made without values: the constructor would draw them from the global generator.
    cell = kind(input_size, hidden_size, batch_first=True, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.uniform_(-hidden_size**-0.5, hidden_size**-0.5, generator=generator)
    return cell
