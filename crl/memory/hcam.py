"""HCAM: attention to chunks of the past first, and then within those that matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crl.config import require
from crl.memory.base import Memory
from crl.nn.attention import attend, sinusoids
from crl.nn.layers import Dense


class HCAM(Memory):
    """Hierarchical chunk attention (Lampinen et al. 2021).

    The past of an episode is kept in chunks. A step is compared with the mean of each (no gradient
    passes through a mean), attends to every step of the few that fit best, and adds what it finds,
    weighted by how well they fit. The chunk that is not full yet is attended to as a whole, as the
    paper's local attention does.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of :class:`HCAM`.

        Attributes:
            chunks, chunk: How many full chunks are kept, of how many steps; the state has
                (chunks + 1)·chunk·width floats and a counter.
            best: How many chunks a step looks into.
            heads: Of the attention; the hidden size is a multiple.
        """

        chunks: int = 8
        chunk: int = 32
        best: int = 2
        heads: int = 4

        def __post_init__(self) -> None:
            for name in ("chunks", "chunk", "best", "heads"):
                require(getattr(self, name) > 0, f"{name} must be above 0")
            require(self.best <= self.chunks, "best must not be above chunks")

    def __init__(self, input_size: int, hidden_size: int, config: Config,
                 generator: torch.Generator) -> None:
        require(hidden_size % config.heads == 0,
                f"a hidden size of {hidden_size} is no multiple of {config.heads} heads")
        size = (config.chunks + 1) * config.chunk * hidden_size + 1
        super().__init__(input_size, hidden_size, size)
        self._config = config
        self.enter = Dense(input_size, hidden_size, generator)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden_size) for _ in range(3))
        self.local = Attention(hidden_size, config.heads, generator)
        self.within = Attention(hidden_size, config.heads, generator)
        self.look = Dense(hidden_size, hidden_size, generator)
        self.label = Dense(hidden_size, hidden_size, generator)
        self.wide = Dense(hidden_size, 4 * hidden_size, generator)
        self.narrow = Dense(4 * hidden_size, hidden_size, generator)
        self.register_buffer("places", sinusoids(config.chunk, hidden_size), persistent=False)

    def advance(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        out, state = self.segment(x.unsqueeze(1), state)
        return out.squeeze(1), state

    def segment(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        batch, length, _ = x.shape
        size, kept, width = self._config.chunk, self._config.chunks, self.output_size
        count = state[:, -1:].detach().round().long()  # steps of the episode before this one
        h = self.enter(x)

        # The chunks that are kept, the one being filled, and behind what it has, the new steps.
        steps = torch.arange(length, device=x.device)
        at = kept * size + count % size + steps  # [B, L]
        room = -(-length // size) * size
        line = F.pad(state[:, :-1].view(batch, -1, width), (0, 0, 0, room))
        line = line.scatter(1, at.unsqueeze(-1).expand(-1, -1, width), h)
        chunks = line.view(batch, -1, size, width)

        number = torch.arange(chunks.shape[1], device=x.device)
        now = (at // size).unsqueeze(-1)  # the chunk of each step
        full = (count // size).clamp(max=kept).unsqueeze(-1)
        there = (number < now) & (number >= now - kept) & (number >= kept - full)  # [B, L, N]
        h = h + self._locally(h, chunks, now.squeeze(-1), at)
        h = h + self._hierarchically(h, chunks, there)
        h = h + self.narrow(F.relu(self.wide(self.norms[2](h))))

        after = count + length
        begin = ((kept * size + count % size + length) // size - kept) * size
        index = begin + torch.arange((kept + 1) * size, device=x.device)
        line = F.pad(line, (0, 0, 0, size)).gather(1, index.unsqueeze(-1).expand(-1, -1, width))
        return h, torch.cat((line.flatten(1), after.to(state.dtype)), 1)

    def _locally(self, h: Tensor, chunks: Tensor, now: Tensor, at: Tensor) -> Tensor:
        """Attention to the steps so far of the chunk that a step is in."""
        own = _pick(chunks, now.unsqueeze(-1)).squeeze(2)  # [B, L, size, W]
        place = torch.arange(chunks.shape[2], device=h.device)
        so_far = (place <= (at % chunks.shape[2]).unsqueeze(-1))[:, :, None, None]
        memory = self.norms[0](own) + cast(Tensor, self.places)
        found: Tensor = self.local(self.norms[0](h).unsqueeze(2), memory, so_far)
        return found.squeeze(2)

    def _hierarchically(self, h: Tensor, chunks: Tensor, there: Tensor) -> Tensor:
        """Attention within the best of the full chunks; 0 where there is none."""
        query = self.norms[1](h)
        labels = self.label(chunks.mean(2).detach())
        fit = self.look(query) @ labels.transpose(1, 2) / h.shape[-1] ** 0.5
        fit = fit.masked_fill(~there, torch.finfo(fit.dtype).min)
        fit, best = fit.topk(self._config.best, -1)  # [B, L, best]
        weight: Tensor = fit.softmax(-1) * there.gather(-1, best)
        memory = self.norms[1](_pick(chunks, best)) + cast(Tensor, self.places)
        all_of_it = torch.ones(1, 1, dtype=torch.bool, device=h.device)
        found: Tensor = self.within(query[:, :, None, None], memory, all_of_it)
        return (weight.unsqueeze(-1) * found.squeeze(3)).sum(2)


class Attention(nn.Module):
    """Projections, attention with several heads, and one more projection."""

    def __init__(self, width: int, heads: int, generator: torch.Generator) -> None:
        super().__init__()
        self._heads = heads
        self.query = Dense(width, width, generator)
        self.key_value = Dense(width, 2 * width, generator)
        self.out = Dense(width, width, generator)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """[..., Q, W], [..., K, W] and a mask [..., 1, Q, K] → [..., Q, W]."""
        key, value = self.key_value(memory).chunk(2, -1)
        return cast(Tensor, self.out(attend(self.query(x), key, value, self._heads, mask)))


def _pick(chunks: Tensor, which: Tensor) -> Tensor:
    """[B, N, S, W] and [B, L, k] → [B, L, k, S, W]."""
    rows = torch.arange(len(chunks), device=chunks.device)[:, None, None]
    return chunks[rows, which]
