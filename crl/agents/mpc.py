"""Model-predictive control with a learned model of each task."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor
from torch.func import functional_call

from crl.agent import BoolArray, PolicySpec, Step
from crl.agents.acting import Acting
from crl.agents.controller import Controller, MPCPolicy, PlannedActing
from crl.agents.dynamics import (
    Angles,
    Ensemble,
    frozen,
    gaussian,
    negative_log_likelihood,
    squared_error,
)
from crl.agents.mpc_config import HyperCRLConfig, MPCConfig
from crl.agents.parts_agent import AnyNetwork, PartsAgent
from crl.agents.surprise import Surprise
from crl.checkpoint import Tree
from crl.config import require
from crl.methods.parts import Gaussian
from crl.nn.scaling import Standardizer
from crl.nn.state import to_tensor
from crl.planners import make_planner
from crl.replay import Batch, Replay, Transitions
from crl.stream import Task, TaskStream, make_env
from crl.task_spec import task_spec


class MPC(PartsAgent[Batch]):
    """Plans every action with a model of what comes next, which it trains as it goes.

    The model tells the change of the observation from observation and action, all of them scaled by
    moments of the task's own data; what the change is worth the task says itself
    (:class:`~crl.task_spec.TaskSpec`). With ``--method`` it is the baselines of HyperCRL.

    Args:
        stream: Gives the spaces, the number of heads and what each task's reward is.
        settings: The configuration; see :class:`MPCConfig`.
        seed: Seed of initial weights and of all draws.
        device: Where networks and batches live.
    """

    name = "mpc"
    Config: type[MPCConfig] = MPCConfig
    _acting: PlannedActing

    def __init__(self, stream: TaskStream, settings: MPCConfig, seed: int = 0,
                 device: str = "cpu") -> None:
        require(isinstance(stream.action_space, Box),
                f"agent {self.name!r} plans continuous actions, and stream {stream.name!r} has "
                f"{stream.action_space}; use --agent recurrent-sac")
        self._specs = {}
        for task in stream:
            env = make_env(task)
            self._specs[task.name] = task_spec(env, task.name)
            env.close()
        angles = {spec.angles for spec in self._specs.values()}
        require(len(angles) == 1, f"all tasks of a stream must have the same angles, got {angles}")
        super().__init__(stream, settings, seed, device)
        obs, act = len(self._observation_bounds[0]), self._actions.size
        self._angles = Angles(obs, angles.pop())
        is_gaussian = settings.model == "gaussian"
        size_in, size_out = self._angles.size + act, 2 * obs if is_gaussian else obs
        self._loss = negative_log_likelihood if is_gaussian else squared_error
        self._inputs = Standardizer(self._heads, size_in, self.device)
        self._changes = Standardizer(self._heads, obs, self.device)
        network = self._network(size_in, size_out)
        self._add_part("model", lambda: Ensemble(network, settings.ensemble), self._outputs,
                       is_gaussian, lambda ensemble: ensemble.members, self._seen, acts=True)
        self._ensemble = cast(Ensemble, self.parts["model"].module)
        self._planner = make_planner(settings.planner, act, **settings.planner_options)
        self._acting = PlannedActing(self._planner, self._actions, self._rng, self._generator,
                                     self.device)
        self._task: Task | None = None
        require(not settings.detect or self._multi_head,
                "detect finds tasks for heads to learn; leave agent.multi_head at true")
        self._surprise = Surprise(settings.detect) if settings.detect else None
        self._found: dict[str, int] = {}  # the head that learned last in a task, if detected
        self._due, self._over = 0, False  # trainings; whether an episode has just ended
        self.replay = Replay(settings.replay_size, obs, act, device=self.device,
                             kind=Transitions)
        self._prepare()

    def begin_task(self, task: Task) -> None:
        self._task, self._acting.controller = task, None
        self._acting.forget()
        if self._surprise:
            self._found[task.name] = self.head
        if not self._surprise or self._tasks_begun == 0:
            super().begin_task(task)

    def end_task(self, task: Task) -> None:
        if not self._surprise:
            super().end_task(task)

    def observe(self, step: Step) -> None:
        super().observe(step)
        self._over = bool(step.terminated[0] or step.truncated[0])
        if self._surprise:
            if self._acting.controller is not None:
                self._surprise.see(self._error(step))
            if self._over and self._surprise.ends() and self.head + 1 < self._heads:
                self._begin_found()
        after_start = self._task_steps - self.config.start_steps
        self._due += after_start >= 0 and after_start % self.config.train_every == 0

    def update(self) -> dict[str, float]:
        # An episode that may be another task's is not learned from before it is known.
        if not self._due or (self._surprise and not self._over):
            return {}
        due, self._due = self._due, 0
        self._fit_scaling()
        losses: list[Tensor] = []
        for _ in range(due * self.config.updates):
            batch = self.replay.sample(self.config.batch_size, self._rng)
            losses.append(self._gradient_step(batch)["model"])
        self._acting.controller = None
        found = {"head": float(self.head)} if self._surprise else {}
        return {**found, "model": float(torch.stack(losses).mean())} if losses else found

    def policy(self, task: Task) -> MPCPolicy:
        actions = self._actions
        spec = PolicySpec(task.name, *self._observation_bounds, actions.low, actions.high,
                          state_shapes=self._planner.state_shapes)
        own = replace(task, head=self._head_of(task))
        ensemble = cast(Ensemble, self._deployed("model", own))
        return MPCPolicy(spec, self._controller_of(task, ensemble), actions)

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "inputs": self._inputs.state_dict(),
                "changes": self._changes.state_dict(),
                "task": self._task.name if self._task else None,
                "found": dict(self._found), "due": self._due, "over": self._over,
                "surprise": self._surprise.state_dict() if self._surprise else None}

    def load_state_dict(self, tree: Tree) -> None:
        super().load_state_dict(tree)
        self._inputs.load_state_dict(tree["inputs"])
        self._changes.load_state_dict(tree["changes"])
        self._task = None if tree["task"] is None else self._stream[tree["task"]]
        self._acting.controller = None
        self._found, self._due, self._over = dict(tree["found"]), tree["due"], tree["over"]
        if self._surprise:
            self._surprise.load_state_dict(tree["surprise"])

    def _head_of(self, task: Task) -> int:
        return self._found.get(task.name, self.head) if self._surprise else super()._head_of(task)

    def _begin_found(self) -> None:
        """Goes on as another task, with the next head."""
        assert self._task is not None
        super().end_task(replace(self._task, head=self.head))
        self._found[self._task.name] = self.head + 1
        self._acting.controller, self._due = None, 0
        super().begin_task(replace(self._task, head=self.head + 1))

    @torch.inference_mode()
    def _error(self, step: Step) -> float:
        """Mean squared error of what was imagined of a step, in the units of the head's changes."""
        controller = self._acting.controller
        assert controller is not None
        obs, following = to_tensor(step.obs), to_tensor(step.next_obs)
        action = to_tensor(self._taken(step).action)[None, None]
        imagined = torch.stack([model.imagine(obs, action)[:, 1]
                                for model in controller.models]).mean(0)
        _, factor = self._changes.of(self.head)
        return float((self._angles.change(imagined, following) * factor).square().mean())

    def _ready_to_act(self, first: BoolArray) -> Acting:
        acting = super()._ready_to_act(first)
        if acting.acts_as is not None and self._acting.controller is None:
            assert self._task is not None
            self._acting.controller = self._controller_of(self._task, self._ensemble)
        return acting

    def _acting_head(self, first: BoolArray) -> int | None:
        return None if self._task_steps < self.config.start_steps else self.head

    def _controller_of(self, task: Task, ensemble: Ensemble) -> Controller:
        head = self._head_of(task)
        models = [frozen(member, head, self._angles, self._inputs.of(head), self._changes.of(head))
                  for member in ensemble.members]
        return Controller(self._planner, models, self._specs[task.name].reward, self._actions)

    def _store(self, step: Step) -> None:
        self.replay.add(
            step.obs[0], self._taken(step).action, step.reward[0], step.next_obs[0],
            terminated=bool(step.terminated[0]), truncated=bool(step.truncated[0]), head=self.head,
        )

    def _fit_scaling(self) -> None:
        """To all that the replay holds of the current task; what was learned is of a scaling."""
        everything = self.replay.take(np.arange(len(self.replay)))
        batch = everything.rows(everything.heads == self.head)
        self._inputs.fit(self._unscaled(batch), self.head)
        self._changes.fit(self._angles.change(batch.obs, batch.next_obs), self.head)

    def _unscaled(self, batch: Batch) -> Tensor:
        return torch.cat((self._angles(batch.obs), batch.action), -1)

    def _seen(self, batch: Batch) -> tuple[Tensor, int | Tensor]:
        return self._inputs(self._unscaled(batch), batch.head), batch.head

    @torch.no_grad()
    def _add_gradients(self, batch: Batch) -> dict[str, Tensor]:
        x, head = self._seen(batch)
        target = self._changes(self._angles.change(batch.obs, batch.next_obs), head)
        losses = []
        for member in self._ensemble.members:
            run = cast(AnyNetwork, member).run(x, head)
            with torch.enable_grad():
                out = run.out.requires_grad_()
                loss = self._loss(out, target)
                (gradient,) = torch.autograd.grad(loss, out)
            run.to_weights(gradient)
            losses.append(loss.detach())
        return {"model": torch.stack(losses).sum()}

    def _outputs(self, batch: Batch, parameters: dict[str, Tensor] | None = None
                 ) -> Gaussian | Tensor:
        out = functional_call(self._ensemble, parameters or {}, self._seen(batch))
        if self.config.model == "deterministic":
            return cast(Tensor, out)
        members = [gaussian(part) for part in out.chunk(self.config.ensemble, -1)]
        return Gaussian(*(torch.cat(column, -1) for column in zip(*members, strict=True)))


class HyperCRL(MPC):
    """Plans with a model whose weights a hypernetwork gives, task by task; else as :class:`MPC`.

    Huang et al. 2021, "Continual Model-Based Reinforcement Learning with Hypernetworks".
    """

    name = "hypercrl"
    Config = HyperCRLConfig
