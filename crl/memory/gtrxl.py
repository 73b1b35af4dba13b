"""GTrXL: a transformer over a sliding window of the past, with gates in place of sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crl.config import require
from crl.memory.attentive import AttentiveMemory
from crl.nn.attention import attend, sinusoids, split_heads
from crl.nn.layers import Dense


class GTrXL(AttentiveMemory):
    """Gated Transformer-XL (Parisotto et al. 2020).

    Every layer sees its own inputs of the last ``window`` steps of the episode, so that L layers
    look L·window steps back. As published, no gradient passes through a state that was stored;
    within a sequence it passes through all of the window.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of :class:`GTrXL`.

        Attributes:
            layers: Their number; the state has layers·window·width floats and a counter.
            heads: Of the attention; the hidden size is a multiple.
            window: Steps before the current one that a layer attends to.
        """

        layers: int = 2
        heads: int = 4
        window: int = 32

        def __post_init__(self) -> None:
            for name in ("layers", "heads", "window"):
                require(getattr(self, name) > 0, f"{name} must be above 0")

    def __init__(self, input_size: int, hidden_size: int, config: Config,
                 generator: torch.Generator) -> None:
        super().__init__(input_size, hidden_size, config.layers * config.window, config.heads,
                         generator)
        self._window = config.window
        self.context = config.layers * config.window + 1
        self.layers = nn.ModuleList(GTrXLLayer(hidden_size, config, generator)
                                    for _ in range(config.layers))

    def segment(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        batch, length, _ = x.shape
        window = self._window
        caches = state[:, :-1].view(batch, len(self.layers), window, self.output_size)
        seen = state[:, -1:]

        # Keys are the window and then the segment; a query sees itself and `window` before it.
        position = torch.arange(window + length, device=x.device)
        distance = position[window:, None] - position  # [Q, K]
        allowed = (distance >= 0) & (distance <= window)
        known = position >= window - seen  # [B, K]
        allowed = (allowed & known.unsqueeze(1)).unsqueeze(1)  # [B, 1, Q, K]

        h, kept = self.enter(x), []
        for layer, cache in zip(self.layers, caches.unbind(1), strict=True):
            context = torch.cat((cache, h), 1)
            kept.append(context[:, length:])
            h = layer(h, context, allowed, distance)
        seen = (seen + length).clamp(max=window)
        return h, torch.cat((torch.stack(kept, 1).flatten(1), seen), 1)


class GTrXLLayer(nn.Module):
    """Attention and an MLP, each behind a LayerNorm and joined by a gate."""

    def __init__(self, width: int, config: GTrXL.Config, generator: torch.Generator) -> None:
        super().__init__()
        self._heads = config.heads
        self.norm_in = nn.LayerNorm(width)
        self.norm_mid = nn.LayerNorm(width)
        self.query = Dense(width, width, generator)
        self.key_value = Dense(width, 2 * width, generator)
        self.distance = Dense(width, width, generator)
        self.content_bias = nn.Parameter(torch.zeros(width))
        self.distance_bias = nn.Parameter(torch.zeros(width))
        self.attended = Dense(width, width, generator)
        self.wide = Dense(width, 4 * width, generator)
        self.narrow = Dense(4 * width, width, generator)
        self.gate_attended = Gate(width, generator)
        self.gate_narrow = Gate(width, generator)
        self.register_buffer("sinusoids", sinusoids(config.window + 1, width), persistent=False)

    def forward(self, x: Tensor, context: Tensor, allowed: Tensor, distance: Tensor) -> Tensor:
        """[B, Q, W], the context [B, K, W] that it ends, [B, 1, Q, K], [Q, K] → [B, Q, W]."""
        context = self.norm_in(context)
        query = self.query(context[:, -x.shape[1]:])
        key, value = self.key_value(context).chunk(2, -1)
        # Relative positions (Dai et al. 2019): a score for each distance, put where it belongs.
        by_distance = split_heads(query + self.distance_bias, self._heads) @ split_heads(
            self.distance(cast(Tensor, self.sinusoids)), self._heads).transpose(-1, -2)
        index = distance.clamp(0, by_distance.shape[-1] - 1)
        bias = by_distance.gather(-1, index.expand(*by_distance.shape[:2], -1, -1))
        bias = (bias / (x.shape[-1] // self._heads) ** 0.5).masked_fill(~allowed, float("-inf"))
        found = self.attended(attend(query + self.content_bias, key, value, self._heads, bias))
        x = self.gate_attended(x, F.relu(found))
        return cast(Tensor, self.gate_narrow(
            x, F.relu(self.narrow(F.relu(self.wide(self.norm_mid(x)))))))


class Gate(nn.Module):
    """A GRU's gate between what comes past a layer and what comes out of it, nearly shut at first.

    r, z = σ(W y + U x − (0, 2)); h = tanh(W y + U (r ⊙ x)); (1 − z) ⊙ x + z ⊙ h.
    """

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.of_layer = Dense(width, 3 * width, generator)
        self.of_past = Dense(width, 2 * width, generator)
        self.of_reset = Dense(width, width, generator)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        reset, update, new = self.of_layer(y).chunk(3, -1)
        reset_of_past, update_of_past = self.of_past(x).chunk(2, -1)
        update = torch.sigmoid(update + update_of_past - 2)
        reset = torch.sigmoid(reset + reset_of_past)
        new = torch.tanh(new + self.of_reset(reset * x))
        return (1 - update) * x + update * new
