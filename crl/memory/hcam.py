"""HCAM: attention to chunks of the past first, and then within those that matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crl.config import require
from crl.memory.attentive import AttentiveMemory
from crl.nn.attention import attend, join_heads, sinusoids, split_heads
from crl.nn.layers import Dense


class HCAM(AttentiveMemory):
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
        super().__init__(input_size, hidden_size, (config.chunks + 1) * config.chunk,
                         config.heads, generator)
        self.context = (config.chunks + 1) * config.chunk
        self._config = config
        self.norms = nn.ModuleList(nn.LayerNorm(hidden_size) for _ in range(3))
        self.local = Attention(hidden_size, generator)
        self.within = Attention(hidden_size, generator)
        self.look = Dense(hidden_size, hidden_size, generator)
        self.label = Dense(hidden_size, hidden_size, generator)
        self.wide = Dense(hidden_size, 4 * hidden_size, generator)
        self.narrow = Dense(4 * hidden_size, hidden_size, generator)
        self.register_buffer("places", sinusoids(config.chunk, hidden_size), persistent=False)

    def segment(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        batch, length, _ = x.shape
        size, kept, width = self._config.chunk, self._config.chunks, self.output_size
        count = state[:, -1:].detach().round().long()  # steps of the episode before this one
        h = self.enter(x)

        # The chunks that are kept, the one being filled, and behind what it has, the new steps.
        at = kept * size + count % size + torch.arange(length, device=x.device)  # [B, L]
        room = -(-length // size) * size
        line = F.pad(state[:, :-1].view(batch, -1, width), (0, 0, 0, room))
        line = line.scatter(1, at.unsqueeze(-1).expand(-1, -1, width), h)  # [B, T, W]

        place = torch.arange(line.shape[1], device=x.device)
        number, own = place[::size] // size, (at // size).unsqueeze(-1)
        full = (count // size).clamp(max=kept).unsqueeze(-1)
        there = (number < own) & (number >= own - kept) & (number >= kept - full)  # [B, L, N]
        in_own = (place // size == own) & (place <= at.unsqueeze(-1))  # [B, L, T]
        here = cast(Tensor, self.places)[at % size]  # without it, nobody knows how long ago
        h = h + self._locally(h, here, line, in_own)
        h = h + self._hierarchically(h, here, line, there)
        h = h + self.narrow(F.relu(self.wide(self.norms[2](h))))

        after = count + length
        begin = ((kept * size + count % size + length) // size - kept) * size
        index = begin + torch.arange((kept + 1) * size, device=x.device)
        line = F.pad(line, (0, 0, 0, size)).gather(1, index.unsqueeze(-1).expand(-1, -1, width))
        return h, torch.cat((line.flatten(1), after.to(state.dtype)), 1)

    def _locally(self, h: Tensor, here: Tensor, line: Tensor, in_own: Tensor) -> Tensor:
        """Attention to the steps so far of the chunk that a step is in."""
        query, key, value = self.local(self.norms[0](h) + here, self._placed(self.norms[0](line)))
        found = attend(query, key, value, self._config.heads, in_own.unsqueeze(1))
        return cast(Tensor, self.local.out(found))

    def _hierarchically(self, h: Tensor, here: Tensor, line: Tensor, there: Tensor) -> Tensor:
        """Attention within the best of the full chunks; 0 where there is none.

        All chunks are looked into and most are given no weight: there are few, and picking the best
        for every step would copy them.
        """
        width = h.shape[-1]
        chunks = line.view(len(h), -1, self._config.chunk, width)
        seen = self.norms[1](h)
        labels = self.label(chunks.mean(2).detach())
        fit = self.look(seen) @ labels.transpose(1, 2) / width**0.5
        fit = fit.masked_fill(~there, torch.finfo(fit.dtype).min)
        best_fit, best = fit.topk(self._config.best, -1)  # [B, L, best]
        weight = best_fit.softmax(-1) * there.gather(-1, best)
        weight = torch.zeros_like(fit).scatter(-1, best, weight)  # [B, L, N]

        query, key, value = (split_heads(t, self._config.heads) for t in self.within(
            seen + here, self._placed(self.norms[1](line))))
        score = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        score = score.view(*score.shape[:3], -1, self._config.chunk).softmax(-1)
        share = (score * weight[:, None, :, :, None]).flatten(-2)
        found: Tensor = self.within.out(join_heads(share @ value))
        return found * there.any(-1, keepdim=True)

    def _placed(self, line: Tensor) -> Tensor:
        """Each step with its place in its chunk."""
        places = cast(Tensor, self.places)
        return line + places.repeat(line.shape[1] // len(places), 1)


class Attention(nn.Module):
    """The projections of an attention: into queries, keys and values, and out again."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.query = Dense(width, width, generator)
        self.key_value = Dense(width, 2 * width, generator)
        self.out = Dense(width, width, generator)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, L, W], [B, T, W] → queries of the one, keys and values of the other."""
        key, value = self.key_value(memory).chunk(2, -1)
        return self.query(x), key, value
