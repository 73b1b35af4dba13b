"""Layers with parameters of their own for each head, for methods that put them into networks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from torch import Tensor, nn

from crl.nn.layers import by_head


class PerHead(nn.Module):
    """A layer called with [B, in] and one head, or a head per row ([B] int64).

    The parameters of a head are named ``heads.items.<head>.<name>``, from which a
    :class:`~crl.methods.parts.Part` knows whose they are. Those of heads that do not occur in a
    batch get no gradient.

    Args:
        size_out: Width of the output.
        own: The initial values of each head's parameters, by name.
    """

    def __init__(self, size_out: int, own: Iterable[dict[str, Tensor]]) -> None:
        super().__init__()
        self.size_out = size_out
        self.heads = nn.Module()
        self.heads.items = nn.ModuleList(nn.ParameterDict(values) for values in own)

    def own(self, head: int) -> nn.ParameterDict:
        """The parameters of a head."""
        return cast(nn.ParameterDict, cast(nn.ModuleList, self.heads.items)[head])

    def forward(self, x: Tensor, head: int | Tensor) -> Tensor:
        if not isinstance(head, Tensor):
            return self.one(x, self.own(head))
        return by_head(x, head, self.size_out, lambda h, rows: self.one(rows, self.own(h)))

    def one(self, x: Tensor, own: nn.ParameterDict) -> Tensor:
        """The output for rows of one head, with its parameters: [B, in] → [B, out]."""
        raise NotImplementedError
