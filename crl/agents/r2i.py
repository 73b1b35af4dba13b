"""R2I: actor and critic learn in what a world model with a memory imagines."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from crl.agent import BoolArray, FloatArray, PolicySpec, State, Step
from crl.agents.actions import Actions
from crl.agents.frozen_policy import FrozenPolicy
from crl.agents.parts_agent import AnyNetwork, PartsAgent
from crl.agents.r2i_behaviour import (
    R2IActing,
    ReturnScale,
    bounded,
    imagine,
    lambda_returns,
)
from crl.agents.r2i_config import SIZES, R2IConfig
from crl.agents.r2i_dreams import dream_chunks
from crl.agents.r2i_model import TWO_HOT, Belief, Sees, WorldModel, head_of_rows
from crl.checkpoint import Tree
from crl.chunks import ChunkReplay, Chunks
from crl.memory import make_memory
from crl.methods.parts import Gaussian, Parameters
from crl.nn import state as trees
from crl.nn.layers import rows_by_head
from crl.nn.network import Network
from crl.stream import Task, TaskStream

_SLOW = 0.02  # share of the critic that its slow copy takes over in a step


class R2I(PartsAgent[Chunks]):
    """Recall to Imagine (Samsami et al. 2024): DreamerV3 with a state-space memory.

    The world model learns from chunks of what was seen; actor and critic learn from futures that it
    imagines from there. Unlike the release, episodes begin where they begin, chunks go on with the
    state that acting left, and actions of any kind are learned by REINFORCE, as DreamerV3 does now.

    Its parts: ``model``, and ``actor`` and ``critic`` on its beliefs; the policy is made of the
    first two.

    Args:
        stream: Gives the spaces and the number of heads.
        settings: The configuration; see :class:`R2IConfig`.
        seed: Seed of initial weights and of all draws.
        device: Where networks and batches live.

    Attributes:
        model: The world model.
    """

    name = "r2i"
    Config = R2IConfig
    _beta2 = 0.99  # gradients become small and rare: with 0.999, the next one throws all over

    def __init__(self, stream: TaskStream, settings: R2IConfig, seed: int = 0,
                 device: str = "cpu") -> None:
        super().__init__(stream, settings, seed, device)
        behaviour = settings.behaviour_rate / settings.learning_rate
        self._add_part("model", self._new_model, partial(self._policy_outputs, "model"),
                       not self._actions.discrete, acts=True, loss=self._model_loss)
        self.model = cast(WorldModel, self.parts["model"].module)
        features = self.model.features_size(settings.sees)
        self._add_part("actor", self._network(features, self._actions.policy_size),
                       partial(self._policy_outputs, "actor"), not self._actions.discrete,
                       lambda actor: (actor,), self._features_of_rows, acts=True, pace=behaviour)
        self._add_part("critic", partial(_beginning_at_zero, self._network(
            features, TWO_HOT.bins)), self._value_outputs, False,
            lambda critic: (critic,), self._features_of_rows, pace=behaviour)
        self._scale_of_returns = ReturnScale(self._heads)
        self.replay = ChunkReplay(
            settings.replay_size, len(self._observation_bounds[0]), self._actions.size,
            self.model.state_size, length=settings.sequence_length, keep=settings.keep,
            seed=self._method_seed, device=self.device)
        self._acting = R2IActing(self.model, self.parts["actor"].module, settings.sees,
                                 self._actions, self._rng, self._generator, self.device)
        self._updates_due = 0.0
        self._prepare()

    def _new_model(self) -> WorldModel:
        settings, size, generator = self.config, SIZES[self.config.size], self._weights_generator
        core = make_memory(settings.memory, size.width, size.width, generator,
                           **settings.memory_options)
        return WorldModel(
            len(self._observation_bounds[0]), self._actions.size, core, groups=size.groups,
            classes=size.classes, deter=size.deter, units=settings.hidden, heads=self._heads,
            recurrent_posterior=settings.posterior == "recurrent",
            latent_entropy=settings.latent_entropy, free_nats=settings.free_nats,
            generator=generator)

    def _prepare(self) -> None:
        super()._prepare()
        self._slow_critic = copy.deepcopy(self.parts["critic"].module).requires_grad_(False)

    # ---- the Agent contract ----

    def begin_task(self, task: Task) -> None:
        super().begin_task(task)
        self._updates_due = 0.0

    def observe(self, step: Step) -> None:
        super().observe(step)
        if self._task_steps >= self.config.start_steps and len(self.replay):
            self._updates_due += self.config.train_ratio / (
                self.config.batch_size * self.config.sequence_length)

    def update(self) -> dict[str, float]:
        scalars: dict[str, float] = {}
        while self._updates_due >= 1:
            self._updates_due -= 1
            losses = self._gradient_step(self.replay.sample(self.config.batch_size, self._rng))
            if self.gradient_steps % 50 == 0:
                scalars = {name: float(value.detach()) for name, value in losses.items()}
        return scalars

    def policy(self, task: Task) -> R2IPolicy:
        model, actor = (self._deployed(name, task) for name in ("model", "actor"))
        actions = self._actions
        spec = PolicySpec(task.name, *self._observation_bounds, actions.low, actions.high,
                          actions.discrete, ((self.model.state_size,), (actions.size,)))
        return R2IPolicy(spec, cast(WorldModel, model), actor, self._head_of(task), actions,
                         self.config.sees)

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "updates_due": self._updates_due,
                "scale_of_returns": self._scale_of_returns.state_dict(),
                "slow_critic": trees.tensors_to_tree(dict(self._slow_critic.named_parameters()))}

    def load_state_dict(self, tree: Tree) -> None:
        super().load_state_dict(tree)
        self._updates_due = tree["updates_due"]
        self._scale_of_returns.load_state_dict(tree["scale_of_returns"])
        trees.load_parameters(self._slow_critic, tree["slow_critic"])

    def dream(self, starts: Tensor, count: int, head: int) -> Chunks:
        """Chunks that the agent makes up of a task.

        Args:
            starts: Observations [N, obs] that episodes begin with.
            count: How many chunks.
            head: Of the task.
        """
        def act(belief: Belief) -> Tensor:
            return self._imagined_action(belief.features(self.config.sees), head)

        return dream_chunks(self.model, starts, count, self.config.sequence_length, act, head,
                            self._generator)

    # ---- acting ----

    def _acting_head(self, first: BoolArray) -> int | None:
        return None if self._task_steps < self.config.start_steps else self.head

    def _store(self, step: Step) -> None:
        action, memory = self._taken(step)
        if step.first[0]:  # what was remembered before an episode does not matter
            self.replay.add(step.obs[0], action, 0.0, ended=False, first=True,
                            head=self.head, state=memory)
        reward = self.config.reward_scale * float(step.reward[0])
        self.replay.add(step.next_obs[0], action, reward, ended=bool(step.terminated[0]),
                        first=False, head=self.head, state=memory)

    # ---- learning ----

    def _add_gradients(self, batch: Chunks) -> dict[str, Tensor]:
        with torch.enable_grad():  # methods ask for gradients from within no_grad
            losses = self.losses(batch)
            torch.autograd.backward(list(losses.values()))
        for part in self.parts.values():
            nn.utils.clip_grad_norm_(part.module.parameters(), self.config.max_gradient_norm)
        return losses

    def losses(self, batch: Chunks) -> dict[str, Tensor]:
        """Those of :meth:`WorldModel.losses`, and of actor and critic in what is imagined.

        ``actor``: −log π(a) (R − v) / scale − η H(π), ``critic``: cross-entropies of the values
        with the λ-returns R and with what the slow critic says; means over imagined steps, each
        counting by the chance that it comes to it.
        """
        config, actor, critic = self.config, self.parts["actor"].module, self.parts["critic"].module
        model_losses, belief = self.model.losses(batch, self._generator)
        start, head = self._starts(batch, belief)
        dream = imagine(self.model, start, head, self._imagined_action, sees=config.sees,
                        horizon=config.horizon, generator=self._generator)
        features = dream.features[:-1].flatten(0, 1)
        heads = head.repeat(config.horizon) if isinstance(head, Tensor) else head

        logits = critic(features, heads)
        with torch.no_grad():
            value = torch.cat((TWO_HOT.mean(logits).view(dream.reward.shape),
                               TWO_HOT.mean(critic(dream.features[-1], head)).unsqueeze(0)))
            discount = config.gamma * dream.goes_on
            returns = lambda_returns(dream.reward, discount, value, config.gae_lambda)
            for h, rows in rows_by_head(head):
                self._scale_of_returns.see(returns[:, rows], h)
            advantage = ((returns - value[:-1]) / self._scale_of_returns.of(head)).flatten()
            counts = torch.cat((torch.ones_like(discount[:1]), discount[:-1])).cumprod(0).flatten()
            slow = TWO_HOT.mean(self._slow_critic(features, heads))
        out = bounded(self._actions, actor(features, heads))
        log_prob = self._actions.log_prob(out, dream.action.flatten(0, 1))
        entropy = self._actions.entropy(out, self._generator)
        gain = log_prob * advantage + config.entropy_weight * entropy
        surprise = TWO_HOT.loss(logits, returns.flatten()) + TWO_HOT.loss(logits, slow)
        return {**model_losses, "actor": -(counts * gain).mean(),
                "critic": (counts * surprise).mean()}

    def _starts(self, batch: Chunks, belief: Belief) -> tuple[Belief, int | Tensor]:
        """Beliefs to imagine from, without their past, and their heads."""
        going = batch.ended.logical_not().flatten().nonzero().squeeze(1)
        count = self.config.imagined
        if 0 < count < len(going):
            drawn = torch.randperm(len(going), generator=self._generator)[:count].sort().values
            going = going[drawn.to(going.device)]
        head = head_of_rows(batch)
        return Belief(*(part.detach() for part in belief)).at(going), (
            head[going] if isinstance(head, Tensor) else head)

    def _imagined_action(self, features: Tensor, head: int | Tensor) -> Tensor:
        return self._actions.sample(self._policy_out(features, head), self._generator)

    def _policy_out(self, features: Tensor, head: int | Tensor) -> Tensor:
        return bounded(self._actions, self.parts["actor"].module(features, head))

    def _after_step(self) -> None:
        torch._foreach_lerp_([p.detach() for p in self._slow_critic.parameters()],
                             [p.detach() for p in self.parts["critic"].module.parameters()], _SLOW)

    def _redraw(self, name: str, module: nn.Module) -> None:
        super()._redraw(name, module)
        if name == "critic":
            trees.copy_parameters(self.parts[name].module, self._slow_critic)

    # ---- what methods look at ----

    def _model_loss(self, batch: Chunks) -> Tensor:
        """The sum of the model's losses, at the likeliest latents."""
        return torch.stack(list(self.model.losses(batch, None)[0].values())).sum()

    def _features(self, batch: Chunks, parameters: Parameters | None = None) -> Tensor:
        """Of the likeliest beliefs at every row, [B, L, features]."""
        belief: Belief = functional_call(self.model, parameters or {}, (batch,))
        return belief.features(self.config.sees)

    @torch.no_grad()
    def _features_of_rows(self, batch: Chunks) -> tuple[Tensor, int | Tensor]:
        return self._features(batch).flatten(0, 1), head_of_rows(batch)

    def _policy_outputs(self, part: str, batch: Chunks, parameters: Parameters | None = None
                        ) -> Gaussian | Tensor:
        """The policy at every row, [B, L, …], with other parameters of a part."""
        features = self._features(batch, parameters if part == "model" else None)
        out = functional_call(self.parts["actor"].module,
                              (parameters or {}) if part == "actor" else {},
                              (features.flatten(0, 1), head_of_rows(batch)))
        shaped = bounded(self._actions, out).view(*features.shape[:2], -1)
        return self._actions.outputs(shaped, torch.ones_like(batch.first))

    def _value_outputs(self, batch: Chunks, parameters: Parameters | None = None) -> Tensor:
        """The values' logits at every row, [B, L, bins]."""
        features = self._features(batch)
        logits: Tensor = functional_call(self.parts["critic"].module, parameters or {},
                                         (features.flatten(0, 1), head_of_rows(batch)))
        return logits.view(*features.shape[:2], -1)


