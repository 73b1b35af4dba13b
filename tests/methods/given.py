"""A learner whose gradients are given, for methods that project them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from scipy.optimize import minimize
from torch import nn
from toy import corners

import crl
from crl.methods.parts import Part
from crl.replay import Replay

SIZE = 16  # parameters of both parts; of each: a weight of 6, then a bias of 2


class Given:
    """Two parts of 8 parameters each, and a method that has seen the end of some tasks.

    Args:
        method: The method.
        references: Task → its gradient, [SIZE].
        absent: Names of parameters (``"actor.bias"``) that no reference gradient reaches.
    """

    def __init__(self, method, references, absent=()) -> None:
        modules = {name: nn.Linear(3, 2) for name in ("actor", "critic")}
        self.parts = {name: Part(name, m, torch.optim.Adam(m.parameters()), lambda batch: None,
                                 gaussian=False) for name, m in modules.items()}
        self.method, self.references, self.absent = method, references, absent
        self.batches = []
        replay = Replay(50, 3, 2)
        self.learner = SimpleNamespace(parts=self.parts, replay=replay, renewed=("replay",),
                                       gradients=self.gradients)
        stream = corners(max(2, len(references)))
        method.attach(self.learner, stream)
        for task in range(len(references)):
            replay.clear()
            for _ in range(20):
                replay.add(np.zeros(3), np.zeros(2), 0.0, np.zeros(3), terminated=False,
                           truncated=False, head=task)
            method.end_task(stream[task])

    def gradients(self, batch):
        """The mean of the gradients of the tasks that the rows are of."""
        self.batches.append(batch)
        rows = np.bincount(batch.heads.numpy(), minlength=len(self.references))
        pieces = self._pieces(rows @ np.array(self.references) / rows.sum())
        return {part: {name: pieces[f"{part}.{name}"] for name in self.parts[part].parameters()
                       if f"{part}.{name}" not in self.absent} for part in self.parts}

    def project(self, gradient, absent=()):
        """What the hook makes of a gradient [SIZE], those of ``absent`` being None."""
        for name, piece in self._pieces(gradient).items():
            self.parameter(name).grad = None if name in absent else piece
        self.method.gradients()
        return self.current()

    def current(self):
        """All ``.grad`` as one vector, None as zero."""
        return np.concatenate([np.zeros(p.numel()) if p.grad is None else p.grad.flatten().numpy()
                               for part in self.parts.values()
                               for p in part.parameters().values()])

    def parameter(self, name):
        part, name = name.split(".")
        return self.parts[part].parameters()[name]

    def _pieces(self, vector):
        names = [f"{p}.{n}" for p in self.parts for n in self.parts[p].parameters()]
        shapes = [self.parameter(name).shape for name in names]
        flat = torch.tensor(vector, dtype=torch.float32).split([s.numel() for s in shapes])
        return {n: f.clone().view(s) for n, f, s in zip(names, flat, shapes, strict=True)}


def nearest(gradient, references):
    """argmin ‖x − gradient‖ with references · x ≥ 0, by a general solver."""
    references = np.asarray(references)
    result = minimize(lambda x: 0.5 * ((x - gradient) ** 2).sum(), np.zeros_like(gradient),
                      jac=lambda x: x - gradient, method="SLSQP",
                      constraints={"type": "ineq", "fun": lambda x: references @ x,
                                   "jac": lambda x: references},
                      options={"ftol": 1e-14, "maxiter": 500})
    assert result.success
    return result.x


def watch(agent, method):
    """Records at each gradient step the products with all references, before and after the hook."""
    seen, references = [], []
    gradients, hook = agent.gradients, method.gradients

    def vector(found):
        return torch.cat([found[part.name].get(n, torch.zeros_like(p)).flatten()
                          for part in method.parts for n, p in part.parameters().items()]).double()

    def own():
        return vector({part.name: {n: p.grad for n, p in part.parameters().items()
                                   if p.grad is not None} for part in method.parts})

    def recorded(batch):
        references.append(gradients(batch))
        return references[-1]

    def watched():
        references.clear()
        before = own()
        hook()
        rows = torch.stack([vector(reference) for reference in references])
        lengths = rows.norm(dim=1)
        seen.append((rows @ before / (lengths * before.norm()),
                     rows @ own() / (lengths * before.norm())))

    agent.gradients, method.gradients = recorded, watched
    return seen


def make(name, references, absent=(), **settings) -> Given:
    return Given(crl.make_method(name, batch_size=12, samples_per_task=15, **settings), references,
                 absent)
