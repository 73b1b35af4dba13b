"""The Method contract, and Part: what a method may protect.

A method never knows the agent: it sees named parts (networks with their optimisers) through the
hooks below, so it composes with any agent that exposes the parts it needs, and with other methods.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from crl import config, registry
from crl.checkpoint import Tree
from crl.errors import UserError

if TYPE_CHECKING:
    from crl.replay import Batch, Replay
    from crl.stream import Task, TaskStream

Parameters = dict[str, Tensor]
"""A network's parameters by name, as in ``module.named_parameters()``."""

_HEAD = re.compile(r"(?:^|\.)heads\.items\.(\d+)\.")


class Gaussian(NamedTuple):
    """Independent normal outputs: ``mean`` and ``std`` of shape [B, outputs]."""

    mean: Tensor
    std: Tensor


@dataclass
class Part:
    """A network that methods may protect.

    Attributes:
        name: ``"actor"``, ``"critic"`` …
        module: The network.
        optimizer: Steps exactly the parameters of ``module``.
        shared: Names of the parameters that all tasks share; the others belong to heads.
        kernels: Those of them that are weight matrices, not biases or normalisation.
        heads: Head → names of its parameters; empty for a network without heads.
        gaussian: Whether ``outputs`` gives a :class:`Gaussian`.
        outputs: ``outputs(batch, parameters=None)``: what the network says about a batch, with
            other parameters if given: a :class:`Gaussian`, or point predictions [B, outputs].
    """

    name: str
    module: nn.Module
    optimizer: torch.optim.Optimizer
    shared: tuple[str, ...]
    kernels: tuple[str, ...]
    heads: dict[int, tuple[str, ...]]
    gaussian: bool
    outputs: Callable[..., Gaussian | Tensor]

    @classmethod
    def of(cls, name: str, module: nn.Module, optimizer: torch.optim.Optimizer,
           outputs: Callable[..., Gaussian | Tensor], *, gaussian: bool) -> Part:
        """A part built of ``crl.nn`` layers, with a ``crl.nn.layers.Heads`` called ``heads``."""
        names = [n for n, _ in module.named_parameters()]
        heads: dict[int, tuple[str, ...]] = {}
        for n in names:
            if found := _HEAD.search(n):
                head = int(found[1])
                heads[head] = (*heads.get(head, ()), n)
        shared = tuple(n for n in names if not _HEAD.search(n))
        kernels = tuple(n for n in shared if n.endswith(".kernel"))
        return cls(name, module, optimizer, shared, kernels, heads, gaussian, outputs)

    def parameters(self) -> dict[str, nn.Parameter]:
        """All parameters by name."""
        return dict(self.module.named_parameters())

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that all tasks share, by name."""
        everything = self.parameters()
        return {name: everything[name] for name in self.shared}


Parts = dict[str, Part]


class Learner(Protocol):
    """What a method may use of the agent when a task ends."""

    parts: Parts
    replay: Replay

    def learn(self, steps: int) -> None:
        """Does ``steps`` gradient steps on the replay, all methods' hooks included."""


class Method:
    """A continual-learning or plasticity method. Every hook may be left out.

    Subclasses have a frozen dataclass ``Config`` and the class attributes below.

    Args:
        settings: The method's configuration.
        seed: Seed of the method's own random draws.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    """Of ``"boundaries"`` and ``"replay"``: what the method cannot do without."""

    @dataclass(frozen=True)
    class Config:
        """No settings."""

    def __init__(self, settings: Any, seed: int) -> None:
        self.config = settings
        self.seed = seed

    def attach(self, parts: Parts, stream: TaskStream) -> None:
        """Called once, before anything else; raise ``UserError`` if a part is lacking."""

    def begin_task(self, task: Task, parts: Parts) -> None:
        """Called before the first step of a task."""

    def loss(self, part: Part, batch: Batch) -> Tensor | None:
        """An extra loss (scalar) to add to that of ``part`` in this gradient step."""
        return None

    def gradients(self, parts: Parts) -> None:
        """Called after backward and before the optimisers step: mask, clip or project ``.grad``."""

    def updated(self, parts: Parts) -> None:
        """Called after the optimisers stepped: put back, average or recycle parameters."""

    def end_task(self, task: Task, learner: Learner) -> None:
        """Called after the last step of a task, with the replay still full: consolidate."""

    def deployed(self, part: Part, task: Task, parameters: Parameters) -> Parameters:
        """The parameters that a frozen policy for ``task`` carries; by default those it gets."""
        return parameters

    def state_dict(self) -> Tree:
        """Everything that :meth:`load_state_dict` needs to go on as if never stopped."""
        return {}

    def load_state_dict(self, tree: Tree) -> None:
        """Puts back what :meth:`state_dict` gave; the method is attached already."""


@dataclass
class Methods:
    """Methods in the order given, called as one. What an agent holds."""

    items: Sequence[Method] = ()
    _by_name: dict[str, Method] = field(init=False)

    def __post_init__(self) -> None:
        self._by_name = {m.name: m for m in self.items}
        if len(self._by_name) < len(self.items):
            raise UserError("each method can be given once; got "
                            + ", ".join(m.name for m in self.items))

    def attach(self, parts: Parts, stream: TaskStream) -> None:
        for method in self.items:
            method.attach(parts, stream)

    def begin_task(self, task: Task, parts: Parts) -> None:
        for method in self.items:
            method.begin_task(task, parts)

    def losses(self, part: Part, batch: Batch) -> list[Tensor]:
        """All extra losses for ``part``."""
        extra = (method.loss(part, batch) for method in self.items)
        return [loss for loss in extra if loss is not None]

    def gradients(self, parts: Parts) -> None:
        for method in self.items:
            method.gradients(parts)

    def updated(self, parts: Parts) -> None:
        for method in self.items:
            method.updated(parts)

    def end_task(self, task: Task, learner: Learner) -> None:
        for method in self.items:
            method.end_task(task, learner)

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


def require_parts(method: str, wanted: Sequence[str], parts: Parts) -> None:
    """Raises ``UserError`` for a part in ``wanted`` that the agent lacks, or that stands twice."""
    config.require(len(set(wanted)) == len(wanted) > 0,
                   f"method {method!r} needs each of its parts once; got {', '.join(wanted)}")
    for name in wanted:
        if name not in parts:
            raise UserError(f"method {method!r} needs a part {name!r}; this agent has "
                            + (", ".join(parts) or "none"))


def make_method(name: str, seed: int = 0, **settings: Any) -> Method:
    """Makes a registered method (``crl list methods``); settings are fields of its ``Config``.

    Raises:
        UserError: Unknown name or setting, or a value of the wrong type or out of range.
    """
    cls = registry.methods.load(name)
    method: Method = cls(config.build(cls.Config, settings, name), seed)
    return method
