"""What soft actor-critic is made of: twin critics, and the policy that is left of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn

from crl.agent import BoolArray, FloatArray, PolicySpec, State
from crl.agents.actions import Actions
from crl.agents.frozen_policy import FrozenPolicy
from crl.nn import state as trees
from crl.nn.network import Network, Pass, TapePass
from crl.nn.scaling import scale


class Critics(nn.Module):
    """Twin action values."""

    def __init__(self, new_network: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.twins = nn.ModuleList(new_network() for _ in range(2))

    def forward(self, obs: Tensor, action: Tensor, head: int | Tensor) -> Tensor:
        """[B, obs], [B, act] → [B, 2]."""
        x = torch.cat((obs, action), -1)
        return torch.cat([twin(x, head) for twin in self.twins], -1)

    def run(self, obs: Tensor, action: Tensor, head: int | Tensor) -> tuple[Pass | TapePass, ...]:
        """What ``forward`` gives, as a pass of each twin, [B, 1]."""
        x = torch.cat((obs, action), -1)
        return tuple(twin.run(x, head) for twin in cast(Iterable[Network], self.twins))


class SACPolicy(FrozenPolicy):
    """A frozen actor with one of its heads, and how its observations are scaled."""

    def __init__(self, spec: PolicySpec, actor: nn.Module, head: int, actions: Actions,
                 scaling: tuple[Tensor, Tensor] | None) -> None:
        super().__init__(spec, actions)
        self._scaling = scaling
        self.actor = actor.requires_grad_(False)
        self.head = head

    def step(self, obs: FloatArray, state: State, first: BoolArray,
             deterministic: bool = True) -> tuple[FloatArray, State]:
        with torch.inference_mode():
            seen = trees.to_tensor(obs)
            if self._scaling is not None:
                seen = scale(seen, *self._scaling)
            action = self._chosen(self.actor(seen, self.head), deterministic)
        return self._actions.to_env(action), state
