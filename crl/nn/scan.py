"""First-order linear recurrences over time: what state-space and forgetful memories are made of.

A loop over time makes one small operation a step; a tree makes large ones, and each of them passes
over memory again. Blocks are in between: the loop runs within all blocks of the time axis at once,
a scan over the blocks' ends carries the state from one to the next, and one product adds it to what
is inside. That is 2·√L small operations or fewer, and three passes over memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_BLOCK = 16


def linear_scan(a: Tensor, b: Tensor, initial: Tensor, first: Tensor) -> Tensor:
    """xₜ = aₜ ⊙ xₜ₋₁ + bₜ, and xₜ = bₜ where an episode begins.

    Nothing from before an episode reaches it, not even what is not finite, nor does a gradient
    go the other way.

    Args:
        a: The same at all times, [P], or [B, L, P]; real or complex, as ``b`` is.
        b: [B, L, P].
        initial: x₋₁, [B, P].
        first: Where an episode begins, [B, L] bool.

    Returns:
        x, [B, L, P].
    """
    x: Tensor = _LinearScan.apply(a, b, initial, first)  # type: ignore[no-untyped-call]
    return x


class _LinearScan(torch.autograd.Function):
    """The recurrence; its gradient is the same one, backwards in time.

    With gₜ = ∂loss/∂xₜ in all: gₜ = ∂loss/∂xₜ directly + conj(aₜ₊₁) gₜ₊₁, ∂loss/∂bₜ = gₜ and
    ∂loss/∂aₜ = gₜ conj(xₜ₋₁).
    """

    generate_vmap_rule = True  # methods take gradients sample by sample

    @staticmethod
    def forward(a: Tensor, b: Tensor, initial: Tensor, first: Tensor) -> Tensor:
        return _scan(a, b, initial, first)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        a, _, initial, first = inputs
        ctx.save_for_backward(a, initial, first, output)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, at_x: Tensor) -> tuple[Tensor | None, ...]:
        a, initial, first, x = ctx.saved_tensors
        # From the last step to the first; where the next step begins an episode, nothing comes.
        cut = torch.cat((torch.ones_like(first[:, :1]), first[:, 1:].flip(1)), 1)
        back = a if a.dim() == 1 else torch.cat((a[:, :1], a[:, 1:].flip(1)), 1)
        at_b = _scan(back.conj(), at_x.flip(1), torch.zeros_like(initial), cut).flip(1)
        before = torch.cat((initial.unsqueeze(1), x[:, :-1]), 1)
        within = first.logical_not().unsqueeze(-1)
        at_a = torch.where(within, at_b * before.conj(), 0)
        now = a if a.dim() == 1 else a[:, 0]
        at_initial = torch.where(within[:, 0], at_b[:, 0] * now.conj(), 0)
        return at_a.sum((0, 1)) if a.dim() == 1 else at_a, at_b, at_initial, None


def _scan(a: Tensor, b: Tensor, initial: Tensor, first: Tensor) -> Tensor:
    length, always = b.shape[1], a.dim() == 1
    if length <= _BLOCK:
        return torch.stack(_steps(a, b, first, initial), 1)

    rest = -length % _BLOCK
    count = (length + rest) // _BLOCK
    a, b, first = (t if t.dim() == 1 else F.pad(t, (0, 0) * (t.dim() - 2) + (0, rest)).view(
        len(t), count, _BLOCK, *t.shape[2:]) for t in (a, b, first))
    inside = _steps(a, b, first)  # as if every block began at 0
    through = [a if always else a[:, :, 0]]  # what is left of what enters a block
    for j in range(1, _BLOCK):
        through.append(through[-1] * (a if always else a[:, :, j]))
    began = first.cumsum(2) > 0  # an episode, since the block's start
    ends = _scan(through[-1], inside[-1], initial, began[:, :, -1])
    enters = torch.cat((initial.unsqueeze(1), ends[:, :-1]), 1).unsqueeze(2)
    own = torch.stack(inside, 2)
    both = torch.addcmul(own, torch.stack(through, 0 if always else 2), enters)
    return torch.where(began.unsqueeze(-1), own, both).flatten(1, 2)[:, :length]


def _steps(a: Tensor, b: Tensor, first: Tensor, initial: Tensor | None = None) -> list[Tensor]:
    """The recurrence step by step, along the last axis but one: [..., L, P] → L × [..., P]."""
    xs = [] if initial is not None else [b[..., 0, :]]
    x = xs[0] if initial is None else initial
    for t in range(len(xs), b.shape[-2]):
        b_t = b[..., t, :]
        x = torch.addcmul(b_t, a if a.dim() == 1 else a[..., t, :], x)
        x = torch.where(first[..., t, None], b_t, x)  # 0 · x would let through what is not finite
        xs.append(x)
    return xs
