"""Variational continual learning: what a task taught about the weights is the next one's prior.

Nguyen et al. 2018, "Variational Continual Learning"; for control and with the settings of Continual
World (Wołczyk et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from crl import seeding
from crl.checkpoint import Tree
from crl.config import require
from crl.methods.base import Learner, Method
from crl.methods.parts import Parameters, Part
from crl.nn.distributions import gaussian_kl
from crl.nn.layers import Dense
from crl.nn.state import generator_to_tree, load_generator, tensors_to_tree, tree_to_tensors
from crl.replay import Samples
from crl.stream import Task, TaskStream

LOG_VARIANCE = "_log_variance"


class BayesianDense(nn.Module):
    """Affine layer whose weights are independent normals: means, and log variances.

    In training every forward pass draws its weights, one sample for the whole batch. A frozen layer
    (``eval``) uses the means, and so does every copy, such as in a target network or a policy: the
    generator is not copied.

    Args:
        dense: The layer whose parameters become the means.
        log_variance: What all log variances start at.
        generator: On the CPU; where the draws come from.
    """

    def __init__(self, dense: Dense, log_variance: float, generator: torch.Generator) -> None:
        super().__init__()
        self.kernel, self.bias = dense.kernel, dense.bias
        self.kernel_log_variance = nn.Parameter(torch.full_like(dense.kernel, log_variance))
        self.bias_log_variance = nn.Parameter(torch.full_like(dense.bias, log_variance))
        self._generator: torch.Generator | None = generator

    def forward(self, x: Tensor, head: int | Tensor) -> Tensor:
        """[B, in] → [B, out], whatever the head."""
        kernel: Tensor = self.kernel
        bias: Tensor = self.bias
        if self.training and self._generator is not None:
            kernel = _sample(kernel, self.kernel_log_variance, self._generator)
            bias = _sample(bias, self.bias_log_variance, self._generator)
        return torch.addmm(bias, x, kernel)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_generator": None}


class VCL(Method):
    """Adds λ KL(q ‖ q at the last task's end) of the hidden layers' weights, from the second task.

    Hidden layers become :class:`BayesianDense`; normalisation is trained in the first task only.
    Heads stay as they are: the published ones are Bayesian too, without a prior. Policies are
    deployed with the means; the published code evaluates samples.
    """

    name = "vcl"
    paper = "Nguyen et al. 2018"
    needs = ("boundaries", "hidden layers")
    claims = ("kernels", "layers")
    keeps_weights = True

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`VCL`.

        Attributes:
            parts: Which parts become Bayesian.
            coefficient: λ. Published for Continual World: 1.
            log_variance: What the log variance of every weight starts at.
        """

        parts: tuple[str, ...] = ("policy",)
        coefficient: float = 1.0
        log_variance: float = -6.0

        def __post_init__(self) -> None:
            require(self.coefficient >= 0, "coefficient must not be negative")

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        self._generator = torch.Generator().manual_seed(seeding.integer(self.seed, self.name))
        self._prior: dict[str, Parameters] = {}
        for part in self.parts:
            for network in part.networks:
                layers = network.trunk.dense
                for i, dense in enumerate(layers):
                    assert isinstance(dense, Dense)
                    layers[i] = BayesianDense(dense, self.config.log_variance, self._generator)

    def loss(self, part: Part, batch: Samples) -> Tensor | None:
        if part.name not in self._prior:
            return None
        return self.config.coefficient * self.divergence(part)

    def divergence(self, part: Part) -> Tensor:
        """KL(q ‖ prior), summed over all weights of the hidden layers."""
        posterior, prior = part.shared_parameters(), self._prior[part.name]
        terms = []
        for name in prior:
            if name + LOG_VARIANCE in prior:
                std, prior_std = (p[name + LOG_VARIANCE].mul(0.5).exp() for p in (posterior, prior))
                terms.append(gaussian_kl(posterior[name], std, prior[name], prior_std).sum())
        return torch.stack(terms).sum()

    def gradients(self) -> None:
        for part in self.parts:
            if part.name in self._prior:
                parameters = part.parameters()
                for layer in part.layers:
                    for name in layer.norm:
                        parameters[name].grad = None  # the optimiser leaves it alone

    def end_task(self, task: Task) -> None:
        for part in self.parts:
            self._prior[part.name] = {n: p.detach().clone()
                                      for n, p in part.shared_parameters().items()}

    def state_dict(self) -> Tree:
        return {"prior": {name: tensors_to_tree(prior) for name, prior in self._prior.items()},
                "generator": generator_to_tree(self._generator)}

    def load_state_dict(self, tree: Tree) -> None:
        self._prior = {
            part.name: tree_to_tensors(tree["prior"][part.name],
                                       next(part.module.parameters()).device)
            for part in self.parts if part.name in tree["prior"]}
        load_generator(self._generator, tree["generator"])


def _sample(mean: Tensor, log_variance: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(mean.shape, generator=generator).to(mean.device)
    return torch.addcmul(mean, log_variance.mul(0.5).exp(), noise)
