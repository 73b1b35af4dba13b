"""Input-space tuning: new tasks are learned in front of a frozen network, in its inputs.

A linear form of Elsayed et al. 2019, "Adversarial Reprogramming of Neural Networks", which turns a
frozen network to a new task by a learned change of its inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crl.methods.base import Learner
from crl.methods.freezing import Freezing, whole
from crl.methods.per_head import PerHead
from crl.nn.network import Network
from crl.stream import Task, TaskStream


class InputAffine(Freezing):
    """Puts x ↦ scale ⊙ x + shift in front of each network, a pair per head, at first the identity.

    The hidden layers learn in the first task only; every later task has its own affine map and
    head, which learn in their own task only. Policies of finished tasks never change again, to the
    last bit. A part's inputs are what is mapped: observations of the actor, observations and
    actions of the critic. Freezing a critic saves no policy from forgetting, so by default only
    the actor is tuned so.
    """

    name = "input-affine"
    paper = "Elsayed et al. 2019"
    needs = ("boundaries", "heads", "hidden layers")
    claims = ("inputs", "kernels", "policy")

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`InputAffine`.

        Attributes:
            parts: Which parts to tune in their inputs.
        """

        parts: tuple[str, ...] = ("policy",)

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        for part in self.parts:
            for network in part.networks:
                network.input = Affine.identity(network)

    def end_task(self, task: Task) -> None:
        for part in self.parts:
            self._frozen.freeze(part, whole(part, (*part.shared, *part.heads[task.head])))


class Affine(PerHead):
    """x ↦ scale ⊙ x + shift, [B, in] → [B, in], with a pair of vectors [in] per head."""

    @classmethod
    def identity(cls, network: Network) -> Affine:
        """The identity, for the inputs and the heads of a network."""
        kernel = next(network.trunk.parameters())
        ones = torch.ones_like(kernel[:, 0])
        return cls(len(ones), ({"scale": ones.clone(), "shift": torch.zeros_like(ones)}
                               for _ in network.heads.items))

    def one(self, x: Tensor, own: nn.ParameterDict) -> Tensor:
        return torch.addcmul(own["shift"], x, own["scale"])
