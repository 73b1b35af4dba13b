"""The world model of R2I: what is seen as latents, and how they follow one another.

Samsami et al. 2024, "Mastering Memory Tasks with World Models": a recurrent state-space model as
DreamerV3 has it (Hafner et al. 2023), whose sequence model is a state-space memory and whose
latents are told from what is seen alone, so that all of a sequence is learned from at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crl.chunks import Chunks
from crl.memory.base import Memory
from crl.nn import latents
from crl.nn.layers import Dense, Trunk
from crl.nn.network import Network
from crl.nn.symlog import TwoHot, symlog

Sees = Literal["output", "hidden", "full"]
TWO_HOT = TwoHot()


class Belief(NamedTuple):
    """What is known at a step: of what is seen there, and of what was before."""

    z: Tensor     # [..., latents], ones and zeros
    h: Tensor     # [..., deter]: what the past says
    core: Tensor  # [..., state of the core], after the step

    def features(self, sees: Sees) -> Tensor:
        """What a policy is given of it, [..., features]."""
        parts = {"output": (self.h, self.z), "hidden": (self.z, self.core),
                 "full": (self.h, self.z, self.core)}
        return torch.cat(parts[sees], -1)

    @property
    def remembered(self) -> Tensor:
        """What the next step goes out from, [..., latents + state of the core]."""
        return torch.cat((self.z, self.core), -1)

    def at(self, index: Tensor) -> Belief:
        """Of some of the steps of a batch, [N, …]: indices into [B · L]."""
        return Belief(*(part.flatten(0, 1)[index] for part in self))


class Layers(nn.Module):
    """Hidden layers and an output layer that all tasks share."""

    def __init__(self, size_in: int, size_out: int, hidden: Sequence[int],
                 generator: torch.Generator) -> None:
        super().__init__()
        self.trunk = Trunk(size_in, hidden, generator)
        self.out = Dense(hidden[-1], size_out, generator)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] → [..., out]."""
        return cast(Tensor, self.out(self.trunk(x, 0)[-1]))


