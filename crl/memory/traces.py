"""Memories made of complex traces, which a gate reads out."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor
from torch.nn import functional as F

from crl.memory import modes
from crl.memory.base import Memory
from crl.nn.layers import Dense

Inputs = tuple[modes.Pair, modes.Pair, Tensor, Tensor]


class Traces(Memory):
    """Traces xₜ = aₜ xₜ₋₁ + bₜ, of which neither a nor b depends on the state: one scan.

    The output is LN(W [Re x, Im x]), or what goes past it, by a gate. Subclasses have W as ``mix``.
    """

    mix: Dense

    @abstractmethod
    def _inputs(self, x: Tensor) -> Inputs:
        """a and b, a real and an imaginary part each; what goes past, and the gate."""

    def advance(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        a, b, past, gate = self._inputs(x)
        state = modes.advance(a, b, state)
        return self._outputs(state, past, gate), state

    def scan(self, x: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        out, states = self.states(x, state, first)
        return out, states[:, -1]

    def states(self, x: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        a, b, past, gate = self._inputs(x)
        states = modes.scan(a, b, state, first)
        return self._outputs(states, past, gate), states

    def _outputs(self, state: Tensor, past: Tensor, gate: Tensor) -> Tensor:
        remembered = F.layer_norm(self.mix(state), (self.output_size,))
        return remembered * gate + past * (1 - gate)
