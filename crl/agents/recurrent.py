"""What agents with a memory share: encoders, and the policy on the first one's features."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from functools import partial
from typing import TypeVar, cast

import torch
from torch import Tensor
from torch.func import functional_call

from crl.agent import PolicySpec, Step
from crl.agents.parts_agent import PartsAgent
from crl.agents.recurrent_networks import Encoder, RecurrentActing, RecurrentPolicy
from crl.memory import make_memory
from crl.methods.parts import Gaussian, Parameters
from crl.sequences import Sequences
from crl.stream import Task

S = TypeVar("S", bound=Sequences)


class RecurrentAgent(PartsAgent[S]):
    """A :class:`PartsAgent` whose policy is made of the parts ``memory`` and ``actor``.

    A subclass calls :meth:`_add_memories` and :meth:`_add_actor` before it adds other parts. The
    features of the last memory are those that its values are made of.
    """

    def _add_memories(self, *names: str) -> None:
        """Adds encoders of the past, ``"memory"`` first."""
        settings, generator = self.config, self._weights_generator
        obs, width = len(self._observation_bounds[0]), settings.memory_size

        def encoder() -> Encoder:
            memory = make_memory(settings.memory, width, width, generator,
                                 **settings.memory_options)
            return Encoder(obs, self._actions.size, memory, generator)

        for name in names:
            outputs = self._policy_outputs if name == "memory" else self._value_outputs
            self._add_part(name, encoder, partial(outputs, name),
                           name == "memory" and not self._actions.discrete, acts=name == "memory")
        self.encoder = self._encoder("memory")
        self._memories, self._value_memory = names, names[-1]
        self._states = [self._encoder(name).memory.state_size for name in names]

    def _add_actor(self, epsilon: float | None = None) -> None:
        """Adds the actor, and what acts; ``epsilon``: share of actions at random."""
        self._add_part("actor", self._network(self.encoder.size_out, self._actions.policy_size),
                       partial(self._policy_outputs, "actor"), not self._actions.discrete,
                       lambda actor: (actor,), partial(self._usable_features, "memory"), acts=True)
        self._acting = RecurrentActing(
            [self._encoder(name) for name in self._memories], self.parts["actor"].module,
            self._scaling, epsilon, self._actions, self._rng, self._generator, self.device)

    def policy(self, task: Task) -> RecurrentPolicy:
        modules = [self._deployed(name, task) for name in ("memory", "actor")]
        actions = self._actions
        spec = PolicySpec(task.name, *self._observation_bounds, actions.low, actions.high,
                          actions.discrete, ((self._states[0],), (actions.size,)),
                          self.encoder.memory.context)
        return RecurrentPolicy(spec, cast(Encoder, modules[0]), modules[1], self._head_of(task),
                               actions, self._deployed_scaling(task))

    def _store(self, step: Step) -> None:
        taken = self._taken(step)
        self.replay.add(
            step.obs[0], taken.action, step.reward[0], step.next_obs[0],
            terminated=bool(step.terminated[0]), first=bool(step.first[0]), head=self.head,
            state=taken.memory)

    # ---- learning ----

    def _add_gradients(self, batch: S) -> dict[str, Tensor]:
        with torch.enable_grad():  # methods ask for gradients from within no_grad
            losses = self.losses(batch)
            torch.autograd.backward(list(losses.values()))
        return losses

    @abstractmethod
    def losses(self, batch: S) -> dict[str, Tensor]:
        """The losses on sequences, means over all usable steps; their sum is descended."""

    def _encoder(self, part: str) -> Encoder:
        return cast(Encoder, self.parts[part].module)

    def _features(self, part: str, batch: S, parameters: Parameters | None = None) -> Tensor:
        """Of every row, [B, L + 1, features], by a part's encoder."""
        features: Tensor = functional_call(self.parts[part].module, parameters or {},
                                           (self._scaled(batch), self._state(part, batch)))
        return features

    def _scaled(self, batch: S) -> S:
        """With observations as encoders are given them."""
        return replace(batch, obs=self._scale(batch.obs, batch.head))

    def _state(self, part: str, batch: S) -> Tensor:
        """What a part's memory held before the first rows."""
        return self._split(batch.state)[self._memories.index(part)]

    def _split(self, states: Tensor) -> tuple[Tensor, ...]:
        """The state of each memory."""
        each: tuple[Tensor, ...] = torch.split(states, self._states, -1)
        return each

    @torch.no_grad()
    def _usable_features(self, part: str, batch: S) -> tuple[Tensor, int | Tensor]:
        """Of the usable steps, by a part's encoder, and their heads: what networks are given."""
        row, step = batch.usable.nonzero(as_tuple=True)
        return self._features(part, batch)[row, step], head_of_rows(batch, row)

    def _policy_outputs(self, part: str, batch: S, parameters: Parameters | None = None
                        ) -> Gaussian | Tensor:
        """The policy at every step of a batch, [B, L, …], with other parameters of a part."""
        features = self._features("memory", batch, parameters if part == "memory" else None)
        rows = features[:, :-1]
        out = functional_call(self.parts["actor"].module,
                              (parameters or {}) if part == "actor" else {},
                              (rows.flatten(0, 1), head_of_steps(batch)))
        return self._actions.outputs(out.view(*rows.shape[:2], -1), batch.usable)

    @abstractmethod
    def _value_outputs(self, part: str, batch: S, parameters: Parameters | None = None) -> Tensor:
        """The values at every step of a batch, [B, L, …]; 0 where it is not usable."""


def head_of_rows(batch: Sequences, row: Tensor) -> int | Tensor:
    """The head of some of the sequences."""
    return batch.head[row] if isinstance(batch.head, Tensor) else batch.head


def head_of_steps(batch: Sequences) -> int | Tensor:
    """The head of every step of sequences, flat."""
    steps = batch.usable.shape[1]
    return batch.head.repeat_interleave(steps) if isinstance(batch.head, Tensor) else batch.head