class R2IPolicy(FrozenPolicy):
    """A frozen world model and actor. Its state: what is remembered, and the previous action."""

    def __init__(self, spec: PolicySpec, model: WorldModel, actor: nn.Module, head: int,
                 actions: Actions, sees: Sees) -> None:
        super().__init__(spec, actions)
        self.model, self.actor = model.requires_grad_(False), actor.requires_grad_(False)
        self.head, self._sees = head, sees

    def step(self, obs: FloatArray, state: State, first: BoolArray,
             deterministic: bool = True) -> tuple[FloatArray, State]:
        remembered, previous = (trees.to_tensor(array) for array in state)
        generator = None if deterministic else self._generator
        with torch.inference_mode():
            belief = self.model.step(trees.to_tensor(obs), previous, remembered,
                                     torch.tensor(first), generator)
            out = bounded(self._actions, self.actor(belief.features(self._sees), self.head))
            action = self._chosen(out, deterministic)
        return self._actions.to_env(action), (belief.remembered.numpy(), action)


def _beginning_at_zero(draw: Callable[[], AnyNetwork]) -> AnyNetwork:
    """A network whose values are 0 at first, unless a hypernetwork gives its weights."""
    network = draw()
    if isinstance(network, Network):
        network.heads.begin_at_zero()
    return network
