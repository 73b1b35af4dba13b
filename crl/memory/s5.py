"""S5: a stack of diagonal state-space layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crl.config import require
from crl.memory import modes
from crl.memory.base import Memory
from crl.nn.layers import Dense

Discretised = tuple[modes.Pair, modes.Pair]


class S5(Memory):
    """Simplified state-space layers (Smith et al. 2023), as R2I has them (Samsami et al. 2024)."""

    @dataclass(frozen=True)
    class Config:
        """Options of :class:`S5`.

        Attributes:
            layers: Of the stack.
            modes: Complex states of a layer; the state has 2·layers·modes floats.
            blocks: Of equal initial modes.
            init: ``"hippo"``: the modes of HiPPO-LegS, time constants of 20 to 2000 steps; or
                ``"mimetic"``: half of the modes begin as sums over time, Ā ≈ 1, which makes
                recall easier to learn (after Trockman et al. 2024, who have layers whose B and C
                depend on the input).
            normalized: Inputs enter a mode by √(1 − |Ā|²) rather than by about Δ (Orvieto et al.
                2023), so that what is shown once leaves a trace as large as what is always there.
        """

        layers: int = 2
        modes: int = 64
        blocks: int = 4
        init: Literal["hippo", "mimetic"] = "hippo"
        normalized: bool = False

        def __post_init__(self) -> None:
            for name in ("layers", "modes", "blocks"):
                require(getattr(self, name) > 0, f"{name} must be above 0")
            require(self.modes % self.blocks == 0, "modes must be a multiple of blocks")

    def __init__(self, input_size: int, hidden_size: int, config: Config,
                 generator: torch.Generator) -> None:
        super().__init__(input_size, hidden_size, 2 * config.layers * config.modes)
        self.enter = Dense(input_size, hidden_size, generator)
        self.layers = nn.ModuleList(S5Layer(hidden_size, config, generator)
                                    for _ in range(config.layers))

    def advance(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        x, states = self.enter(x), []
        for layer, before in self._each(state):
            a, scale = layer.discretised()
            after = modes.advance(a, layer.inputs(x, scale), before)
            x = layer.outputs(after, x)
            states.append(after)
        return x, torch.cat(states, -1)

    def scan(self, x: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        out, states = self._run(x, state, first)
        return out, torch.cat([of_layer[:, -1] for of_layer in states], -1)

    def states(self, x: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        out, states = self._run(x, state, first)
        return out, torch.cat(states, -1)

    def _run(self, x: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The outputs [B, L, out] and the states of each layer, [B, L, 2P]."""
        x, states = self.enter(x), []
        for layer, before in self._each(state):
            a, scale = layer.discretised()
            states.append(modes.scan(a, layer.inputs(x, scale), before, first))
            x = layer.outputs(states[-1], x)
        return x, states

    def _each(self, state: Tensor) -> list[tuple[S5Layer, Tensor]]:
        layers = cast(list[S5Layer], list(self.layers))
        return list(zip(layers, state.chunk(len(layers), -1), strict=True))


