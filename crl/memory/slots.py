"""What one module of a network has of a pool of modulators: slots, and a way of using them."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from crl.config import require
from crl.memory.modulators import Modulator
from crl.nn.layers import Dense


class Mixed(NamedTuple):
    """Slots of B samples that are not all the same."""

    samples: int           # B
    rows: Tensor | None    # [R] int64, the samples whose slot is not the identity; None: all
    occurring: list[int]   # their slots, each once
    which: Tensor          # [R] int64, where in ``occurring`` each one's slot is


class Choice:
    """What all modules of a pool look at: the slot in use."""

    slot: int | Mixed = 0


def arranged(slot: int | Tensor) -> int | Mixed:
    """One slot if it is the same for all samples; else what it takes to give each its own."""
    if not isinstance(slot, Tensor):
        return slot
    if (slot == slot[0]).all():
        return int(slot[0])
    rows = slot.nonzero().squeeze(1)
    occurring, which = torch.unique(slot[rows], return_inverse=True)
    return Mixed(len(slot), rows if len(rows) < len(slot) else None, occurring.tolist(), which)


class Slots(nn.ModuleList):
    """The tensors of each slot for one module; of slot 0, none."""

    def __init__(self, kind: Modulator, choice: Choice) -> None:
        super().__init__([nn.ParameterDict()])
        self.kind = kind
        self.choice = choice

    def own(self, slot: int) -> dict[str, nn.Parameter]:
        """The tensors of a slot, by name."""
        return dict(cast(nn.ParameterDict, self[slot]).items())

    def keep(self, slot: int) -> None:
        """Forgets all slots but one, which is used from now on."""
        for other in set(range(len(self))) - {slot}:
            self[other] = nn.ParameterDict()
        self.choice = Choice()
        self.choice.slot = slot

    def change(self, x: Tensor, out: Tensor, slot: int | Mixed) -> Tensor:
        """What the module gives in the place of ``out``: [B, …, in], [B, …, out] → [B, …, out]."""
        if slot == 0:
            return out
        if not isinstance(slot, Mixed):
            for_all = {name: tensor.unsqueeze(0) for name, tensor in self.own(slot).items()}
            return self.kind.apply(x, out, for_all)
        require(len(out) == slot.samples, f"a module got {len(out)} samples while slots of "
                f"{slot.samples} are in use; tell use() the slot of each")
        # Only the slots that occur are asked: the others must keep having no gradient.
        each = [self.own(k) for k in slot.occurring]
        own = {n: torch.stack([o[n] for o in each]).index_select(0, slot.which) for n in each[0]}
        if slot.rows is None:
            return self.kind.apply(x, out, own)
        changed = self.kind.apply(x[slot.rows], out[slot.rows], own)
        return out.index_copy(0, slot.rows, changed)


class Modulated(nn.Module):
    """What a modulated module is besides what it was."""

    plain: ClassVar[type[nn.Module]]  # what it was
    slots: Slots

    def forward(self, x: Tensor, *rest: Any, **options: Any) -> Tensor:
        slot = self.slots.choice.slot
        if rest and isinstance(self, Dense):  # in a trunk, which says the head
            slot, rest = arranged(rest[0]), ()
        return self.slots.change(x, super().forward(x, *rest, **options), slot)

    def __reduce__(self) -> tuple[Any, ...]:
        return _empty, (self.plain,), self.__dict__


@cache
def _modulated(plain: Any) -> Any:
    """The class of modulated modules of a class, as ``torch.nn.utils.parametrize`` has them."""
    return type(f"Modulated{plain.__name__}", (Modulated, plain), {"plain": plain})


def _empty(plain: Any) -> Any:
    """A modulated module with nothing in it; pickle looks for functions, not for made classes."""
    cls = _modulated(plain)
    return cls.__new__(cls)


def modulate(module: nn.Module, slots: Slots) -> None:
    """Gives a module slots, in place; it keeps all that it has."""
    module.__class__ = _modulated(cast(Any, type(module)))
    module.slots = slots


def restore(module: nn.Module) -> None:
    """Undoes :func:`modulate`."""
    del module.slots
    module.__class__ = cast(Modulated, module).plain
