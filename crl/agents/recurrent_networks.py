"""What a recurrent agent is made of: an encoder with a memory, and the policy left of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crl.agent import BoolArray, FloatArray, PolicySpec, State
from crl.agents.acting import Acting
from crl.agents.actions import Actions
from crl.agents.frozen_policy import FrozenPolicy
from crl.memory import Memory
from crl.memory.base import begun
from crl.nn import state as trees
from crl.nn.layers import Dense
from crl.nn.scaling import ObservationScaling, scale
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


class RecurrentActing(Acting):
    """Encoders, of which the first one's features are the actor's.

    Args:
        encoders: Each takes in every step; what they remember is stored side by side.
        actor: Called with features and the head.
        scaling: Of observations; None: as they are.
        epsilon: Share of actions at random; None: no such draws.
        actions, rng, generator, device: As of :class:`~crl.agents.acting.Acting`.
    """

    def __init__(self, encoders: Sequence[Encoder], actor: nn.Module,
                 scaling: ObservationScaling | None, epsilon: float | None, actions: Actions,
                 rng: np.random.Generator, generator: torch.Generator, device: str) -> None:
        super().__init__(actions, rng, generator, device)
        self._encoders, self._actor = nn.ModuleList(encoders), actor
        self._scaling, self._epsilon = scaling, epsilon
        self._widths = [encoder.memory.state_size for encoder in encoders]
        self._state = self._before = torch.zeros(1, sum(self._widths), device=device)

    def _choose(self, obs: FloatArray, first: BoolArray) -> FloatArray:
        with torch.inference_mode():
            features = self._features(obs, first)
            if self.acts_as is None or self._by_chance():
                return self._at_random()
            return self._drawn(self._actor(features, self.acts_as))

    def _by_chance(self) -> bool:
        return self._epsilon is not None and self._rng.random() < self._epsilon

    def _features(self, obs: FloatArray, first: BoolArray) -> Tensor:
        begins = torch.tensor(first).to(self.device)
        self._before = begun(self._state, begins)
        seen, previous = self._seen(obs), self._seen(self._last)
        if self._scaling is not None:
            seen = self._scaling(seen, self.head)
        steps = [encoder.step(seen, previous, state, begins) for encoder, state in zip(
            cast(Iterable[Encoder], self._encoders),
            torch.split(self._before, self._widths, -1), strict=True)]
        self._state = torch.cat([state for _, state in steps], -1)
        return steps[0][0]

    def _remembered(self) -> FloatArray:
        remembered: FloatArray = self._before[0].cpu().numpy()
        return remembered


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
