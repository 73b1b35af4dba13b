"""The contract of a memory: what makes of a sequence of inputs a sequence of outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn


class Memory(nn.Module, ABC):
    """A sequence core with a state of fixed size.

    A state is one float tensor [B, ``state_size``] whatever the core, so that a replay, a policy
    and an exported network keep it alike. At the start of an episode it is zero.

    Args:
        input_size: Width of an input.
        output_size: Width of an output.
        state_size: Floats of state.

    Attributes:
        context: Inputs that an output depends on directly, the current one among them; what is
            longer ago can only come through a state that steps have rewritten.
    """

    context = 1

    @dataclass(frozen=True)
    class Config:
        """Options of the core."""

    def __init__(self, input_size: int, output_size: int, state_size: int) -> None:
        super().__init__()
        self.input_size = input_size
        self.output_size = output_size
        self.state_size = state_size

    def initial_state(self, batch: int) -> Tensor:
        """The state before an episode, [B, ``state_size``]."""
        parameter = next(self.parameters())
        return torch.zeros(batch, self.state_size, dtype=parameter.dtype, device=parameter.device)

    def step(self, x: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """One step.

        Args:
            x: [B, in].
            state: The state before, [B, ``state_size``].
            first: [B] bool, true where ``x`` is the first of an episode: the state before is
                ignored there, whatever it holds.

        Returns:
            The output [B, out] and the next state.
        """
        return self.advance(x, begun(state, first))

    @abstractmethod
    def advance(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`step` within an episode."""

    def scan(self, x: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """All steps of a sequence: what :meth:`step` gives one after another, faster.

        Args:
            x: [B, L, in].
            state: The state before the first step, [B, ``state_size``].
            first: [B, L] bool.

        Returns:
            The outputs [B, L, out] and the state after the last step.
        """
        outs = []
        for steps in _segments(first):
            out, state = self.segment(x[:, steps], begun(state, first[:, steps.start]))
            outs.append(out)
        return torch.cat(outs, 1), state

    def states(self, x: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`scan`, for whoever goes on from every step: with the state after each.

        Returns:
            The outputs [B, L, out] and the states [B, L, ``state_size``].
        """
        outs, states = [], []
        for x_t, first_t in zip(x.unbind(1), first.unbind(1), strict=True):
            out, state = self.step(x_t, state, first_t)
            outs.append(out)
            states.append(state)
        return torch.stack(outs, 1), torch.stack(states, 1)

    def segment(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`scan` of at most 64 steps within an episode."""
        outs = []
        for x_t in x.unbind(1):
            out, state = self.advance(x_t, state)
            outs.append(out)
        return torch.stack(outs, 1), state


_LONGEST = 64


def _segments(first: Tensor) -> Iterator[slice]:
    """Cuts time [B, L] where an episode of any row begins, and what is left into equal lengths."""
    cuts = [0, *(first[:, 1:].any(0).nonzero().squeeze(1) + 1).tolist(), first.shape[1]]
    for begin, end in pairwise(cuts):
        for start in range(begin, end, _LONGEST):
            yield slice(start, min(start + _LONGEST, end))


def begun(state: Tensor, first: Tensor) -> Tensor:
    """The state, zero where an episode begins; what was there may be anything."""
    return torch.where(first.unsqueeze(-1), 0, state)


def make_memory(name: str, input_size: int, hidden_size: int, generator: torch.Generator,
                **options: Any) -> Memory:
    """Makes a registered memory.

    Args:
        name: Registered name (``crl list memories``).
        input_size: Width of an input.
        hidden_size: Width of the output, and of what is inside.
        generator: Source of the initial weights.
        **options: Fields of the memory's ``Config``.

    Raises:
        UserError: Unknown name or option, or a value of the wrong type or out of range.
    """
    from crl import config, registry

    cls = registry.memories.load(name)
    memory: Memory = cls(input_size, hidden_size, config.build(cls.Config, options, "memory"),
                         generator)
    return memory
