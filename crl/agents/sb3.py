"""The algorithms of Stable-Baselines3 and of sb3-contrib as agents: ``--agent sb3:SAC``.

Networks, buffers, losses and updates are theirs; the loop is ours: it asks for an action, says what
came of it, and lets the algorithm train when its own ``learn`` would. A task is one ``learn`` of
its steps. Draws, which they take from global generators, are kept apart (see
:class:`~crl.agents.global_draws.GlobalDraws`), and all state is saved without pickle, so that runs
resume to the bit.
"""

from __future__ import annotations

import copy
import functools
import importlib
from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.save_util import recursive_getattr

from crl import config, seeding
from crl.agent import BoolArray, FloatArray, Step
from crl.agents.global_draws import GlobalDraws
from crl.agents.sb3_loops import loop_of
from crl.agents.sb3_policy import SB3Policy, align, cpu_copy, one_hot, spec_of
from crl.agents.sb3_settings import settings_of
from crl.checkpoint import Tree
from crl.errors import UserError
from crl.methods.base import Method
from crl.methods.composition import Methods
from crl.methods.parts import Parts
from crl.nn import state as trees
from crl.nn.device import check_device
from crl.stream import Task, TaskStream, space_bounds

_SCALARS_EVERY = 500  # gradient steps


class SB3Agent:
    """An algorithm of Stable-Baselines3 on a stream of tasks.

    It has no parts, so that no method can be attached, and knows no tasks: one network for all.

    Args:
        stream: Gives the spaces.
        settings: Those of the algorithm's constructor that are plain values, with its defaults;
            ``policy_kwargs``; ``action_noise``, the standard deviation of Gaussian noise on
            actions; and ``reset``: the replay begins anew at each task, or does not (``[]``).
        seed: Seed of initial weights and of all draws.
        device: Where networks and batches live.
    """

    name: ClassVar[str]
    algorithm: ClassVar[type]
    Config: ClassVar[type]

    def __init__(self, stream: TaskStream, settings: Any, seed: int = 0,
                 device: str = "cpu") -> None:
        self.config, self.device = settings, check_device(device)
        self.parts: Parts = {}
        self.methods = Methods()
        self.replay: Any = ()  # nothing that a method or a diagnosis could look at
        self._stream = stream
        own = seeding.integer(seed, "agent", "sb3")
        self._draws = GlobalDraws(own, self.device)
        with self._draws:
            self._model = self._make(own)
        self._loop = loop_of(self._model)
        # Once it has learned, its policy holds on to graphs, and cannot be copied.
        self._unlearned = cpu_copy(self._model.policy)
        self._tasks_begun = 0

    def _make(self, seed: int) -> Any:
        settings = config.to_dict(self.config)
        del settings["reset"]
        noise = settings.pop("action_noise", None)
        space = _float_space(self._stream.action_space)
        if noise is not None:
            size = space.shape[0]
            settings["action_noise"] = NormalActionNoise(np.zeros(size), np.full(size, noise))
        env = _Spaces(_float_space(self._stream.observation_space), space)
        kind: Any = self.algorithm
        try:
            model = kind(next(iter(kind.policy_aliases)), env, device=self.device, **settings)
        except (AssertionError, TypeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(f"agent {self.name!r} cannot be made with these settings for stream "
                            f"{self._stream.name!r}: {reason}") from error
        model.action_space.seed(seed)
        model.set_logger(Logger(None, []))
        model.policy.set_training_mode(False)
        align(model.policy)
        return model

    # ---- the Agent contract ----

    def attach(self, methods: Sequence[Method]) -> None:
        if methods:
            raise UserError(f"agent {self.name!r} has no parts that method {methods[0].name!r} "
                            "could reach; leave --method out, or take --agent sac")

    def begin_task(self, task: Task) -> None:
        known = self._stream.boundaries == "known"
        keep = self._tasks_begun > 0 and "replay" not in self.config.reset
        self._loop.begin(task.steps if known else self._stream.steps, keep)
        self._tasks_begun += 1

    def act(self, obs: FloatArray, first: BoolArray) -> FloatArray:
        with self._draws:
            action = self._loop.act(obs, first)
        space = self._stream.action_space
        return (one_hot(action, int(space.n)) if isinstance(space, Discrete)
                else action.astype(np.float32))

    def observe(self, step: Step) -> None:
        if len(step.reward) != 1:
            raise NotImplementedError(f"{self.name} learns from one environment at a time")
        self._loop.observe(step)

    def update(self) -> dict[str, float]:
        before = self.gradient_steps
        with self._draws:
            trained = self._loop.update()
        if not trained:
            return {}
        model = self._model
        model.policy.set_training_mode(False)
        scalars: dict[str, float] = {}
        rarely = isinstance(model, OnPolicyAlgorithm)
        if rarely or self.gradient_steps // _SCALARS_EVERY > before // _SCALARS_EVERY:
            scalars = {name.rpartition("/")[2]: float(value)
                       for name, value in model.logger.name_to_value.items()}
        model.logger.dump()  # empties it
        return scalars

    def learn(self, steps: int) -> None:
        raise NotImplementedError(f"{self.name} has no methods, which alone ask for this")

    def end_task(self, task: Task) -> None: ...

    def policy(self, task: Task) -> SB3Policy:
        policy = cpu_copy(self._unlearned)
        policy.load_state_dict(self._model.policy.state_dict())
        return SB3Policy(spec_of(task.name, self._stream, policy), policy)

    @property
    def gradient_steps(self) -> int:
        """As the algorithm counts them: PPO counts passes over a rollout."""
        return int(self._model._n_updates)

    def state_dict(self) -> Tree:
        modules, optimizers, variables = self._learned()
        weights = {f"{name}.{key}": value for name, module in modules.items()
                   for key, value in module.state_dict().items()}
        return {
            "parts": trees.tensors_to_tree({k: v for k, v in weights.items() if "target" not in k}),
            "targets": trees.tensors_to_tree({k: v for k, v in weights.items() if "target" in k}),
            "methods": {},
            "optimizers": {name: trees.optimizer_to_tree(o) for name, o in optimizers.items()},
            "variables": trees.tensors_to_tree(variables),
            "loop": self._loop.state_dict(),
            "draws": self._draws.state_dict(),
            "actions": seeding.generator_state(self._model.action_space.np_random),
            "tasks_begun": self._tasks_begun,
        }

    def load_state_dict(self, tree: Tree) -> None:
        modules, optimizers, variables = self._learned()
        weights = trees.tree_to_tensors({**tree["parts"], **tree["targets"]}, self.device)
        for name, module in modules.items():
            module.load_state_dict({key: weights[f"{name}.{key}"] for key in module.state_dict()})
        for name, optimizer in optimizers.items():
            trees.load_optimizer(optimizer, tree["optimizers"][name])
        for name, value in trees.tree_to_tensors(tree["variables"], self.device).items():
            variables[name].data.copy_(value)
        self._loop.load_state_dict(tree["loop"])
        self._draws.load_state_dict(tree["draws"])
        seeding.restore_generator(self._model.action_space.np_random, tree["actions"])
        self._tasks_begun = tree["tasks_begun"]

    def _learned(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """What its own ``save`` would write, by name: modules, optimisers and lone tensors."""
        names, alone = self._model._get_torch_save_params()
        found = {name: recursive_getattr(self._model, name) for name in names}
        modules = {k: v for k, v in found.items() if isinstance(v, torch.nn.Module)}
        optimizers = {k: v for k, v in found.items() if k not in modules}
        return modules, optimizers, {name: recursive_getattr(self._model, name) for name in alone}


@functools.cache
def adapt(algorithm: type) -> type[SB3Agent]:
    """The agent class of an algorithm: a subclass of Stable-Baselines3's off- or on-policy one.

    Of one's own: ``registry.agents.add("sb3:Mine", "my_module:Agent")``, where ``Agent`` is
    ``adapt(Mine)``.
    """
    return type(algorithm.__name__, (SB3Agent,), {
        "__doc__": f"Stable-Baselines3's {algorithm.__name__} ({algorithm.__module__}).",
        "__module__": __name__, "name": f"sb3:{algorithm.__name__}", "algorithm": algorithm,
        "Config": settings_of(algorithm)})


def __getattr__(name: str) -> type[SB3Agent]:
    """``SAC``, ``PPO`` …: the agent class of the algorithm of that name."""
    for package in ("stable_baselines3", "sb3_contrib"):
        found = None if name.startswith("_") else getattr(importlib.import_module(package), name,
                                                          None)
        if isinstance(found, type) and issubclass(found, (OffPolicyAlgorithm, OnPolicyAlgorithm)):
            return adapt(found)
    raise AttributeError(f"no algorithm {name!r} in stable_baselines3 or sb3_contrib")


def _float_space(space: Any) -> Any:
    """A space of its own, a Box with float32 bounds."""
    return (Box(*space_bounds(space), dtype=np.float32) if isinstance(space, Box)
            else copy.deepcopy(space))


class _Spaces(gymnasium.Env[Any, Any]):
    """The spaces of a stream, which is all that an algorithm needs of an environment here."""

    def __init__(self, observation_space: Any, action_space: Any) -> None:
        self.observation_space, self.action_space = observation_space, action_space
