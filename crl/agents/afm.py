"""Action Flow Matching: plans with a model that goes on learning, and sends what is meant."""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from crl import seeding
from crl.agent import BoolArray, FloatArray, Policy, Step
from crl.agents.action_flow import REGRESSOR, ActionFlow, FlowConfig
from crl.agents.action_maps import least_squares
from crl.agents.afm_config import AFMConfig
from crl.agents.controller import Controller
from crl.agents.correction import Calibration, Correction, Predict, calibrate, prediction
from crl.agents.dynamics import Ensemble
from crl.agents.mpc import MPC
from crl.agents.refined import RefinedPolicy
from crl.agents.vehicle_model import Seen, angles_of
from crl.checkpoint import Tree
from crl.config import require
from crl.envs.outlook import outlook_of
from crl.errors import UserError
from crl.nn import state as trees
from crl.nn.state import to_tensor
from crl.replay import Batch, Transitions
from crl.stream import Task, TaskStream, make_env


class AFM(MPC):
    """Action Flow Matching (Murillo-González and Liu 2025): corrects the actions it plans.

    From "Action Flow Matching for Continual Robot Learning". A robot as it should be is learned
    first, as by :class:`~crl.agents.mpc.MPC`; then the model is deployed. From there on the robot
    may change at any time, and nobody tells. A frozen copy of the model says what acts when an
    action is sent, and the correction sends what acts as wanted. What the corrected robot does,
    from wanted action to outcome, the model that plans goes on learning: as long as the correction
    is right there is nothing to learn, and what it cannot do is planned with. (The release has one
    model learn from what is sent. While that is half-way to a robot that has turned round, no
    action has an effect in it, and nothing can be planned or corrected.)

    Args:
        stream: Gives the spaces and what each task's reward is.
        settings: The configuration; see :class:`AFMConfig`.
        seed: Seed of initial weights and of all draws.
        device: Where networks and batches live.
    """

    name = "afm"
    Config = AFMConfig

    def __init__(self, stream: TaskStream, settings: AFMConfig, seed: int = 0,
                 device: str = "cpu") -> None:
        super().__init__(stream, settings, seed, device)
        env = make_env(stream[0])
        self._outlook, self._angles = outlook_of(env), angles_of(env)
        env.close()
        self._flow_seed = seeding.integer(seed, "agent", "flow")
        self._steps = 0
        self._nominal: Ensemble | None = None
        self._calibration: Calibration | None = None
        self._flow: ActionFlow | None = None
        self._correction: Correction | None = None
        self._past: tuple[Tensor, ...] = ()
        self._recent: deque[Batch] = deque(maxlen=settings.window)
        self._gains = np.ones(self._actions.size, np.float32)

    def act(self, obs: FloatArray, first: BoolArray) -> FloatArray:
        wanted = self._ready_to_act(first).choose(obs, first)
        # What the model that plans learns from is wanted, whatever is sent.
        return self._actions.to_env(self._sent(obs, wanted, first))

    def check_explorers(self) -> None:
        raise UserError("agent 'afm' corrects actions by what came of the last ones, and its model "
                        "learns with every step; leave train.round_episodes at 0")

    def observe(self, step: Step) -> None:
        super().observe(step)
        self._steps += 1
        if step.first[0]:
            self._recent.clear()
        obs, action, next_obs = (to_tensor(x).to(self.device) for x in
                                 (step.obs, self._taken(step).action[None], step.next_obs))
        nothing = obs.new_zeros(1)
        self._recent.append(Transitions(obs, action, nothing, next_obs, nothing, self.head))
        if self.config.correct == "oracle":
            self._gains = _true_gains(step, self._actions.size)

    def update(self) -> dict[str, float]:
        if self._nominal is not None:
            return {} if self.config.adapt == "frozen" else self._adapt()
        if self._steps >= self.config.learn_steps:
            self._deploy()
        elif self._steps <= self.config.learn_steps - self.config.train_every:
            return super().update()
        return {}

    def policy(self, task: Task) -> Policy:  # type: ignore[override]
        """Plans with the model as it is, corrected once it is deployed; an oracle's are not."""
        policy = super().policy(task)
        return RefinedPolicy(policy, self._correction) if self._correction else policy

    def expected(self, obs: FloatArray) -> FloatArray:
        """Where the action that was last wanted leads, by the model that planned it.

        Args:
            obs: [1, obs], where it was planned.

        Returns:
            [1, obs].
        """
        controller = self._acting.controller
        assert controller is not None
        with torch.inference_mode():
            wanted = to_tensor(self._acting.taken.action[None])
            led: FloatArray = prediction(controller.models)(to_tensor(obs), wanted).numpy()
        return led

    def state_dict(self) -> Tree:
        deployed = self._nominal and {
            "model": trees.tensors_to_tree(dict(self._nominal.named_parameters())),
            "calibration": self._calibration and self._calibration.state_dict(),
            "flow": self._flow and self._flow.state_dict()}
        return {**super().state_dict(), "steps": self._steps, "deployed": deployed,
                "gains": self._gains.copy(), "flow_seed": self._flow_seed}

    def load_state_dict(self, tree: Tree) -> None:
        super().load_state_dict(tree)
        self._steps, self._flow_seed = tree["steps"], tree["flow_seed"]
        self._gains = np.array(tree["gains"])
        self._nominal = self._calibration = self._flow = self._correction = None
        deployed = tree["deployed"]
        if deployed is not None:
            self._nominal = copy.deepcopy(self._ensemble)
            trees.load_parameters(self._nominal, deployed["model"])
            self._calibration = Calibration.from_tree(deployed["calibration"])
            self._flow = self._new_flow(0)
            if self._flow is not None:
                self._flow.load_state_dict(deployed["flow"])
            self._correction = self._new_correction()

    # ---- acting ----

    def _acting_head(self, first: BoolArray) -> int | None:
        return self.head if self._nominal else super()._acting_head(first)

    def _sent(self, obs: FloatArray, wanted: FloatArray, first: BoolArray) -> FloatArray:
        """What to send instead of a wanted action: [1, act] each, in [-1, 1]."""
        if self._nominal is not None and self.config.correct == "oracle":
            inverse: FloatArray = np.clip(wanted / self._gains, -1, 1)
            return inverse
        if self._correction is None:
            return wanted
        action, self._past = self._correction(to_tensor(obs), to_tensor(wanted), self._past,
                                              torch.from_numpy(first))
        sent: FloatArray = action.numpy()
        return sent

    def _controller_of(self, task: Task, ensemble: Ensemble) -> Controller:
        controller = super()._controller_of(task, ensemble)
        if self._outlook is not None:
            controller.models = [Seen(model, self._outlook) for model in controller.models]
        return controller

    # ---- once the model is deployed ----

    def _deploy(self) -> None:
        """Takes the robot as it has been for one as it should be.

        The model has not learned from the last steps: errors on these are its usual ones.
        """
        self._nominal = copy.deepcopy(self._ensemble)
        count = len(self.replay)
        unseen = self.replay.take(np.arange(max(0, count - self.config.train_every), count))
        self._calibration = calibrate(self._reference(), self._angles, unseen.obs, unseen.action,
                                      unseen.next_obs)
        self._flow = self._new_flow(self.config.flow_updates)
        self._correction = self._new_correction()

    def _reference(self) -> Predict:
        assert self._task is not None
        assert self._nominal is not None
        # Without what will be seen of a course, which says nothing of the robot and takes as long.
        return prediction(super()._controller_of(self._task, self._nominal).models)

    def _new_flow(self, updates: int) -> ActionFlow | None:
        if self.config.correct not in ("flow", "regressor"):
            return None
        form = REGRESSOR if self.config.correct == "regressor" else FlowConfig()
        settings = replace(form, window=self.config.window, updates=updates)
        return ActionFlow(self._actions.size, settings, self._flow_seed)

    def _new_correction(self) -> Correction | None:
        settings = self.config
        if settings.correct in ("none", "oracle"):
            return None
        assert self._calibration is not None
        correction = Correction(self._flow or least_squares, self._reference(), self._angles,
                                self._calibration, settings.window, settings.limit)
        self._past = correction.initial_past(1, len(self._observation_bounds[0]),
                                             self._actions.size)
        return correction

    def _adapt(self) -> dict[str, float]:
        """A gradient step on what the newest wanted action led to."""
        batch = self._recent[-1]
        if self.config.adapt == "replay":
            batch = Batch.join([batch, self.replay.sample(self.config.batch_size - 1, self._rng)])
        loss = float(self._gradient_step(batch)["model"])
        if self.config.adapt == "snapshot":
            assert self._nominal is not None
            recent = Batch.join(list(self._recent))
            if self._loss_of(self._nominal, recent) < self._loss_of(self._ensemble, recent):
                trees.copy_parameters(self._nominal, self._ensemble)
        self._acting.controller = None
        return {"model": loss}

    @torch.no_grad()
    def _loss_of(self, ensemble: Ensemble, batch: Batch) -> float:
        x, head = self._seen(batch)
        target = self._changes(self._angles.change(batch.obs, batch.next_obs), head)
        return sum(float(self._loss(member(x, head), target)) for member in ensemble.members)


def _true_gains(step: Step, size: int) -> FloatArray:
    """Of the entries of the action, [act], in a step of a robot with no other change."""
    gains = np.ones(size, np.float32)
    for key, value in step.info[0].get("dynamics", {}).items():
        what, _, entry = key.partition(":")
        require(what == "gain", f"an oracle inverts gains, and {what} of this task's robot changes;"
                " set agent.correct to flow")
        gains[int(entry) if entry else slice(None)] *= value
    return gains
