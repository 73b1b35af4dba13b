"""What happens inside an agent's networks while it learns a stream: measures, once an evaluation.

Of every part that is made of :class:`crl.nn.network.Network`, of a part that is trained by a loss
of its own, such as a world model, the weight norm and ``loss``, and of a policy's parts
``drift_alone``:

``dormant``        share of hidden units whose mean |activation| is at most 0.025 of their layer's
                   mean (Sokar et al. 2023), on states of the task in training
``effective_rank`` of the last hidden layer on these states: exp of the entropy of the normalised
                   singular values (Roy and Vetterli 2007)
``weight_norm``    Euclidean norm of the shared parameters
``loss``           what the part is trained by, on states of the task in training

and, once a task has ended, against the part as it was at the last boundary:

``kl_forward``     E KL(before ‖ now) of Gaussian outputs, on states of the task in training, which
                   its own exploring policy visited (RL's Razor, Shenfeld et al. 2025)
``kl_reverse``     E KL(now ‖ before) on the same
``drift``          E KL(at its end ‖ now) on states of every finished task, under its own head; the
                   mean squared difference for point predictions
``drift_alone``    of a part of a policy of two, such as a memory and an actor, or a world model and
                   an actor: what the drift would be if the other were as it was at the task's end
``loss_rise``      by how much the loss has risen on states of every finished task since its end
``refit``          share of the drift of the network's outputs, as squared error on held-out states,
                   that fitting the head anew by least squares undoes: near 1, what was forgotten is
                   still in the features (spurious forgetting, Zheng et al. 2025)
``cka``            linear CKA (Kornblith et al. 2019) of the last hidden layer with what it gave on
                   states of the finished tasks when they ended
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from crl import seeding
from crl.agent import Agent
from crl.checkpoint import Tree
from crl.methods.parts import Gaussian, Parameters, Part
from crl.methods.redo import dormant
from crl.nn.distributions import gaussian_kl
from crl.nn.state import exchanged, tensors_to_tree, tree_to_tensors
from crl.replay import Samples
from crl.stream import Task, TaskStream

STATES = 256         # per probe
_DORMANT = 0.025
_RIDGE = 1e-3        # of the refit, relative to the features' mean square


@dataclass
class _Finished:
    """A task that has ended: states of it, and what the part gave there then."""

    task: Task
    batch: Samples
    features: list[Tensor]  # per network, [STATES, units]
    outs: list[Tensor]      # per network, [STATES, out]: before any squashing
    outputs: tuple[Tensor, ...]
    loss: float             # 0 for a part that has none of its own
    parameters: Parameters  # of a policy's part that is not alone


class Diagnostics:
    """Takes the measures above of an agent.

    Args:
        agent: The agent.
        seed: Of the draws of states; the agent's own draws are not touched.
    """

    def __init__(self, agent: Agent, stream: TaskStream, seed: int) -> None:
        self._agent, self._stream = agent, stream
        self._rng = seeding.generator(seed, "diagnostics")
        acting = [part for part in agent.parts.values() if part.acts]
        self._partners = ({part.name: other for part, other in
                           zip(acting, reversed(acting), strict=True)} if len(acting) == 2 else {})
        self._parts = [part for part in agent.parts.values()
                       if part.networks or part.loss or part.name in self._partners]
        self._finished: dict[str, list[_Finished]] = {part.name: [] for part in self._parts}
        self._boundary: dict[str, dict[str, Tensor]] = {}

    @torch.no_grad()
    def end_task(self, task: Task) -> None:
        """Remembers every part as it is now, with states of the task that ends."""
        batch = self._states()
        if batch is None:
            return
        for part in self._parts:
            self._finished[part.name].append(self._seen(part, task, batch))
            self._boundary[part.name] = {
                name: p.detach().clone() for name, p in part.parameters().items()}

    @torch.no_grad()
    def measure(self) -> Iterator[tuple[str, str, float]]:
        """Part, measure and value of all that can be said now; nothing before there is data."""
        batch = self._states()
        if batch is None:
            return
        for part in self._parts:
            if part.networks:
                yield part.name, "dormant", dormant_share(part.activations(batch))
                ranks = [effective_rank(f) for f in _features(part, batch)]
                yield part.name, "effective_rank", sum(ranks) / len(ranks)
            if part.loss:
                yield part.name, "loss", float(part.loss(batch))
            norm = sum(float(p.square().sum()) for p in part.shared_parameters().values()) ** 0.5
            yield part.name, "weight_norm", norm
            if part.name not in self._boundary:
                continue
            if part.networks:
                yield from ((part.name, *pair) for pair in self._since_boundary(part, batch))
            finished = self._finished[part.name]
            if part.loss:
                rises = [self._seen(part, then.task, then.batch).loss - then.loss
                         for then in finished]
                yield part.name, "loss_rise", sum(rises) / len(rises)
            if part.name in self._partners:
                alone = [self._drift_alone(part, i) for i in range(len(finished))]
                yield part.name, "drift_alone", sum(alone) / len(alone)

    def _drift_alone(self, part: Part, number: int) -> float:
        """The policy's drift on a finished task, the part's partner being as it was at its end."""
        then, partner = self._finished[part.name][number], self._partners[part.name]
        before = self._finished[partner.name][number].parameters
        with exchanged(part.module, self._agent.methods.deployed(part, then.task)):
            now = partner.outputs(then.batch, before)
        return _distance(part, then.outputs, _plain(now))

    def _since_boundary(self, part: Part, batch: Samples) -> Iterator[tuple[str, float]]:
        if part.gaussian:
            now, before = part.outputs(batch), part.outputs(batch, self._boundary[part.name])
            yield "kl_forward", float(gaussian_kl(*before, *now).mean())
            yield "kl_reverse", float(gaussian_kl(*now, *before).mean())
        drifts, kept, lost, similar = [], 0.0, 0.0, []
        for then in self._finished[part.name]:
            here = self._seen(part, then.task, then.batch)
            drifts.append(_distance(part, then.outputs, here.outputs))
            for feature, out, old_feature, old_out in zip(here.features, here.outs, then.features,
                                                          then.outs, strict=True):
                left, total = refit_error(feature, out, old_out)
                kept, lost = kept + total - left, lost + total
                similar.append(linear_cka(feature, old_feature))
        yield "drift", sum(drifts) / len(drifts)
        if lost > 0:
            yield "refit", kept / lost
        yield "cka", sum(similar) / len(similar)

    def _seen(self, part: Part, task: Task, batch: Samples) -> _Finished:
        """What a part, as it would be deployed for a task now, gives on states of it."""
        deployed = self._agent.methods.deployed(part, task)
        with exchanged(part.module, deployed):
            kept = ({**{n: p.detach().clone() for n, p in part.parameters().items()}, **deployed}
                    if part.name in self._partners else {})
            return _Finished(task, batch, _features(part, batch), _outs(part, batch),
                             _plain(part.outputs(batch)),
                             float(part.loss(batch)) if part.loss else 0.0, kept)

    def _states(self) -> Samples | None:
        replay = self._agent.replay
        return replay.sample(STATES, self._rng) if len(replay) > 0 else None

    def state_dict(self) -> Tree:
        return {
            "rng": seeding.generator_state(self._rng),
            "boundary": {name: tensors_to_tree(p) for name, p in self._boundary.items()},
            "finished": {name: [_to_tree(task) for task in tasks]
                         for name, tasks in self._finished.items()},
        }

    def load_state_dict(self, tree: Tree) -> None:
        seeding.restore_generator(self._rng, tree["rng"])
        for part in self._parts:
            device = next(part.module.parameters()).device
            if part.name in tree["boundary"]:
                self._boundary[part.name] = tree_to_tensors(tree["boundary"][part.name], device)
            self._finished[part.name] = [self._from_tree(task, device)
                                         for task in tree["finished"][part.name]]

    def _from_tree(self, tree: Tree, device: torch.device) -> _Finished:
        def values(name: str) -> list[Tensor]:
            return list(tree_to_tensors(tree[name], device).values())

        batch = self._agent.replay.kind(**tree_to_tensors(tree["batch"], device))
        return _Finished(self._stream[tree["task"]], batch, values("features"), values("outs"),
                         tuple(values("outputs")), tree["loss"],
                         tree_to_tensors(tree["parameters"], device))


def dormant_share(activations: list[Tensor], threshold: float = _DORMANT) -> float:
    """Share of units whose mean |activation| is at most ``threshold`` of their layer's mean.

    Args:
        activations: Of each layer, [B, units].
    """
    silent = sum(len(dormant(layer, threshold)) for layer in activations)
    return silent / sum(layer.shape[1] for layer in activations)


def effective_rank(features: Tensor) -> float:
    """exp of the entropy of the normalised singular values of [B, units]; 0 for all zeros."""
    values = torch.linalg.svdvals(features)
    shares = values / values.sum().clamp(min=1e-30)
    shares = shares[shares > 0]
    return float(torch.exp(-(shares * shares.log()).sum())) if len(shares) else 0.0


def linear_cka(a: Tensor, b: Tensor) -> float:
    """Similarity in [0, 1] of two sets of features of the same rows, [B, units] each.

    1 for features that differ by a rotation and a scale. 0 if either does not vary.
    """
    a, b = a - a.mean(0), b - b.mean(0)
    scale = (a.T @ a).norm() * (b.T @ b).norm()
    return float((a.T @ b).square().sum() / scale) if scale > 0 else 0.0


def refit_error(features: Tensor, out: Tensor, old: Tensor) -> tuple[float, float]:
    """Squared error to ``old`` of a head fitted to the first half of the rows, on the second half.

    Args:
        features: [B, units].
        out, old: [B, out]: what the head gives now, and gave once.

    Returns:
        The error of the fitted head, and that of ``out``, both on the second half.
    """
    half = len(features) // 2
    with_bias = torch.cat((features, torch.ones_like(features[:, :1])), 1)
    fit, held_out = with_bias[:half], with_bias[half:]
    # Towards the head that is there: what the fit cannot tell stays as it is.
    missing = old[:half] - out[:half]
    ridge = _RIDGE * fit.square().mean() * len(fit) + 1e-12
    gram = fit.T @ fit + ridge * torch.eye(fit.shape[1], device=fit.device)
    change = torch.linalg.solve(gram, fit.T @ missing)
    left = old[half:] - out[half:]
    return float((left - held_out @ change).square().sum()), float(left.square().sum())


def _features(part: Part, batch: Samples) -> list[Tensor]:
    """The last hidden layer of each network, [B, units]."""
    if not part.networks:
        return []
    layers = part.activations(batch)
    depth = len(layers) // len(part.networks)
    return layers[depth - 1::depth]


def _outs(part: Part, batch: Samples) -> list[Tensor]:
    if not part.networks:
        return []
    assert part.inputs is not None
    x, head = part.inputs(batch)
    return [network.run(x, head).out for network in part.networks]


def _distance(part: Part, then: tuple[Tensor, ...], now: tuple[Tensor, ...]) -> float:
    """How far outputs have drifted, a mean over states."""
    return float((gaussian_kl(*then, *now) if part.gaussian
                  else (then[0] - now[0]).square().mean(-1)).mean())


def _plain(outputs: Gaussian | Tensor) -> tuple[Tensor, ...]:
    return tuple(outputs) if isinstance(outputs, Gaussian) else (outputs,)


def _to_tree(task: _Finished) -> dict[str, Any]:
    lists = {"features": task.features, "outs": task.outs, "outputs": task.outputs}
    return {"task": task.task.name, "batch": tensors_to_tree(task.batch.columns()),
            "loss": task.loss, "parameters": tensors_to_tree(task.parameters),
            **{name: tensors_to_tree({str(i): t for i, t in enumerate(values)})
               for name, values in lists.items()}}
