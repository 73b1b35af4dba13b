"""The Method contract: the hooks through which a method reaches into an agent's learning.

A method never knows the agent: it sees named parts (networks with their optimisers, see
``crl.methods.parts``) and the hooks below, so it composes with any agent that exposes the parts it
needs, and with other methods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from torch import Tensor

from crl import config, registry
from crl.checkpoint import Tree
from crl.config import require
from crl.methods.parts import Parameters, Part, Parts, choose_parts

if TYPE_CHECKING:
    from crl.replay import AnyReplay, Samples
    from crl.stream import Task, TaskStream


class Learner(Protocol):
    """What a method may use of the agent."""

    parts: Parts

    @property
    def replay(self) -> AnyReplay:
        """What it learns from."""
        ...

    @property
    def renewed(self) -> tuple[str, ...]:
        """What begins anew at each task: ``"replay"``, ``"optimizer"``, and names of parts."""
        ...

    def learn(self, steps: int) -> None:
        """Does ``steps`` gradient steps on the replay, all methods' hooks included."""

    def gradients(self, batch: Any) -> dict[str, Parameters]:
        """Part → parameter name → gradient of the agent's own losses on samples of its replay.

        Parameters that the losses do not reach are left out. Every ``.grad`` stays as it is.
        """
        ...


class Method:
    """A continual-learning or plasticity method. Every hook may be left out.

    Subclasses have a frozen dataclass ``Config`` and the class attributes below. The agent calls
    ``attach`` once; per task ``begin_task``, then per gradient step ``rehearse``, ``loss``,
    ``gradients`` and ``updated``, then ``end_task``.

    Args:
        settings: The method's configuration. If it has a field ``parts``, or ``part``, these are
            the names of the parts that the method is for.
        seed: Seed of the method's own random draws.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    """What it cannot do without: ``"boundaries"`` (to be told when a task begins and ends),
    ``"replay"`` (transitions of the task at its end), ``"fresh replay"`` (and of no other task),
    ``"dreams"`` (an agent with a world model),
    ``"heads"`` (one per task), ``"hidden layers"`` (parts made of ``crl.nn.network.Network``),
    ``"gaussian"`` (parts with Gaussian outputs)."""
    claims: ClassVar[tuple[str, ...]] = ()
    """What it must have to itself on its parts: ``"kernels"`` (which weights belong to which task),
    ``"layers"`` (their form), ``"activations"``, ``"inputs"``, ``"policy"`` (the weights that are
    deployed), ``"rehearsal"`` (the transitions that are learned from)."""
    keeps_weights: ClassVar[bool] = False
    """Whether it promises that weights of its parts stay, so that nothing may re-draw them."""

    learner: Learner
    parts: list[Part]

    @dataclass(frozen=True)
    class Config:
        """No settings."""

    def __init__(self, settings: Any, seed: int) -> None:
        self.config = settings
        self.seed = seed

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the parts that the method is for."""
        if hasattr(self.config, "part"):
            return (self.config.part,)
        return tuple(getattr(self.config, "parts", ()))

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        """Called once, before anything else; checks what the method needs and sets ``parts``.

        A method that changes its networks' form does so here, before there is an optimiser state.

        Raises:
            UserError: The agent or the stream lacks something that the method needs.
        """
        self.learner = learner
        require("dreams" not in self.needs or hasattr(learner, "dream"),
                f"method {self.name!r} needs an agent with a world model; type --agent r2i")
        self.parts = (choose_parts(self.name, self.part_names, learner.parts)
                      if self.part_names else [])
        check_needs(self, stream)

    def begin_task(self, task: Task) -> None:
        """Called before the first step of a task, and before the agent renews anything for it."""

    def rehearse(self, batch: Samples) -> Samples:
        """The transitions to learn from in this gradient step, given fresh ones of the replay."""
        return batch

    def loss(self, part: Part, batch: Samples) -> Tensor | None:
        """An extra loss (scalar) to add to that of ``part`` in this gradient step.

        When it is called, every ``.grad`` holds the gradient of the agent's own losses and nothing
        else.
        """
        return None

    def gradients(self) -> None:
        """Called after backward and before the optimisers step: mask, clip or project ``.grad``."""

    def updated(self, batch: Samples) -> None:
        """Called after the optimisers stepped on ``batch``: put back, average, recycle weights."""

    def evaluated(self, task: Task, success: float) -> None:
        """Called after each evaluation of a task, with its success rate."""

    def end_task(self, task: Task) -> None:
        """Called after the last step of a task, with the replay still full: consolidate."""

    def deployed(self, part: Part, task: Task, parameters: Parameters) -> Parameters:
        """The parameters that a frozen policy for ``task`` carries; by default those it gets."""
        return parameters

    def state_dict(self) -> Tree:
        """Everything that :meth:`load_state_dict` needs to go on as if never stopped."""
        return {}

    def load_state_dict(self, tree: Tree) -> None:
        """Puts back what :meth:`state_dict` gave; the method is attached already."""


def check_needs(method: Method, stream: TaskStream) -> None:
    """Raises ``UserError`` if the agent lacks what the method needs; the loop checks the rest."""
    name, needs = method.name, method.needs
    require("fresh replay" not in needs or "replay" in method.learner.renewed,
            f"method {name!r} keeps old transitions itself; leave 'replay' in agent.reset")
    heads = {head for part in method.parts for head in part.heads}
    require("heads" not in needs or {task.head for task in stream} <= heads,
            f"method {name!r} needs a head per task; leave agent.multi_head at true")
    for part in method.parts:
        require("hidden layers" not in needs or bool(part.networks),
                f"method {name!r} needs parts made of hidden layers; {part.name!r} is not")
        require("gaussian" not in needs or part.gaussian,
                f"method {name!r} needs a part with Gaussian outputs; {part.name!r} gives point "
                f"predictions, type --set {name}.part=actor")
        require(not method.keeps_weights or part.name not in method.learner.renewed,
                f"method {name!r} keeps weights of {part.name!r}, which agent.reset would re-draw; "
                f"leave {part.name!r} out of it")


def make_method(name: str, seed: int = 0, **settings: Any) -> Method:
    """Makes a registered method (``crl list methods``); settings are fields of its ``Config``.

    Raises:
        UserError: Unknown name or setting, or a value of the wrong type or out of range.
    """
    cls = registry.methods.load(name)
    method: Method = cls(config.build(cls.Config, settings, name), seed)
    return method
