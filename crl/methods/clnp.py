"""Continual learning via neural pruning: tasks live in units that no earlier task needs.

Golkar et al. 2019, "Continual Learning via Neural Pruning".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from crl import seeding
from crl.checkpoint import Tree
from crl.config import require
from crl.methods.base import Learner
from crl.methods.freezing import Freezing, Masks, whole
from crl.methods.parts import Part
from crl.nn.state import tensors_to_tree, tree_to_tensors
from crl.replay import Samples
from crl.stream import Task, TaskStream


class Units(NamedTuple):
    """How the units of a hidden layer are used."""

    active: int  # by finished tasks
    reused: int  # of them: by the last task and by one before it
    free: int


class CLNP(Freezing):
    """Adds λ Σ|w| over the hidden layers, and keeps the units that are active when a task ends.

    A unit is active in a task if the mean of its |activation| on the task's transitions is above
    θ times the mean over its layer. Then the weights into active units and their biases are
    frozen; weights from inactive to active units, and to the head of the task, are set to zero;
    inactive units are drawn anew and are free for the next task, which may use active units as its
    inputs. Policies of finished tasks never change again, to the last bit.

    The paper sets θ anew for each task, to the largest that costs no more than a given share of
    the accuracy. Here it is relative, since the size of activations differs from layer to layer.
    Layer normalisation is refused: its statistics would carry free units into active ones.
    """

    name = "clnp"
    paper = "Golkar et al. 2019"
    needs = ("boundaries", "replay", "heads", "hidden layers")
    claims = ("kernels", "activations", "policy")

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`CLNP`.

        Attributes:
            parts: Which parts to prune.
            coefficient: λ.
            threshold: θ.
            samples: Transitions of the finishing task on which activations are averaged.
        """

        parts: tuple[str, ...] = ("policy",)
        coefficient: float = 1e-4
        threshold: float = 0.1
        samples: int = 2_000

        def __post_init__(self) -> None:
            require(self.coefficient >= 0, "coefficient must not be negative")
            require(0 <= self.threshold < 1, "threshold must be from 0 to below 1")
            require(self.samples > 0, "samples must be above 0")

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        for part in self.parts:
            require(not any(layer.norm for layer in part.layers),
                    f"method {self.name!r} cannot keep the outputs of {part.name!r} under layer "
                    "normalisation, which mixes all units; type --set agent.layer_norm=false")
        self._rng = seeding.generator(self.seed, self.name)
        self._active: dict[str, list[Tensor]] = {}  # [units] bool of each layer
        self._reused: dict[str, list[int]] = {}
        for part in self.parts:
            parameters = part.parameters()
            biases = [parameters[layer.vectors[0]] for layer in part.layers]
            self._active[part.name] = [torch.zeros_like(b, dtype=torch.bool) for b in biases]
            self._reused[part.name] = [0] * len(biases)

    def loss(self, part: Part, batch: Samples) -> Tensor | None:
        if part not in self.parts:
            return None
        parameters = part.parameters()
        hidden = (parameters[n] for layer in part.layers for n in (layer.kernel, *layer.vectors))
        return self.config.coefficient * torch.stack([p.abs().sum() for p in hidden]).sum()

    def end_task(self, task: Task) -> None:
        batch = self.learner.replay.sample(self.config.samples, self._rng)
        for part in self.parts:
            self._grow(part, batch)
            self._prune(part, task.head)
            self._frozen.freeze(part, self._masks(part, task.head))
            part.optimizer.state.clear()  # momentum of units that are new now

    def units(self, part: Part) -> list[Units]:
        """How many units of each hidden layer are active, reused and free."""
        return [Units(int(active.sum()), reused, int((~active).sum())) for active, reused
                in zip(self._active[part.name], self._reused[part.name], strict=True)]

    def state_dict(self) -> Tree:
        return {
            "active": {name: tensors_to_tree({str(i): a for i, a in enumerate(active)})
                       for name, active in self._active.items()},
            "reused": {name: list(reused) for name, reused in self._reused.items()},
            **super().state_dict(),
            "rng": seeding.generator_state(self._rng),
        }

    def load_state_dict(self, tree: Tree) -> None:
        for name, active in self._active.items():
            saved = tree_to_tensors(tree["active"][name], active[0].device)
            self._active[name] = [saved[str(i)] for i in range(len(active))]
            self._reused[name] = list(tree["reused"][name])
        super().load_state_dict(tree)
        seeding.restore_generator(self._rng, tree["rng"])

    def _grow(self, part: Part, batch: Samples) -> None:
        """Adds the units that are active on a batch."""
        active, reused = self._active[part.name], self._reused[part.name]
        for i, activation in enumerate(part.activations(batch)):
            size = activation.abs().mean(0)
            now = size > self.config.threshold * size.mean()
            reused[i] = int((active[i] & now).sum())
            active[i] = active[i] | now

    @torch.no_grad()
    def _prune(self, part: Part, head: int) -> None:
        """Draws the inactive units anew and cuts them off from active units and from a head."""
        parameters, bits = part.parameters(), self._bits(part)
        for layer in part.layers:
            free = ~bits[layer.kernel]
            kernel = parameters[layer.kernel]
            bound = kernel.shape[0] ** -0.5
            for name in (layer.kernel, *layer.vectors):
                old = parameters[name]
                new = old.new_tensor(self._rng.uniform(-bound, bound, old.shape))
                old.copy_(torch.where(free, new, old))
            for name in layer.outgoing:
                if name in bits:
                    parameters[name][free[:, None] & bits[name]] = 0.0
                elif name in part.heads[head]:
                    parameters[name][free] = 0.0

    def _masks(self, part: Part, head: int) -> Masks:
        """What belongs to active units, and a head."""
        parameters = part.parameters()
        masks = whole(part, part.heads[head])
        for kernel, active in self._bits(part).items():
            masks[kernel] = active.expand_as(parameters[kernel])
        for layer in part.layers:
            masks |= dict.fromkeys(layer.vectors, masks[layer.kernel][0])
        return masks

    def _bits(self, part: Part) -> dict[str, Tensor]:
        """The active units of each layer, by the name of its kernel."""
        kernels = [layer.kernel for layer in part.layers]
        return dict(zip(kernels, self._active[part.name], strict=True))
