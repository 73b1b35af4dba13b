"""A pool of modulators: one frozen network, and for each slot a small change to what it does.

Schmied et al. 2023, "Learning to Modulate pre-trained Models in RL". Their release has the whole
pool in one parameter, so that Adam's momentum goes on moving the slots of finished tasks, and when
all slots are taken it overwrites them. Here each slot has parameters of its own, and a pool that is
full says so.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from crl.config import require
from crl.errors import UserError, unknown
from crl.memory.modulators import Modulator
from crl.memory.slots import Choice, Mixed, Slots, arranged, modulate, restore

_SHOWN = 6


class ModulationPool(nn.Module):
    """Modulators for modules of a backbone, a set of them per slot.

    The modules stay where they are and keep the names of their parameters; each gets a child,
    ``slots``. Slot 0 is the identity: it has no parameters and is there from the start. A new slot
    does what slot 0 does until it is trained. The backbone goes on learning unless it is told not
    to, by ``backbone.requires_grad_(False)`` before slots are added.

    A layer of a :class:`~crl.nn.layers.Trunk` uses the slot whose number is the head's, row by row;
    every other module the one that :meth:`use` said. A copy of the backbone goes on with the slot
    in use when it was made.

    Args:
        backbone: Any module.
        kinds: Paths of modules in it, as of ``named_modules()``, where ``*`` stands for any
            characters → how these are modulated.
        generator: Source of the initial values.
        maximum: Slots besides the identity; None: no limit.

    Raises:
        UserError: There is nothing at a path, or something that cannot be modulated so.
    """

    def __init__(self, backbone: nn.Module, kinds: Mapping[str, Modulator],
                 generator: torch.Generator, maximum: int | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.maximum = maximum
        self._generator = generator
        self._choice = Choice()
        self._paths = []
        for path, kind in _matching(backbone, kinds).items():
            modulate(backbone.get_submodule(path), Slots(kind, self._choice))
            self._paths.append(path)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """What the backbone gives."""
        return self.backbone(*inputs, **options)

    def __len__(self) -> int:
        """The number of slots, the identity among them."""
        return len(_slots(self.backbone, self._paths[0]))

    def grow(self) -> int:
        """Adds a slot and returns its number; ``UserError`` if there are ``maximum`` already."""
        require(self.maximum is None or len(self) <= self.maximum,
                f"all {self.maximum} slots of the pool are taken; give it a higher maximum")
        like = next(self.backbone.parameters(), torch.empty(0))
        for path in self._paths:
            slots = _slots(self.backbone, path)
            values = slots.kind.init(self.backbone.get_submodule(path), self._generator)
            slots.append(nn.ParameterDict({n: value.to(like) for n, value in values.items()}))
        return len(self) - 1

    def use(self, slot: int | Tensor | None) -> AbstractContextManager[Any]:
        """Says which slot is used from now on; in a ``with`` statement, within it.

        Args:
            slot: Of all samples, None being the identity; or of each, [B] int64. Modulated modules
                must then be called with B samples, the first dimension.
        """
        chosen = arranged(0 if slot is None else slot)
        for one in chosen.occurring if isinstance(chosen, Mixed) else [chosen]:
            self._require(one)
        before = ExitStack()  # does nothing unless it is entered
        before.callback(setattr, self._choice, "slot", self._choice.slot)
        self._choice.slot = chosen
        return before

    def freeze(self, slot: int) -> None:
        """Ends a slot's training for good: it gets no gradient, and no optimiser moves it."""
        for parameter in self.slot_parameters(slot).values():
            parameter.requires_grad_(False)
            parameter.grad = None

    def slot_parameters(self, slot: int) -> dict[str, nn.Parameter]:
        """A slot's parameters, by their names in ``backbone.named_parameters()``."""
        self._require(slot)
        return {f"{path}.slots.{slot}.{name}".lstrip("."): parameter for path in self._paths
                for name, parameter in _slots(self.backbone, path).own(slot).items()}

    def slot_size(self, slot: int) -> SlotSize:
        """What a slot costs."""
        parameters = self.slot_parameters(slot).values()
        return SlotSize(sum(p.numel() for p in parameters), sum(p.nbytes for p in parameters))

    @torch.no_grad()
    def merged(self, slot: int) -> nn.Module:
        """A copy of the backbone that does what a slot makes it do, for good.

        LoRA, and scale and shift of dense layers and normalisation, are multiplied in and cost
        nothing. What cannot be stays on top, as the only slot.
        """
        self._require(slot)
        backbone = copy.deepcopy(self.backbone)
        for path in self._paths:
            module, slots = backbone.get_submodule(path), _slots(backbone, path)
            if slot == 0 or slots.kind.merge(module, slots.own(slot)):
                restore(module)
            else:
                slots.keep(slot)
        return backbone

    def _require(self, slot: int) -> None:
        require(0 <= slot < len(self), f"the pool has no slot {slot}, but 0 to {len(self) - 1}; "
                "add one with grow()")


class SlotSize(NamedTuple):
    """What a slot costs: how many numbers, and their bytes."""

    parameters: int
    bytes: int


def _slots(backbone: nn.Module, path: str) -> Slots:
    return cast(Slots, backbone.get_submodule(path).slots)


def _matching(backbone: nn.Module, kinds: Mapping[str, Modulator]) -> dict[str, Modulator]:
    """Path → how it is modulated, in the order of ``named_modules()``; errors as of the pool."""
    require(bool(kinds), "a pool must modulate something; give it a path and a kind")
    modules = dict(backbone.named_modules())
    chosen: dict[str, Modulator] = {}
    for pattern, kind in kinds.items():
        paths = [path for path in modules if fnmatchcase(path, pattern)]
        if not paths:
            raise unknown("module", pattern, filter(None, modules))
        for path in paths:
            if not kind.fits(modules[path]):
                raise _misfit(path, modules, kind)
            require(path not in chosen and not hasattr(modules[path], "slots"),
                    f"module {path!r} is modulated already; name it once, in one pool")
            chosen[path] = kind
    return {path: chosen[path] for path in modules if path in chosen}


def _misfit(path: str, modules: Mapping[str, nn.Module], kind: Modulator) -> UserError:
    fitting = [name for name, module in modules.items() if kind.fits(module)]
    shown = ", ".join(fitting[:_SHOWN]) + (", …" if len(fitting) > _SHOWN else "")
    return UserError(f"{type(kind).__name__} cannot modulate {path!r}, which is of class "
                     f"{type(modules[path]).__name__}; it can: {shown or 'nothing here'}")
