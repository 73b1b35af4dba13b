"""PackNet: every task gets weights of its own, and keeps them.

Mallya and Lazebnik 2018, "PackNet: Adding Multiple Tasks to a Single Network by Iterative Pruning";
settings for control from Continual World (Wołczyk et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crl.checkpoint import Tree
from crl.config import require
from crl.methods.base import Learner
from crl.methods.freezing import Freezing, whole
from crl.methods.parts import Parameters, Part
from crl.nn.state import tensors_to_tree, tree_to_tensors
from crl.replay import Samples
from crl.stream import Task, TaskStream

FREE = 0


class PackNet(Freezing):
    """Trains the free weights, keeps the largest of them for the task, frees the rest.

    Each shared weight matrix has an owner map: 0 for free, k for the k-th task. After task k, with
    ``left`` tasks to come, the largest 1/(left+1) of the weights that were free become the task's;
    the others are set to zero and stay free. The kept ones are then retrained. Biases and
    normalisation are trained in the first task only, heads in their own task only. A policy of task
    k is deployed with the weights owned by tasks up to k, so its outputs never change again, to the
    last bit.
    """

    name = "packnet"
    paper = "Mallya & Lazebnik 2018"
    needs = ("boundaries", "replay", "heads")
    claims = ("kernels", "policy")

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`PackNet`.

        Attributes:
            parts: Which parts to pack.
            retrain_share: Gradient steps of retraining after pruning, as a share of the task's.
                Published: 100k after 1M.
            clip_norm: Clips the gradient of each part to this norm; None: no clipping. Published:
                2e-5, which Adam, being indifferent to scale, hardly notices.
        """

        parts: tuple[str, ...] = ("policy",)
        retrain_share: float = 0.1
        clip_norm: float | None = None

        def __post_init__(self) -> None:
            require(self.retrain_share >= 0, "retrain_share must not be negative")
            require(self.clip_norm is None or self.clip_norm > 0, "clip_norm must be above 0")

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        self._total_tasks = len(stream)
        self._heads_done: list[int] = []
        self._finished: dict[str, int] = {}  # task name → number from 1
        self._steps = 0  # gradient steps of the current task
        self._owner: dict[str, dict[str, Tensor]] = {}
        for part in self.parts:
            self._owner[part.name] = {
                n: torch.full(k.shape, FREE, dtype=torch.int16, device=k.device)
                for n, k in _kernels(part).items()
            }

    def begin_task(self, task: Task) -> None:
        self._steps = 0

    def updated(self, batch: Samples) -> None:
        super().updated(batch)
        self._steps += 1

    def gradients(self) -> None:
        super().gradients()
        if self.config.clip_norm is not None:
            for part in self.parts:
                torch.nn.utils.clip_grad_norm_(part.module.parameters(), self.config.clip_norm)

    def end_task(self, task: Task) -> None:
        number = len(self._finished) + 1
        left = self._total_tasks - number
        for part in self.parts:
            for kernel, parameter in _kernels(part).items():
                prune(parameter, self._owner[part.name][kernel], number, left / (left + 1))
        if left > 0:
            self._train_weights_of(number)
            self._reset_optimizers()
            self.learner.learn(round(self.config.retrain_share * self._steps))
            self._reset_optimizers()
        self._finished[task.name] = number
        self._heads_done.append(task.head)
        self._train_weights_of(FREE)

    def deployed(self, part: Part, task: Task, parameters: Parameters) -> Parameters:
        number = self._finished.get(task.name)
        if number is None or part not in self.parts:
            return parameters
        kept = {}
        for kernel, owner in self._owner[part.name].items():
            own = (owner != FREE) & (owner <= number)
            kept[kernel] = torch.where(own, parameters[kernel], 0.0)
        return {**parameters, **kept}

    def state_dict(self) -> Tree:
        return {
            "finished": self._finished,
            "steps": self._steps,
            "heads_done": self._heads_done,
            "owner": {name: tensors_to_tree(owner) for name, owner in self._owner.items()},
        }

    def load_state_dict(self, tree: Tree) -> None:
        self._finished = dict(tree["finished"])
        self._steps = tree["steps"]
        self._heads_done = list(tree["heads_done"])
        for name, owner in self._owner.items():
            device = next(iter(owner.values())).device
            self._owner[name] = tree_to_tensors(tree["owner"][name], device)
        self._train_weights_of(FREE)

    def _train_weights_of(self, owner: int) -> None:
        """Freezes all weight matrices but the weights of one owner, and what no task trains now."""
        self._frozen.release()
        for part in self.parts:
            masks = {n: o != owner for n, o in self._owner[part.name].items()}
            self._frozen.freeze(part, {**masks, **whole(part, self._fixed(part))})

    def _fixed(self, part: Part) -> set[str]:
        """Parameters that are trained no more, besides the kernels."""
        if not self._finished:
            return set()
        old_heads = (n for head in self._heads_done for n in part.heads.get(head, ()))
        return (set(part.shared) - set(part.kernels)) | set(old_heads)

    def _reset_optimizers(self) -> None:
        for part in self.parts:
            part.optimizer.state.clear()


def prune(kernel: Tensor, owner: Tensor, task: int, share: float) -> None:
    """Gives a task the largest free weights and zeroes the other free ones, in place.

    Args:
        kernel: Weights.
        owner: Owner map of the same shape, 0 where free.
        task: The owner to be, above 0.
        share: Share of the free weights to give up again, in [0, 1].
    """
    free = owner == FREE
    count = int(free.sum())
    order = kernel.detach().abs()[free].argsort(stable=True)  # smallest first; ties keep order
    keep = torch.ones(count, dtype=torch.bool, device=kernel.device)
    keep[order[: round(share * count)]] = False
    given_up = free.clone()
    given_up[free] = ~keep
    with torch.no_grad():
        owner[free & ~given_up] = task
        kernel[given_up] = 0.0


def _kernels(part: Part) -> dict[str, torch.nn.Parameter]:
    parameters = part.parameters()
    return {name: parameters[name] for name in part.kernels}
