"""Models of what comes next: networks that are trained on changes, and imagine with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crl.memory.generated_network import GeneratedNetwork, Perceptron
from crl.methods.parts import Gaussian
from crl.nn.network import Network
from crl.nn.products import affine

_LOG_VARIANCE = (-10.0, 0.5)  # between these, softly


class Angles:
    """Observations as models see them: instead of angles, their cosines and sines at the end.

    Args:
        size: Of an observation.
        angles: Entries that are angles.

    Attributes:
        size: Of what models see.
    """

    def __init__(self, size: int, angles: Sequence[int]) -> None:
        self._angles = torch.tensor(sorted(angles), dtype=torch.int64)
        self._others = torch.tensor([i for i in range(size) if i not in angles], dtype=torch.int64)
        self._back = torch.cat((self._others, self._angles)).argsort()
        self.size = size + len(angles)

    def __call__(self, obs: Tensor) -> Tensor:
        """[..., obs] → [..., size]."""
        if not len(self._angles):
            return obs
        angles = obs.index_select(-1, self._angles.to(obs.device))
        others = obs.index_select(-1, self._others.to(obs.device))
        return torch.cat((others, angles.cos(), angles.sin()), -1)

    def change(self, obs: Tensor, next_obs: Tensor) -> Tensor:
        """next_obs − obs [..., obs], of angles the way round that is shorter."""
        change = next_obs - obs
        if not len(self._angles):
            return change
        angles, others, back = (i.to(obs.device) for i in (self._angles, self._others, self._back))
        turn = change.index_select(-1, angles)
        turn = torch.atan2(turn.sin(), turn.cos())
        return torch.cat((change.index_select(-1, others), turn), -1).index_select(-1, back)


class Ensemble(nn.Module):
    """Networks of one form with weights of their own."""

    def __init__(self, new_network: Callable[[], nn.Module], count: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(new_network() for _ in range(count))

    def forward(self, x: Tensor, head: int | Tensor) -> Tensor:
        """[B, in] → what each gives, side by side, [B, members · out]."""
        return torch.cat([member(x, head) for member in self.members], -1)


def gaussian(out: Tensor) -> Gaussian:
    """A network's output [B, 2 · size] as means and standard deviations.

    The log-variance is softly kept between −10 and 0.5, as PETS does (Chua et al. 2018).
    """
    low, high = _LOG_VARIANCE
    mean, log_variance = out.chunk(2, -1)
    log_variance = high - F.softplus(high - log_variance)
    return Gaussian(mean, (0.5 * (low + F.softplus(log_variance - low))).exp())


def squared_error(out: Tensor, target: Tensor) -> Tensor:
    """A mean over everything: [B, size] each → scalar."""
    return (out - target).square().mean()


def negative_log_likelihood(out: Tensor, target: Tensor) -> Tensor:
    """Of a :func:`gaussian`, without its constant, a mean over everything."""
    mean, std = gaussian(out)
    return (0.5 * ((target - mean) / std).square() + std.log()).mean()


class Model(Protocol):
    """A frozen model of one task."""

    def imagine(self, obs: Tensor, actions: Tensor) -> Tensor:
        """What N sequences of actions lead to.

        Args:
            obs: [N, obs], where they begin.
            actions: [N, H, act], in [-1, 1].

        Returns:
            Observations [N, H + 1, obs], the first of them ``obs``.
        """
        ...


class NetworkModel:
    """Any network as a :class:`Model`.

    Args:
        network: Called with inputs [N, in] and the head.
        head: The task's.
        angles: How observations are seen.
        inputs: Shift and factor [in] of what is seen and the action.
        changes: Shift and factor [obs] of what the network gives.
    """

    def __init__(self, network: nn.Module, head: int, angles: Angles,
                 inputs: tuple[Tensor, Tensor], changes: tuple[Tensor, Tensor]) -> None:
        self._network, self._head, self._angles = network, head, angles
        self._inputs, self._changes = inputs, changes

    def imagine(self, obs: Tensor, actions: Tensor) -> Tensor:
        (shift, factor), (middle, scale) = self._inputs, self._changes
        seen = [obs]
        for action in actions.unbind(1):
            x = (torch.cat((self._angles(obs), action), -1) - shift) * factor
            change = self._network(x, self._head)[:, :len(middle)]
            obs = obs + torch.addcdiv(middle, change, scale)
            seen.append(obs)
        return torch.stack(seen, 1)


class PerceptronModel:
    """A perceptron as a :class:`Model`, several times faster: all scaling is folded into it.

    Its first layer's share of all actions is one product before the first step.

    Args:
        weights: Kernel [in, out] and bias [out] of each layer, with ReLU between them.
        angles, inputs, changes: As of a :class:`NetworkModel`.
    """

    def __init__(self, weights: Sequence[Tensor], angles: Angles, inputs: tuple[Tensor, Tensor],
                 changes: tuple[Tensor, Tensor]) -> None:
        (shift, factor), (middle, scale) = inputs, changes
        first, bias, *between, last, at_end = (w.detach().clone() for w in weights)
        bias = bias - (shift * factor) @ first
        first = factor[:, None] * first
        size = len(middle)
        self._angles = angles
        self._seen, self._action = first[:angles.size].contiguous(), first[angles.size:]
        self._bias = bias
        self._between = list(zip(between[::2], between[1::2], strict=True))
        self._last = (last[:, :size] / scale).t().contiguous()  # [obs, units]: MKL is faster so
        self._at_end = at_end[:size] / scale + middle

    def imagine(self, obs: Tensor, actions: Tensor) -> Tensor:
        # [H, N, units]: what a step reads lies together.
        share = torch.addmm(self._bias, actions.transpose(0, 1).flatten(0, 1), self._action
                            ).view(actions.shape[1], len(obs), -1)
        seen = [obs]
        for term in share.unbind(0):
            x = torch.addmm(term, self._angles(obs), self._seen).relu_()
            for kernel, bias in self._between:
                x = affine(x, kernel, bias, relu=True)
            obs = F.linear(x, self._last, self._at_end).add_(obs)
            seen.append(obs)
        return torch.stack(seen, 1)


def mean_step(models: Sequence[PerceptronModel]) -> Callable[[Tensor, Tensor], Tensor]:
    """The mean of what models of one form imagine of a step, with one product a layer for all.

    Returns:
        Observations [N, obs] and actions [N, act] in [-1, 1] → next observations [N, obs].
    """
    angles, count = models[0]._angles, len(models)
    first = torch.stack([torch.cat((model._seen, model._action)) for model in models])
    bias = torch.stack([model._bias for model in models])[:, None]
    between = [tuple(map(torch.stack, zip(*layers, strict=True)))
               for layers in zip(*(model._between for model in models), strict=True)]
    last = torch.cat([model._last.t() for model in models]) / count
    at_end = torch.stack([model._at_end for model in models]).mean(0)

    def step(obs: Tensor, actions: Tensor) -> Tensor:
        x = torch.cat((angles(obs), actions), -1).expand(count, -1, -1)
        x = torch.baddbmm(bias, x, first).relu()
        for kernel, shift in between:
            x = torch.baddbmm(shift[:, None], x, kernel).relu()
        return obs + torch.addmm(at_end, x.transpose(0, 1).flatten(1), last)

    return step


def frozen(network: nn.Module, head: int, angles: Angles, inputs: tuple[Tensor, Tensor],
           changes: tuple[Tensor, Tensor]) -> Model:
    """A network as a :class:`Model` of one head, by the faster of the two ways that can be had."""
    if isinstance(network, GeneratedNetwork):
        network = network.of_head(head)
    weights = perceptron_weights(network, head)
    if weights is None:
        return NetworkModel(network, head, angles, inputs, changes)
    return PerceptronModel(weights, angles, inputs, changes)


def perceptron_weights(network: nn.Module, head: int) -> list[Tensor] | None:
    """Kernels and biases of a network with nothing but ReLU between them; None for any other."""
    if isinstance(network, Network):
        if not network.plain or network.trunk.norm is not None:
            return None
        layers = [*network.trunk.dense, network.heads.items[head]]
        return [w for layer in cast(Iterable[nn.Module], layers)
                for w in (layer.kernel, layer.bias) if isinstance(w, Tensor)]
    if isinstance(network, Perceptron) and not network.layer_norm:
        return list(network.weights)
    return None
