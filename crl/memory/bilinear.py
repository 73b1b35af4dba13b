"""Bilinear recurrent network: what is seen turns and fades what is remembered."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from crl.config import require
from crl.memory.traces import Inputs, Traces
from crl.nn.layers import Dense


class Bilinear(Traces):
    """Traces xₜ = ρₜ exp(iθₜ) xₜ₋₁ + √(1 − ρₜ²) vₜ, where ρ, θ and v are functions of the input.

    A transition is linear in the state and depends on what is seen (the rotations of Ebrahimi &
    Memisevic 2025, to which something is added as they fade): it can tell a parity, which no fixed
    transition can. As it does not depend on the state, all of a sequence is one scan. The output is
    LN(W [Re x, Im x]), or what goes past it, by a gate.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of :class:`Bilinear`.

        Attributes:
            traces: How many; the state has 2·traces floats.
            longest: Traces begin such that they last between 2 and so many steps.
        """

        traces: int = 64
        longest: int = 1024

        def __post_init__(self) -> None:
            require(self.traces > 0, "traces must be above 0")
            require(self.longest > 2, "longest must be above 2")

    def __init__(self, input_size: int, hidden_size: int, config: Config,
                 generator: torch.Generator) -> None:
        m = self._traces = config.traces
        super().__init__(input_size, hidden_size, 2 * m)
        self.pre = Dense(input_size, 4 * m + 2 * hidden_size, generator)
        self.mix = Dense(2 * m, hidden_size, generator)
        with torch.no_grad():  # σ(bias) = 1 − 1/T, with T spread evenly by its logarithm
            lasts = torch.exp(torch.linspace(math.log(2), math.log(config.longest), m))
            self.pre.bias[:m] = (lasts - 1).log()

    def _inputs(self, x: Tensor) -> Inputs:
        m, out = self._traces, self.output_size
        keep, turn, real, imag, past, gate = self.pre(x).split((m, m, m, m, out, out), -1)
        size, angle = keep.sigmoid(), math.pi * turn.tanh()
        # 1 − ρ² = (1 + ρ)(1 − ρ), and 1 − σ(x) = σ(−x): nothing is lost where ρ is almost 1, and
        # where it is 1 in single precision the root still has a gradient.
        enters = (1 + size).sqrt() * (0.5 * F.logsigmoid(-keep)).exp()
        return ((size * angle.cos(), size * angle.sin()), (enters * real, enters * imag), past,
                gate.sigmoid())
