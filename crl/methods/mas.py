"""Memory aware synapses: weights to which the outputs are sensitive are held near their values.

Aljundi et al. 2018, "Memory Aware Synapses: Learning what (not) to forget"; for Gaussian policies
and with the settings of Continual World (Wołczyk et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.func import grad

from crl.methods.importance import Outputs, SampledImportance, mean_over_samples
from crl.methods.parts import Parameters, Part
from crl.replay import Samples
from crl.stream import Task


class MAS(SampledImportance):
    """Adds λ Σₖ Ωₖ (θ − θ*)² on the shared parameters, θ* being those at the last task's end.

    Ωₖ = E|∂‖outputs‖²/∂θ| over samples of task k: ‖μ‖² + ‖log σ‖² of a Gaussian, ‖y‖² of a point
    prediction. The outputs are the network's own, before any squashing; the published code squashes
    μ, so that weights behind saturated actions weigh nothing.
    """

    name = "mas"
    paper = "Aljundi et al. 2018"

    @dataclass(frozen=True)
    class Config(SampledImportance.Config):
        """Settings of :class:`MAS`.

        Attributes:
            parts: Which parts to protect.
            coefficient: λ. Published for Continual World: 1e4.
            batches, batch_size: How many samples of the finishing task measure the sensitivity.
        """

    def end_task(self, task: Task) -> None:
        for part in self.parts:
            so_far, new = self._anchors.importance(part), sensitivity(part, self.samples())
            self._anchors.replace(part, {name: so_far[name] + new[name] for name in new})


def sensitivity(part: Part, batches: list[Samples]) -> Parameters:
    """Mean over samples of |∂‖outputs‖²/∂θ| of a part's shared parameters θ, by name."""
    def of_sample(outputs: Outputs, parameters: Parameters) -> Parameters:
        def squared_norm(parameters: Parameters) -> Tensor:
            first, *std = outputs(parameters)
            return first.square().sum() + sum(s.log().square().sum() for s in std)

        return {name: slope.abs() for name, slope in grad(squared_norm)(parameters).items()}

    return mean_over_samples(part, batches, of_sample)