class S5Layer(nn.Module):
    """xₜ = Ā xₜ₋₁ + B̄ uₜ; yₜ = Re(C xₜ) + D ⊙ uₜ; then GELU, a gated linear unit, skip, LayerNorm.

    Ā and B̄ = Δ/(1 − ΔΛ/2) B are the bilinear discretisation with a step Δ of each mode. The real
    part of Λ is −1/(w² + ½), which no gradient can make positive and whose gradient stays in
    proportion to it (StableSSM, Wang & Li 2024); R2I's release leaves it free.
    """

    def __init__(self, width: int, config: S5.Config, generator: torch.Generator) -> None:
        super().__init__()
        values, vectors = hippo_modes(config.modes // config.blocks)
        values = values.repeat(config.blocks)
        vectors = torch.kron(torch.eye(config.blocks), vectors)
        b = torch.randn(config.modes, width, generator=generator) / math.sqrt(width)
        c = torch.randn(width, config.modes, generator=generator) / math.sqrt(config.modes)
        b, c = vectors.mH @ b.to(vectors.dtype), c.to(vectors.dtype) @ vectors
        low, high = math.log(1e-3), math.log(0.1)
        step = torch.rand(config.modes, generator=generator) * (high - low) + low
        slowness = torch.full((config.modes,), math.sqrt(1.5))  # Re λ = −½: 2/Δ steps
        frequency = values.imag.clone()
        if config.init == "mimetic":
            slowness[::2], frequency[::2] = 100.0, 0.0
        self.slowness = nn.Parameter(slowness)
        self.frequency = nn.Parameter(frequency)
        self.log_step = nn.Parameter(step)
        self.b = nn.Parameter(torch.cat((b.real, b.imag)).t().contiguous())   # [H, 2P]
        self.c = nn.Parameter(torch.cat((c.real, -c.imag), 1).t().contiguous())  # [2P, H]
        self.d = nn.Parameter(torch.randn(width, generator=generator))
        self.gate = Dense(width, 2 * width, generator)
        self.norm = nn.LayerNorm(width)
        self._normalized = config.normalized
        self._kept: tuple[list[tuple[Tensor, int]], Discretised] | None = None

    def discretised(self) -> Discretised:
        """Ā and what B u is scaled by; kept where the parameters are frozen and still the same."""
        made_of = (self.slowness, self.frequency, self.log_step)
        if any(p.requires_grad or p.is_inference() for p in made_of):
            return self._discretise()
        stamp: list[tuple[Tensor, int]] = [(p, p._version) for p in made_of]
        if self._kept and all(p is q and v == w for (p, v), (q, w) in
                              zip(stamp, self._kept[0], strict=True)):
            return self._kept[1]
        found = self._discretise()
        self._kept = stamp, found
        return found

    def _discretise(self) -> Discretised:
        step = self.log_step.exp()
        half_re, half_im = -0.5 * step / (self.slowness.square() + 0.5), 0.5 * step * self.frequency
        ahead, turn = 1 - half_re, half_im.square()
        below = ahead.square() + turn
        a = (1 - half_re.square() - turn) / below, 2 * half_im / below
        if self._normalized:
            # 1 − |Ā|² = −4 Re(ΔΛ/2) / |1 − ΔΛ/2|², which no rounding makes negative.
            return a, ((-4 * half_re / below).sqrt(), torch.zeros_like(step))
        return a, (step * ahead / below, step * half_im / below)

    def inputs(self, u: Tensor, scale: modes.Pair) -> modes.Pair:
        """B̄ u: [..., H] → [..., P] each."""
        re, im = (u @ self.b).chunk(2, -1)
        return scale[0] * re - scale[1] * im, scale[0] * im + scale[1] * re

    def outputs(self, state: Tensor, u: Tensor) -> Tensor:
        """[..., 2P] and [..., H] → [..., H]."""
        y = F.gelu(state @ self.c + self.d * u)
        return cast(Tensor, self.norm(F.glu(self.gate(y), -1) + u))


def hippo_modes(size: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues [N] and eigenvectors [N, N] of the normal part of HiPPO-LegS (Gu et al. 2022).

    A[n, k] = −√(2n+1)√(2k+1) below the diagonal, −(n+1) on it; A + ppᵀ with p[n] = √(n+½) is −½
    plus a skew-symmetric matrix.
    """
    n = np.arange(size)
    root = np.sqrt(2 * n + 1)
    a = -np.tril(np.outer(root, root), -1) - np.diag(n + 1.0)
    p = np.sqrt(n + 0.5)
    skew = a + np.outer(p, p) + 0.5 * np.eye(size)
    frequencies, vectors = np.linalg.eigh(-1j * skew)
    return (torch.from_numpy(-0.5 + 1j * frequencies).to(torch.complex64),
            torch.from_numpy(vectors).to(torch.complex64))
