"""Several methods called as one, and refused where they cannot work together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, cast

from torch import Tensor

from crl.checkpoint import Tree
from crl.errors import UserError
from crl.methods.base import Learner, Method
from crl.methods.parts import Parameters, Part, named_parts

if TYPE_CHECKING:
    from crl.replay import Samples
    from crl.stream import Task, TaskStream

S = TypeVar("S", bound="Samples")


@dataclass
class Methods:
    """Methods in the order given. What an agent holds; hooks as in :class:`Method`."""

    items: Sequence[Method] = ()
    _by_name: dict[str, Method] = field(init=False)
    _keepers_last: list[Method] = field(init=False)

    def __post_init__(self) -> None:
        self._by_name = {m.name: m for m in self.items}
        # In the order given, but those that promise that weights stay have the last word.
        self._keepers_last = sorted(self.items, key=lambda method: method.keeps_weights)
        if len(self._by_name) < len(self.items):
            raise UserError("each method can be given once; got "
                            + ", ".join(m.name for m in self.items))

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        """Attaches each; ``UserError`` if two claim the same of one part."""
        owners: dict[tuple[str, str], str] = {}
        for method in self.items:
            for claim in method.claims:
                # What is learned from is all parts' business, whichever a method is for besides.
                own = () if claim == "rehearsal" else method.part_names
                for name in named_parts(own, learner.parts) or ["agent"]:
                    other = owners.setdefault((claim, name), method.name)
                    if other != method.name:
                        raise UserError(f"methods {other!r} and {method.name!r} cannot share the "
                                        f"{claim} of the {name}; give one of them")
        for method in self.items:
            method.attach(learner, stream)
            for part in learner.parts.values():
                part.refresh()

    def begin_task(self, task: Task) -> None:
        for method in self.items:
            method.begin_task(task)

    def rehearse(self, batch: S) -> S:
        samples: Samples = batch
        for method in self.items:
            samples = method.rehearse(samples)
        return cast(S, samples)

    def losses(self, part: Part, batch: Samples) -> list[Tensor]:
        """All extra losses for ``part``."""
        extra = (method.loss(part, batch) for method in self.items)
        return [loss for loss in extra if loss is not None]

    def gradients(self) -> None:
        for method in self._keepers_last:
            method.gradients()

    def updated(self, batch: Samples) -> None:
        for method in self._keepers_last:
            method.updated(batch)

    def evaluated(self, task: Task, success: float) -> None:
        for method in self.items:
            method.evaluated(task, success)

    def end_task(self, task: Task) -> None:
        for method in self.items:
            method.end_task(task)

    def deployed(self, part: Part, task: Task) -> Parameters:
        """Copies of the parameters that a frozen policy for ``task`` carries."""
        parameters = {name: p.detach().clone() for name, p in part.parameters().items()}
        for method in self.items:
            parameters = method.deployed(part, task, parameters)
        return parameters

    def state_dict(self) -> Tree:
        return {name: method.state_dict() for name, method in self._by_name.items()}

    def load_state_dict(self, tree: Tree) -> None:
        for name, method in self._by_name.items():
            method.load_state_dict(tree[name])
