"""Conditional flow matching: velocities that carry one point to another, learned from pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crl.nn.layers import Dense

Velocity = Callable[[Tensor, Tensor], Tensor]
"""Points [B, size] and times [B, 1], 0 to 1 → velocities [B, size]."""
Rule = Literal["euler", "midpoint"]


def matching_errors(velocity: Velocity, start: Tensor, end: Tensor, generator: torch.Generator, *,
                    noise: float = 0.1, at_start: float = 0.5) -> Tensor:
    """How far velocities are from those of straight paths: the mean square of each row, [B].

    Lipman et al. 2023, "Flow Matching for Generative Modeling": at x = (1 − t) start + t end, t
    uniform, the velocity should be end − start. A field that is told the start, which it must be
    where paths cross, could read that off as (x − start) / t, and would not know it at t = 0, where
    an integration begins. Noise on x hides it, and t is 0 often enough.

    Args:
        velocity: The field, which knows what else belongs to each row.
        start, end: [B, size].
        generator: Source of all draws.
        noise: Standard deviation of the noise on x; none at t = 0.
        at_start: Share of the rows at t = 0.
    """
    draws = torch.rand(2, len(start), 1, generator=generator)
    time = torch.where(draws[0] < at_start, 0, draws[1])
    hiding = noise * torch.randn(start.shape, generator=generator) * (time > 0)
    found = velocity(torch.lerp(start, end, time) + hiding, time)
    return (found - (end - start)).square().mean(-1)


def integrate(velocity: Velocity, start: Tensor, steps: int, rule: Rule = "midpoint") -> Tensor:
    """Where points [B, size] are at t = 1 that begin at t = 0, in so many steps of one length.

    The midpoint rule, of second order, asks for the velocity twice a step, Euler's once.
    """
    step, x = 1 / steps, start
    for i in range(steps):
        time = x.new_full((len(x), 1), i * step)
        v = velocity(x, time)
        if rule == "midpoint":
            v = velocity(x + step / 2 * v, time + step / 2)
        x = x + step * v
    return x


class VelocityField(nn.Module):
    """A network for velocities, whose two hidden layers a context scales and shifts.

    Perez et al. 2018, "FiLM: Visual Reasoning with a General Conditioning Layer": products of what
    the context says with what is to be carried, which layers in a row have to approximate. A
    velocity is the network's own plus shares, which it chooses, of directions that are given.

    Args:
        size: Of a point.
        directions: How many are given.
        context: Numbers of a context.
        width: Of the layers.
        generator: Source of the initial weights.
    """

    def __init__(self, size: int, directions: int, context: int, width: int,
                 generator: torch.Generator) -> None:
        super().__init__()
        self.context = Dense(context, width, generator)
        self.modulation = Dense(width, 4 * width, generator)
        self.first = Dense((2 + directions) * size + 1, width, generator)
        self.second = Dense(width, width, generator)
        self.last = Dense(width, (1 + directions) * size, generator)

    def conditioned(self, start: Tensor, directions: Tensor, context: Tensor) -> Velocity:
        """The field for rows that begin at starts [B, size], with directions [B, D, size] and
        contexts [B, context]."""
        scale, shift, second_scale, second_shift = self.modulation(
            F.elu(self.context(context))).chunk(4, -1)
        told = torch.cat((start, directions.flatten(1)), -1)
        ways = F.pad(directions, (0, 0, 1, 0), value=1.0)  # the network's own is a share of ones

        def velocity(x: Tensor, time: Tensor) -> Tensor:
            h = self.first(torch.cat((x, time, told), -1))
            h = F.elu(torch.addcmul(h + shift, h, scale))
            h = self.second(h)
            h = F.elu(torch.addcmul(h + second_shift, h, second_scale))
            shares: Tensor = self.last(h).view(ways.shape)
            return (shares * ways).sum(1)

        return velocity
