"""Fast and forgetful memory: traces that fade and turn, each at its own pace."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crl.config import require
from crl.memory import modes
from crl.memory.traces import Inputs, Traces
from crl.nn.layers import Dense


class FFM(Traces):
    """Fast and forgetful memory (Morad et al. 2023).

    Traces Sₜ[j, k] = exp(αⱼ + iωₖ) Sₜ₋₁[j, k] + uₜ[j], of m gated inputs u at c frequencies; the
    output is LN(W [Re S, Im S]) or what goes past it, by a gate.

    The published code sums exp(−α t) u over a sequence and rescales, which needs float64 and bounds
    α from below; it turns to NaN in float32. Here the recurrence is run as it is written. α is kept
    negative by its logarithm rather than by clamping, whose gradient stops at the bound.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of :class:`FFM`.

        Attributes:
            traces: m, inputs that are remembered.
            frequencies: c, per trace; the state has 2·m·c floats.
            longest: Steps after which the slowest trace is down to 0.01, and the longest period.
        """

        traces: int = 32
        frequencies: int = 4
        longest: int = 1024

        def __post_init__(self) -> None:
            for name in ("traces", "frequencies", "longest"):
                require(getattr(self, name) > 0, f"{name} must be above 0")

    def __init__(self, input_size: int, hidden_size: int, config: Config,
                 generator: torch.Generator) -> None:
        m, c = config.traces, config.frequencies
        super().__init__(input_size, hidden_size, 2 * m * c)
        self._sizes = (m, c)
        self.pre = Dense(input_size, 2 * m + 2 * hidden_size, generator)
        self.mix = Dense(2 * m * c, hidden_size, generator)
        # As published; the fastest is what float64 can sum over 1024 steps.
        fastest, slowest = 0.673, math.log(100) / config.longest
        self.log_decay = nn.Parameter(torch.linspace(fastest, slowest, m).log())
        self.frequency = nn.Parameter(2 * math.pi / torch.linspace(1, config.longest, c))

    def _factors(self) -> modes.Pair:
        """exp(α + iω), [m·c] each."""
        size = (-self.log_decay.exp()).exp().unsqueeze(1)
        return ((size * self.frequency.cos()).flatten(), (size * self.frequency.sin()).flatten())

    def _inputs(self, x: Tensor) -> Inputs:
        m, c = self._sizes
        out = self.output_size
        value, past, gate_in, gate_out = self.pre(x).split((m, out, m, out), -1)
        enters = (value * gate_in.sigmoid()).repeat_interleave(c, -1)
        return self._factors(), (enters, torch.zeros_like(enters)), past, gate_out.sigmoid()
