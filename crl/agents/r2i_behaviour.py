"""Actor and critic of R2I: how it acts, and the imagined futures (Hafner et al. 2023) that they
learn from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from crl.agent import BoolArray, FloatArray
from crl.agents.acting import Acting
from crl.agents.actions import Actions
from crl.agents.r2i_model import TWO_HOT, Belief, Sees, WorldModel
from crl.checkpoint import Tree
from crl.nn import latents

_STD = (0.1, 1.0)  # least and largest, before squashing


class R2IActing(Acting):
    """An actor on the beliefs of a world model, which takes in every step.

    Args:
        model: The world model.
        actor: Called with a belief's features and the head.
        sees: What features are made of.
        actions, rng, generator, device: As of :class:`~crl.agents.acting.Acting`.
    """

    def __init__(self, model: WorldModel, actor: nn.Module, sees: Sees, actions: Actions,
                 rng: np.random.Generator, generator: torch.Generator, device: str) -> None:
        super().__init__(actions, rng, generator, device)
        self._model, self._actor, self._sees = model, actor, sees
        self._state = torch.zeros(1, model.state_size, device=device)

    @torch.inference_mode()
    def _choose(self, obs: FloatArray, first: BoolArray) -> FloatArray:
        belief = self._model.step(self._seen(obs), self._seen(self._last), self._state,
                                  torch.tensor(first).to(self.device), self._generator)
        self._state = belief.remembered
        if self.acts_as is None:
            return self._at_random()
        features = belief.features(self._sees)
        return self._drawn(bounded(self._actions, self._actor(features, self.acts_as)))

    def _remembered(self) -> FloatArray:
        remembered: FloatArray = self._state[0].cpu().numpy()
        return remembered


class Dream(NamedTuple):
    """N imagined futures of H steps."""

    features: Tensor  # [H + 1, N, features] that the policy saw
    action: Tensor    # [H, N, act] that it took there
    reward: Tensor    # [H, N] of each
    goes_on: Tensor   # [H, N], the chance that the episode did not end with it


@torch.no_grad()
def imagine(model: WorldModel, start: Belief, head: int | Tensor,
            act: Callable[[Tensor, int | Tensor], Tensor], *, sees: Sees, horizon: int,
            generator: torch.Generator) -> Dream:
    """What a policy would do and get, if the model were the world.

    Args:
        model: The model.
        start: Beliefs [N, …] to begin at.
        head: Their heads.
        act: Features [N, features] and heads → actions [N, act].
        sees: What features are made of.
        horizon: H.
        generator: Source of the latents.
    """
    belief, beliefs, actions = start, [start], []
    for _ in range(horizon):
        actions.append(act(belief.features(sees), head))
        belief = model.imagine(belief, actions[-1], generator)
        beliefs.append(belief)
    told = torch.stack([model.told(b) for b in beliefs[1:]]).flatten(0, 1)
    heads = head.repeat(horizon) if isinstance(head, Tensor) else head
    shape = (horizon, len(start.z))
    return Dream(torch.stack([b.features(sees) for b in beliefs]), torch.stack(actions),
                 TWO_HOT.mean(model.reward(told, heads)).view(shape),
                 model.goes_on(told, heads).sigmoid().view(shape))


def lambda_returns(reward: Tensor, discount: Tensor, value: Tensor, mix: float) -> Tensor:
    """Rₜ = rₜ + dₜ ((1 − λ) vₜ₊₁ + λ Rₜ₊₁), the last one with vₜ₊₁ in the place of Rₜ₊₁.

    Args:
        reward, discount: [H, N]: of the step after each of the first H states.
        value: [H + 1, N], of every state.
        mix: λ.

    Returns:
        [H, N].
    """
    following, returns = value[-1], []
    for r, d, v in zip(reward.flip(0), discount.flip(0), value[1:].flip(0), strict=True):
        following = r + d * ((1 - mix) * v + mix * following)
        returns.append(following)
    return torch.stack(returns).flip(0)


class ReturnScale:
    """How far apart returns are, of each head: what advantages are measured by.

    The distance from the 5th to the 95th percentile, averaged over updates; 1 at least, so that
    small returns are not blown up.

    Args:
        heads: How many.
    """

    def __init__(self, heads: int) -> None:
        self._low, self._high = np.zeros(heads), np.zeros(heads)
        self._known = np.zeros(heads, np.bool_)

    def see(self, returns: Tensor, head: int) -> None:
        """Takes in returns of a head, any shape."""
        low, high = torch.quantile(returns.flatten().float(), torch.tensor(
            [0.05, 0.95], device=returns.device)).tolist()
        share = 0.01 if self._known[head] else 1.0
        self._low[head] += share * (low - self._low[head])
        self._high[head] += share * (high - self._high[head])
        self._known[head] = True

    def of(self, head: int | Tensor) -> float | Tensor:
        """Of one head, or of each row's own."""
        scale = np.maximum(1.0, self._high - self._low)
        if not isinstance(head, Tensor):
            return float(scale[head])
        return torch.from_numpy(scale.astype(np.float32)).to(head.device)[head]

    def state_dict(self) -> Tree:
        return {"low": self._low.copy(), "high": self._high.copy(), "known": self._known.copy()}

    def load_state_dict(self, tree: Tree) -> None:
        self._low[:], self._high[:], self._known[:] = tree["low"], tree["high"], tree["known"]


def bounded(actions: Actions, out: Tensor) -> Tensor:
    """An actor's output such that it never stops exploring.

    Choices have a hundredth of the uniform distribution mixed in; bounded actions have a standard
    deviation between 0.1 and 1 before they are squashed.
    """
    if actions.discrete:
        return latents.mixed(out)
    mean, std = out.chunk(2, -1)
    low, high = _STD
    return torch.cat((mean, (low + (high - low) * (std + 2).sigmoid()).log()), -1)
