"""TrMRL's window transformer: a few recent steps, seen anew at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crl.config import require
from crl.memory.attentive import AttentiveMemory
from crl.nn.attention import attend, sinusoids
from crl.nn.layers import Dense


class TrMRL(AttentiveMemory):
    """The working memory of TrMRL (Melo 2022): a transformer over the last few embeddings.

    No normalisation; T-Fixup (Huang et al. 2020) scales the initial weights instead. To remember
    across the episodes of a trial, say that only the trial's first step is a first one.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of :class:`TrMRL`.

        Attributes:
            layers: Of the transformer.
            heads: Of the attention; the hidden size is a multiple.
            window: Steps that are seen, the current one among them; the state has
                (window − 1)·width floats and a counter.
        """

        layers: int = 2
        heads: int = 4
        window: int = 5

        def __post_init__(self) -> None:
            for name in ("layers", "heads"):
                require(getattr(self, name) > 0, f"{name} must be above 0")
            require(self.window > 1, "window must be above 1")

    def __init__(self, input_size: int, hidden_size: int, config: Config,
                 generator: torch.Generator) -> None:
        super().__init__(input_size, hidden_size, config.window - 1, config.heads, generator)
        self._window = self.context = config.window
        self.layers = nn.ModuleList(WindowLayer(hidden_size, config, generator)
                                    for _ in range(config.layers))
        self.register_buffer("positions", sinusoids(config.window, hidden_size), persistent=False)

    def segment(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        batch, length, _ = x.shape
        before = self._window - 1
        past, seen = state[:, :-1].view(batch, before, self.output_size), state[:, -1:]
        context = torch.cat((past, self.enter(x)), 1)
        windows = context.unfold(1, self._window, 1).transpose(-1, -2)
        windows = windows.reshape(-1, self._window, self.output_size)  # [B·L, window, width]

        steps = torch.arange(length, device=x.device)
        place = torch.arange(self._window, device=x.device)
        known = (steps[:, None] + place) >= before - seen[..., None]  # [B, L, window]
        known = known.flatten(0, 1)[:, None, None]
        h = windows + cast(Tensor, self.positions)
        for layer in self.layers:
            h = layer(h, known)
        seen = (seen + length).clamp(max=before)
        out = h[:, -1].view(batch, length, -1)
        return out, torch.cat((context[:, length:].flatten(1), seen), 1)


class WindowLayer(nn.Module):
    """x + attention(x), then x + MLP(x)."""

    def __init__(self, width: int, config: TrMRL.Config, generator: torch.Generator) -> None:
        super().__init__()
        self._heads = config.heads
        self.query_key = Dense(width, 2 * width, generator)
        self.value = Dense(width, width, generator)
        self.attended = Dense(width, width, generator)
        self.wide = Dense(width, 4 * width, generator)
        self.narrow = Dense(4 * width, width, generator)
        with torch.no_grad():
            for dense in (self.value, self.attended, self.wide, self.narrow):
                dense.kernel.mul_(0.67 * config.layers**-0.25)  # an encoder's, in T-Fixup

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        """[..., window, W] and the steps there are, broadcast to [..., heads, window, window]."""
        query, key = self.query_key(x).chunk(2, -1)
        x = x + self.attended(attend(query, key, self.value(x), self._heads, known))
        return cast(Tensor, x + self.narrow(F.relu(self.wide(x))))