class WorldModel(nn.Module):
    """Posterior, sequence model, prior, and what they are trained by.

    At step t, with the latents zₜ drawn from what is seen there:

        yₜ = core(z₀₋ₜ₋₁, a₀₋ₜ₋₁)   whose state goes on
        hₜ = SiLU(LN(W yₜ) ⊙ (1 + V aₜ₋₁))
        zₜ ~ q(z | oₜ)              the posterior; with ``recurrent_posterior`` q(z | oₜ, hₜ)
        ẑₜ ~ p(z | hₜ)              the prior, which imagines

    and observation, reward and whether the episode goes on are told from (hₜ, zₜ).

    Three things are not R2I's. What an action does depends on what is remembered: a factor V aₜ₋₁
    says so at once, what the core mixes of both says it after thousands of updates. Latents that
    tell nothing are noise, in which a memory does not find a clue: their entropy costs. And the
    prior, which imagines, has no nat to err by.

    Args:
        obs_size, action_size: Widths of the vectors.
        core: The sequence model.
        groups, classes: Of the latents.
        deter: Width of h.
        units: Widths of the hidden layers of everything that is a perceptron.
        heads: The number of tasks: rewards and ends are a task's own.
        recurrent_posterior: DreamerV3's, for which steps come one after another.
        latent_entropy: Price of a nat of the latents' entropy.
        free_nats: Of the posterior's KL, which have no gradient.
        generator: Source of the initial weights.

    Attributes:
        obs_size, action_size: As above.
        latents: Width of z.
        state_size: Of what is remembered: latents, and the core's state.
    """

    def __init__(self, obs_size: int, action_size: int, core: Memory, *, groups: int, classes: int,
                 deter: int, units: Sequence[int], heads: int, recurrent_posterior: bool,
                 latent_entropy: float, free_nats: float, generator: torch.Generator) -> None:
        super().__init__()
        self.obs_size, self.action_size = obs_size, action_size
        self.latents, self._classes = groups * classes, classes
        self.state_size = self.latents + core.state_size
        self.recurrent_posterior, self._latent_entropy = recurrent_posterior, latent_entropy
        self._free_nats = free_nats
        self.encoder = Trunk(obs_size, units, generator)
        self.posterior = Layers(units[-1] + (deter if recurrent_posterior else 0), self.latents,
                                units[-1:], generator)
        # A layer each, so that two numbers of an action count as much as 64 of latents.
        self.enter = nn.ModuleList(Dense(size, core.input_size, generator)
                                   for size in (self.latents, action_size))
        self.enter_norm = nn.LayerNorm(core.input_size)
        self.core = core
        self.leave = Dense(core.output_size, deter, generator)
        self.leave_norm = nn.LayerNorm(deter)
        self.acted = Dense(action_size, deter, generator)
        self.prior = Layers(deter, self.latents, units[-1:], generator)
        self.decoder = Layers(deter + self.latents, obs_size, units, generator)
        self.reward = Network(deter + self.latents, TWO_HOT.bins, units, heads, generator)
        self.goes_on = Network(deter + self.latents, 1, units, heads, generator)
        with torch.no_grad():  # a variance of 1/in: what was shown once must not fade on its way
            for dense in self.modules():
                if isinstance(dense, Dense):
                    dense.kernel.mul_(math.sqrt(3))
        self.reward.heads.begin_at_zero()

    def features_size(self, sees: Sees) -> int:
        """Width of what a policy is given."""
        deter, state = self.leave.kernel.shape[1], self.core.state_size
        return self.latents + {"output": deter, "hidden": state, "full": deter + state}[sees]

    # ---- steps ----

    def forward(self, batch: Chunks) -> Belief:
        """The likeliest beliefs at every row, [B, L, …]."""
        return self.observe(batch, None)[0]

    def observe(self, batch: Chunks, generator: torch.Generator | None
                ) -> tuple[Belief, Tensor, Tensor]:
        """Beliefs at every row, and the posterior's and prior's log-probabilities there.

        Args:
            batch: B chunks of L rows.
            generator: Source of the latents; None: the likeliest.

        Returns:
            Beliefs [B, L, …]; [B, L, groups, classes] twice.
        """
        seen = self._encode(batch.obs)
        before, core = self._split(batch.state)
        if self.recurrent_posterior:
            belief, posterior = self._one_by_one(seen, batch, before, core, generator)
        else:
            posterior = latents.log_probs(self.posterior(seen), self._classes)
            z = latents.sample(posterior, generator)
            previous = torch.cat((before.unsqueeze(1), z[:, :-1]), 1)
            previous, action = _within(batch.first, previous, batch.action)
            out, states = self.core.states(self._enter(previous, action), core, batch.first)
            belief = Belief(z, self._leave(out, action), states)
        return belief, posterior, self._prior(belief.h)

    def _one_by_one(self, seen: Tensor, batch: Chunks, z: Tensor, core: Tensor,
                    generator: torch.Generator | None) -> tuple[Belief, Tensor]:
        beliefs, posteriors = [], []
        for t in range(seen.shape[1]):
            belief, posterior = self._step(seen[:, t], batch.action[:, t], z, core,
                                           batch.first[:, t], generator)
            z, core = belief.z, belief.core
            beliefs.append(belief)
            posteriors.append(posterior)
        return Belief(*(torch.stack(parts, 1) for parts in zip(*beliefs, strict=True))), (
            torch.stack(posteriors, 1))

    def step(self, obs: Tensor, action: Tensor, state: Tensor, first: Tensor,
             generator: torch.Generator | None) -> Belief:
        """One step of acting.

        Args:
            obs: [B, obs].
            action: The one before, [B, act].
            state: What was remembered before, [B, ``state_size``].
            first: [B] bool: an episode begins; action and state are ignored there.
            generator: As in :meth:`observe`.
        """
        z, core = self._split(state)
        return self._step(self._encode(obs), action, z, core, first, generator)[0]

    def _step(self, seen: Tensor, action: Tensor, z: Tensor, core: Tensor, first: Tensor,
              generator: torch.Generator | None) -> tuple[Belief, Tensor]:
        z, action = _within(first, z, action)
        out, core = self.core.step(self._enter(z, action), core, first)
        h = self._leave(out, action)
        told = torch.cat((seen, h), -1) if self.recurrent_posterior else seen
        posterior = latents.log_probs(self.posterior(told), self._classes)
        return Belief(latents.sample(posterior, generator), h, core), posterior

    def imagine(self, belief: Belief, action: Tensor, generator: torch.Generator | None) -> Belief:
        """What follows an action [N, act] in an episode that goes on."""
        out, core = self.core.advance(self._enter(belief.z, action), belief.core)
        h = self._leave(out, action)
        return Belief(latents.sample(self._prior(h), generator), h, core)

    def _split(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """What is remembered as latents and the core's state."""
        return state[..., :self.latents], state[..., self.latents:]

    def _encode(self, obs: Tensor) -> Tensor:
        outs: list[Tensor] = self.encoder(symlog(obs), 0)
        return outs[-1]

    def _enter(self, z: Tensor, action: Tensor) -> Tensor:
        """What the core is given."""
        of_latents, of_action = self.enter
        return F.silu(self.enter_norm(of_latents(z) + of_action(action)))

    def _leave(self, out: Tensor, action: Tensor) -> Tensor:
        """h, of what the core gives."""
        return F.silu(self.leave_norm(self.leave(out)) * (1 + self.acted(action)))

    def _prior(self, h: Tensor) -> Tensor:
        return latents.log_probs(self.prior(h), self._classes)

    # ---- what is told ----

    def told(self, belief: Belief) -> Tensor:
        """(h, z), [..., deter + latents]."""
        return belief.features("output")

    def losses(self, batch: Chunks, generator: torch.Generator | None
               ) -> tuple[dict[str, Tensor], Belief]:
        """The model's losses, means over all rows, and its beliefs there.

        ``observation``: the squared error in symlog, summed over the observation; ``reward`` and
        ``end``: cross-entropies, rewards where there was a step; ``prior`` and ``posterior``: the
        two halves of the KL between them, with weights 0.5 and 0.1, the latter above the free nats;
        ``entropy``: of the latents, at its price.
        """
        belief, posterior, prior = self.observe(batch, generator)
        told, head = self.told(belief).flatten(0, 1), head_of_rows(batch)
        error = self.decoder(told) - symlog(batch.obs).flatten(0, 1)
        reward = TWO_HOT.loss(self.reward(told, head), batch.reward.flatten())
        stepped = batch.first.logical_not().flatten()
        end = F.binary_cross_entropy_with_logits(
            self.goes_on(told, head).squeeze(-1), batch.ended.logical_not().float().flatten())
        to_prior, to_posterior = latents.balanced_kl(posterior, prior, self._free_nats)
        return {
            "observation": error.square().sum(-1).mean(),
            "reward": (reward * stepped).sum() / stepped.sum().clamp(min=1),
            "end": end,
            "prior": 0.5 * to_prior.mean(), "posterior": 0.1 * to_posterior.mean(),
            "entropy": self._latent_entropy * latents.entropy(posterior).mean()}, belief


def _within(first: Tensor, *of_the_step_before: Tensor) -> list[Tensor]:
    """Each [..., n], with nothing of the step before where an episode begins, [...]."""
    return [torch.where(first.unsqueeze(-1), 0, values) for values in of_the_step_before]


def head_of_rows(batch: Chunks) -> int | Tensor:
    """The head of every row of chunks, flat."""
    rows = batch.first.shape[1]
    return batch.head.repeat_interleave(rows) if isinstance(batch.head, Tensor) else batch.head
