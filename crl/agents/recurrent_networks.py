"""What a recurrent agent is made of: an encoder with a memory, and the policy left of it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crl.agent import BoolArray, FloatArray, PolicySpec, State
from crl.agents.actions import Actions
from crl.agents.frozen_policy import FrozenPolicy
from crl.memory import Memory
from crl.nn import state as trees
from crl.nn.layers import Dense
from crl.nn.scaling import scale
from crl.sequences import Sequences


class Encoder(nn.Module):
    """Observation and previous action → ReLU embedding → memory; features are both, side by side.

    What is seen now need not go through the memory (Ni et al. 2022). Without a memory the previous
    action is not seen either: where actions are free, repeating them is one.

    Args:
        obs_size, action_size: Widths of the inputs.
        memory: The sequence core; its input size is the embedding's width.
        generator: Source of the initial weights.
    """

    def __init__(self, obs_size: int, action_size: int, memory: Memory,
                 generator: torch.Generator) -> None:
        super().__init__()
        self._actions = action_size if memory.state_size else 0
        self.embed = Dense(obs_size + self._actions, memory.input_size, generator)
        self.memory = memory
        self.size_out = memory.input_size + memory.output_size

    def forward(self, batch: Sequences, state: Tensor) -> Tensor:
        """Features of every row, [B, L + 1, out], given the state before the first."""
        # A row's action is already zero where an episode begins.
        x = self._embedding(batch.obs, batch.action)
        out, _ = self.memory.scan(x, state, batch.first)
        return torch.cat((x, out), -1)

    def step(self, obs: Tensor, action: Tensor, state: Tensor, first: Tensor
             ) -> tuple[Tensor, Tensor]:
        """One step.

        Args:
            obs: [B, obs].
            action: The previous one, [B, act]; ignored where an episode begins.
            state: The memory's, [B, state]; likewise.
            first: [B] bool, where an episode begins.

        Returns:
            Features [B, out] and the next state.
        """
        action = torch.where(first.unsqueeze(-1), 0, action)
        x = self._embedding(obs, action)
        out, state = self.memory.step(x, state, first)
        return torch.cat((x, out), -1), state

    def _embedding(self, obs: Tensor, action: Tensor) -> Tensor:
        return F.relu(self.embed(torch.cat((obs, action[..., :self._actions]), -1)))


class RecurrentPolicy(FrozenPolicy):
    """A frozen encoder and actor with one of its heads, and how its observations are scaled.

    Its state: the memory's, and the previous action.
    """

    def __init__(self, spec: PolicySpec, encoder: Encoder, actor: nn.Module, head: int,
                 actions: Actions, scaling: tuple[Tensor, Tensor] | None) -> None:
        super().__init__(spec, actions)
        self._scaling = scaling
        self.encoder = encoder.requires_grad_(False)
        self.actor = actor.requires_grad_(False)
        self.head = head

    def step(self, obs: FloatArray, state: State, first: BoolArray,
             deterministic: bool = True) -> tuple[FloatArray, State]:
        memory, previous = (trees.to_tensor(array) for array in state)
        begins = torch.from_numpy(np.array(first, np.bool_))
        with torch.inference_mode():
            seen = trees.to_tensor(obs)
            if self._scaling is not None:
                seen = scale(seen, *self._scaling)
            features, memory = self.encoder.step(seen, previous, memory, begins)
            action = self._chosen(self.actor(features, self.head), deterministic)
        return self._actions.to_env(action), (memory.numpy(), action)
