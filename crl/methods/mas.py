"""Memory aware synapses: weights to which the outputs are sensitive are held near their values.

Aljundi et al. 2018, "Memory Aware Synapses: Learning what (not) to forget"; for Gaussian policies
and with the settings of Continual World (Wołczyk et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.func import grad

from crl import seeding
from crl.checkpoint import Tree
from crl.config import require
from crl.methods.anchors import Anchors
from crl.methods.base import Learner, Method
from crl.methods.importance import Outputs, mean_over_samples
from crl.methods.parts import Parameters, Part
from crl.replay import Batch
from crl.stream import Task, TaskStream


class MAS(Method):
    """Adds λ Σₖ Ωₖ (θ − θ*)² on the shared parameters, θ* being those at the last task's end.

    Ωₖ = E|∂‖outputs‖²/∂θ| over samples of task k: ‖μ‖² + ‖log σ‖² of a Gaussian, ‖y‖² of a point
    prediction. The outputs are the network's own, before any squashing; the published code squashes
    μ, so that weights behind saturated actions weigh nothing.
    """

    name = "mas"
    paper = "Aljundi et al. 2018"
    needs = ("boundaries", "replay")

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`MAS`.

        Attributes:
            parts: Which parts to protect.
            coefficient: λ. Published for Continual World: 1e4.
            batches, batch_size: How many samples of the finishing task measure the sensitivity.
        """

        parts: tuple[str, ...] = ("actor",)
        coefficient: float = 1e4
        batches: int = 10
        batch_size: int = 256

        def __post_init__(self) -> None:
            require(self.coefficient >= 0, "coefficient must not be negative")
            require(self.batches > 0 and self.batch_size > 0,
                    "batches and batch_size must be above 0")

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        self._rng = seeding.generator(self.seed, self.name)
        self._anchors = Anchors(self.parts)

    def loss(self, part: Part, batch: Batch) -> Tensor | None:
        penalty = self._anchors.penalty(part)
        return None if penalty is None else self.config.coefficient * penalty

    def end_task(self, task: Task) -> None:
        for part in self.parts:
            samples = [self.learner.replay.sample(self.config.batch_size, self._rng)
                       for _ in range(self.config.batches)]
            so_far = self._anchors.importance(part)
            self._anchors.replace(part, {name: so_far[name] + new
                                         for name, new in sensitivity(part, samples).items()})

    def state_dict(self) -> Tree:
        return {"anchors": self._anchors.state_dict(), "rng": seeding.generator_state(self._rng)}

    def load_state_dict(self, tree: Tree) -> None:
        self._anchors.load_state_dict(tree["anchors"])
        seeding.restore_generator(self._rng, tree["rng"])


def sensitivity(part: Part, batches: list[Batch]) -> Parameters:
    """Mean over samples of |∂‖outputs‖²/∂θ| of a part's shared parameters θ, by name."""
    def of_sample(outputs: Outputs, parameters: Parameters) -> Parameters:
        def squared_norm(parameters: Parameters) -> Tensor:
            first, *std = outputs(parameters)
            return first.square().sum() + sum(s.log().square().sum() for s in std)

        return {name: slope.abs() for name, slope in grad(squared_norm)(parameters).items()}

    return mean_over_samples(part, batches, of_sample)
