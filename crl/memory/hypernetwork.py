"""A hypernetwork: a task's network, remembered as the task's embedding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from crl.config import require_not_negative, require_positive
from crl.nn.layers import Dense
from crl.nn.network import add_gradient
from crl.nn.products import affine, input_gradient


class Embedding(nn.Module):
    """What a hypernetwork knows of one task: e ~ N(0, 1)."""

    def __init__(self, size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.randn(size, generator=generator))


class Embeddings(nn.Module):
    """One per task; parameters of their own, as heads are, which methods leave to their tasks."""

    def __init__(self, size: int, tasks: int, generator: torch.Generator) -> None:
        super().__init__()
        self.items = nn.ModuleList(Embedding(size, generator) for _ in range(tasks))

    def forward(self, tasks: Sequence[int]) -> Tensor:
        """[K, size]."""
        return torch.stack([cast(Embedding, self.items[task]).vector for task in tasks])


class Features(nn.Module):
    """Task embeddings → what the kernels and biases are linear in.

    Args:
        embedding: Numbers of an embedding.
        width, layers: Of the hidden layers.
        chunks: Pieces that weights are given in; more than one have embeddings as well.
        generator: Source of the initial weights.
    """

    def __init__(self, embedding: int, width: int, layers: int, chunks: int,
                 generator: torch.Generator) -> None:
        super().__init__()
        self.chunks = (nn.Parameter(torch.randn(chunks, embedding, generator=generator))
                       if chunks > 1 else None)
        inputs = embedding * (1 if self.chunks is None else 2)
        self.hidden = nn.ModuleList(Dense(a, b, generator)
                                    for a, b in pairwise((inputs, *[width] * layers)))

    def forward(self, embeddings: Tensor) -> Tensor:
        """[K, embedding] → [K · chunks, width]."""
        x = embeddings
        if self.chunks is not None:
            x = torch.cat((x.repeat_interleave(len(self.chunks), 0),
                           self.chunks.repeat(len(x), 1)), -1)
        for dense in self.hidden:
            x = F.relu(dense(x))
        return x


class Hypernetwork(nn.Module):
    """Task embedding → hidden layers → the kernels and biases of a multilayer perceptron.

    von Oswald et al. 2020, "Continual learning with hypernetworks". All tasks have the weights of
    this one network in common and an embedding each, so that a task costs ``embedding`` numbers.

    Initial weights are such that the perceptron's have the variance they would have of their own:
    kernels 2 over their width in, as ReLU asks for, and 1 the last one (hyperfan-in, Chang et al.
    2020); biases a third of it.

    Args:
        sizes: Widths of the perceptron: input, hidden layers, output.
        tasks: How many embeddings there are.
        config: The options.
        generator: Source of the initial weights.

    Attributes:
        heads: The embeddings.
        size: Weights of the perceptron.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of :class:`Hypernetwork`.

        Attributes:
            embedding: Numbers of an embedding.
            width, layers: Of its own hidden layers.
            chunks: 1: one product gives all weights. Else they are given in so many pieces, by as
                many passes at once with an embedding of each piece beside the task's: fewer
                parameters, about as many times.
            coefficient: β, of the regulariser that keeps what it gives for old tasks; 0: none.
            regularized: Old tasks that the regulariser looks at in a gradient step, drawn at
                random; 0: all.
        """

        embedding: int = 10
        width: int = 50
        layers: int = 2
        chunks: int = 1
        coefficient: float = 0.05
        regularized: int = 0

        def __post_init__(self) -> None:
            require_positive(self, "embedding", "width", "layers", "chunks")
            require_not_negative(self, "coefficient", "regularized")

    scale: Tensor | None

    def __init__(self, sizes: Sequence[int], tasks: int, config: Config,
                 generator: torch.Generator) -> None:
        super().__init__()
        self._shapes = [shape for a, b in pairwise(sizes) for shape in ((a, b), (b,))]
        self._counts = [math.prod(shape) for shape in self._shapes]
        self.size = sum(self._counts)
        self.heads = Embeddings(config.embedding, tasks, generator)
        self.features = Features(config.embedding, config.width, config.layers, config.chunks,
                                 generator)
        self.out = Dense(config.width, -(-self.size // config.chunks), generator)
        self._initialise(sizes, generator)

    @torch.no_grad()
    def _initialise(self, sizes: Sequence[int], generator: torch.Generator) -> None:
        for dense in (*cast(list[Dense], list(self.features.hidden)), self.out):
            # He et al. 2015: features keep the mean square of 1 that embeddings have.
            dense.kernel.normal_(std=math.sqrt(2 / len(dense.kernel)), generator=generator)
            dense.bias.zero_()
        gains = [math.sqrt(2)] * (len(sizes) - 2) + [1]
        # What the last layer gives has a variance of 2.
        scale = torch.cat([torch.full((count,), gain * math.sqrt(share / (2 * size_in)))
                           for (size_in, size_out), gain in zip(pairwise(sizes), gains, strict=True)
                           for count, share in ((size_in * size_out, 1), (size_out, 1 / 3))])
        in_one = self.features.chunks is None
        if in_one:
            self.out.kernel.mul_(scale)
        # All pieces have one output layer, which cannot have a scale for each weight.
        self.register_buffer("scale", None if in_one else scale, persistent=False)

    def weights(self, tasks: Sequence[int]) -> list[Tensor]:
        """Tasks [K] → their kernels [K, in, out] and biases [K, out], layer by layer."""
        flat: Tensor = self(self.heads(tasks))
        return [part.view(len(tasks), *shape) for part, shape in
                zip(torch.split(flat, self._counts, -1), self._shapes, strict=True)]

    def forward(self, embeddings: Tensor) -> Tensor:
        """Embeddings [K, embedding] → all weights of each, [K, size]."""
        return self._joined(self.out(self.features(embeddings)), len(embeddings))

    @torch.no_grad()
    def add_penalty_gradient(self, tasks: Sequence[int], target: Tensor, coefficient: float,
                             at: dict[str, Tensor]) -> None:
        """Adds to every ``.grad`` the gradient of coefficient · ‖given for tasks − target‖².

        The output layer's is written out: it has nearly all weights, and is then read and written
        no more often than needed.

        Args:
            tasks: K of them.
            target: [K, size].
            coefficient: The penalty's.
            at: The shared parameters at which the gradient is taken, by name.
        """
        own = {name.removeprefix("features."): p.detach().requires_grad_()
               for name, p in at.items() if name.startswith("features.")}
        with torch.enable_grad():
            x = functional_call(self.features, own, (self.heads(tasks).detach(),))
        kernel = at["out.kernel"]
        pieces = affine(x.detach(), kernel, at["out.bias"])
        error = self._joined(pieces, len(tasks)).sub_(target).mul_(2 * coefficient)
        if self.scale is not None:
            room = pieces.numel() // len(tasks) - self.size  # of the last piece, which none uses
            error = F.pad(error.mul_(self.scale), (0, room)).view_as(pieces)
        gradients = torch.autograd.grad(x, list(own.values()), input_gradient(error, kernel))
        for parameter, gradient in zip(self.features.parameters(), gradients, strict=True):
            add_gradient(parameter, gradient)
        add_gradient(self.out.bias, error.sum(0))
        if self.out.kernel.grad is None:
            self.out.kernel.grad = torch.zeros_like(kernel)
        self.out.kernel.grad.addmm_(x.detach().t(), error)

    def _joined(self, pieces: Tensor, tasks: int) -> Tensor:
        """What the output layer gives [tasks · chunks, …] as all weights of each [tasks, size]."""
        if self.scale is None:
            return pieces
        return pieces.view(tasks, -1)[:, :self.size] * self.scale

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """All but the embeddings, by name."""
        return {name: p for name, p in self.named_parameters() if not name.startswith("heads.")}
