"""L2M: a pre-trained sequence policy, and a modulator for each task that it learns after."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn
from torch.func import functional_call

from crl.agent import FloatArray, PolicySpec, Step
from crl.agents.l2m_config import SIZES, L2MConfig
from crl.agents.l2m_model import DecisionTransformer
from crl.agents.l2m_policy import L2MPolicy, View
from crl.agents.parts_agent import PartsAgent
from crl.checkpoint import Tree
from crl.config import require
from crl.data.episodes import Episodes
from crl.data.minari_store import read_data
from crl.memory.modulation import ModulationPool
from crl.memory.modulators import IA3, LoRA, Modulator, Prefix
from crl.memory.selectors import Cosine, make_selector
from crl.methods.parts import Parameters
from crl.nn import state as trees
from crl.stream import Task, TaskStream
from crl.windows import WindowReplay, Windows

_PRETRAINED = ("returns", "size", "window", "bins")  # settings that a pre-trained policy settles
_LEAST_STD = 1e-2   # of an observed number that hardly moves
_LEAST_RATE = 0.1   # of the learning rate, at the end
_BEST = 0.9         # quantile of returns that is asked for
_EXAMPLES = 512     # observations of each task that a selector is told


class L2M(PartsAgent[Windows]):
    """Learning to Modulate (Schmied et al. 2023), from recorded episodes alone.

    Without ``pretrained``, a decision transformer imitates the episodes of all tasks of the stream
    at once. With it, that one is frozen and every task of the stream has a slot of a pool of
    modulators, which learns in its task only. At test nobody need say which task it is.

    Its part: ``model``. With ``tune="full"``, alone or with a method, it is the baselines.

    Args:
        stream: Gives the spaces and the tasks. Steps of a task are gradient steps.
        settings: The configuration; see :class:`L2MConfig`.
        seed: Seed of initial weights and of all draws.
        device: Where networks and batches live.
    """

    name = "l2m"
    Config = L2MConfig

    def __init__(self, stream: TaskStream, settings: L2MConfig, seed: int = 0,
                 device: str = "cpu") -> None:
        require(isinstance(stream.action_space, Box),
                f"agent 'l2m' imitates continuous actions, and stream {stream.name!r} has "
                f"{stream.action_space}; use --agent recurrent-sac")
        require(stream.boundaries == "known",
                f"agent 'l2m' must be told which task it learns; stream {stream.name!r} does not")
        shown = stream.options is None or stream.options["observe_reward"]  # in code: trusted
        require(not settings.returns or shown,
                "returns are told by rewards that are seen; add --set stream.observe_reward=true")
        super().__init__(stream, settings, seed, device)
        size, slots = len(self._observation_bounds[0]), 1 + stream.heads
        self._view = View(torch.zeros(size), torch.ones(size), settings.returns, 1.0,
                          np.zeros(slots, np.float32))
        self._selector = make_selector(settings.select, size, self._generator,
                                       **_selector_options(settings, stream.heads))
        self._slot_of: dict[str, int] = {}         # tasks that were learned → their slots
        self._examples: dict[str, Examples] = {}   # of the tasks of pre-training
        self._prints: dict[str, str] = {}          # task → fingerprint of its records
        self._learning: Sequence[Task] = ()        # at once
        self._unread = False                       # whether their records are not in RAM yet
        self.replay = WindowReplay(settings.window, self.device)
        self._add_part("model", self._new_model, self._outputs, False, acts=True, loss=self._loss)
        self._pool = cast(ModulationPool, self.parts["model"].module)
        self._model = cast(DecisionTransformer, self._pool.backbone)
        if settings.pretrained:
            self._take_over(Path(settings.pretrained))
        self._prepare()

    def _new_model(self) -> ModulationPool:
        settings, size = self.config, SIZES[self.config.size]
        model = DecisionTransformer(
            len(self._observation_bounds[0]), self._actions.size, width=size.width,
            layers=size.layers, heads=size.heads, window=settings.window, bins=settings.bins,
            returns=settings.returns, generator=self._weights_generator)
        pool = ModulationPool(model, modulators(settings), self._weights_generator)
        if settings.pretrained and settings.tune != "full":
            model.requires_grad_(False)
        if settings.pretrained and settings.tune == "pool":
            for _ in range(self._stream.heads):
                pool.grow()
        if settings.tune == "head":
            model.head.requires_grad_(True)
        return pool

    def _take_over(self, folder: Path) -> None:
        """Begins with what a pre-trained policy is and has seen."""
        from crl.run import Run

        run = Run(folder)
        theirs = run.config["agent"]
        require(theirs["name"] == self.name and not theirs["pretrained"],
                f"{folder} is of no policy that was pre-trained; make one with 'crl train --agent "
                "l2m' and without agent.pretrained")
        for name in _PRETRAINED:
            require(getattr(self.config, name) == theirs[name],
                    f"the policy of {folder} has {name} {theirs[name]}; add --set "
                    f"agent.{name}={str(theirs[name]).lower()}")
        tree = run.checkpoint()["agent"]
        weights = trees.tree_to_tensors(tree["parts"]["model"], self.device)
        for name, parameter in self._model.named_parameters(prefix="backbone"):
            require(name not in weights or weights[name].shape == parameter.shape,
                    f"the policy of {folder} is for observations or actions of other widths than "
                    f"those of stream {self._stream.name!r}; pre-train one on such a stream")
        trees.put_parameters(self._pool, weights)
        self._load_view(tree["view"])
        for name, examples in tree["examples"].items():
            self._examples[name] = Examples(**trees.tree_to_tensors(examples))
            self._show_selector(self._examples[name], 0)

    # ---- the Agent contract ----

    def check_records(self) -> None:
        for task in self._stream:
            self._read(task)

    def begin_task(self, task: Task) -> None:
        super().begin_task(task)
        if self.config.pretrained:
            self._learning = [task]
            records = [self._read(task)]
            self._begin_slot(task, records[0])
        elif self._tasks_begun == 1:
            self._learning = list(self._stream)
            records = [self._read(one) for one in self._learning]
            self._begin_view(records)
        else:
            return  # all tasks are learned already
        self._put(records)

    def end_task(self, task: Task) -> None:
        super().end_task(task)
        if self._learns_slots:
            self._pool.freeze(self._slot_of[task.name])

    def update(self) -> dict[str, float]:
        if self._unread:
            self._put([self._read(task) for task in self._learning])
        self._set_learning_rate()
        losses = self._gradient_step(self.replay.sample(self.config.batch_size, self._rng))
        self._task_steps += 1
        if self.gradient_steps % 50:
            return {}
        return {name: float(loss) for name, loss in losses.items()}

    def policy(self, task: Task) -> L2MPolicy:
        pool = cast(ModulationPool, self._deployed("model", task))
        slot = self._slot_of.get(task.name, 0)
        oracle = self.config.select == "oracle" or not self._learns_slots
        selector = copy.deepcopy(self._selector)
        actions = self._actions
        spec = PolicySpec(task.name, *self._observation_bounds, actions.low, actions.high)
        return L2MPolicy(
            spec, actions, pool.merged,
            (lambda states: torch.full((len(states),), slot)) if oracle else selector.select,
            latch=oracle or self.config.select == "prototypes", view=self._view,
            window=self.config.window, bins=self._model.bins)

    def state_dict(self) -> Tree:
        return {
            **super().state_dict(),
            "view": {"shift": self._view.shift.numpy().copy(), "unit": self._view.unit,
                     "factor": self._view.factor.numpy().copy(),
                     "target": self._view.target.copy()},
            "selector": self._selector.state_dict(), "slot_of": dict(self._slot_of),
            "examples": {name: trees.tensors_to_tree(examples._asdict())
                         for name, examples in self._examples.items()},
            "prints": dict(self._prints), "learning": [task.name for task in self._learning],
        }

    def load_state_dict(self, tree: Tree) -> None:
        super().load_state_dict(tree)
        self._load_view(tree["view"])
        self._selector.load_state_dict(tree["selector"])
        self._slot_of, self._prints = dict(tree["slot_of"]), dict(tree["prints"])
        self._examples = {name: Examples(**trees.tree_to_tensors(examples))
                          for name, examples in tree["examples"].items()}
        self._learning = [self._stream[name] for name in tree["learning"]]
        self._unread = True
        if self._learns_slots:
            for name, slot in self._slot_of.items():
                if name not in tree["learning"]:
                    self._pool.freeze(slot)

    def _load_view(self, tree: Tree) -> None:
        tensors = trees.tree_to_tensors({name: tree[name] for name in ("shift", "factor")})
        self._view = View(tensors["shift"], tensors["factor"], self.config.returns, tree["unit"],
                          np.array(tree["target"]))

    # ---- records ----

    def _read(self, task: Task) -> Episodes:
        """A task's episodes, those that are learned from."""
        episodes = read_data(self.config.data, task.name, self._stream)
        print_ = episodes.fingerprint()
        require(self._prints.setdefault(task.name, print_) == print_,
                f"the data set of {task.name!r} in {self.config.data} is not the one that this "
                "run began with; put that one back")
        if self.config.failures:
            return episodes
        require(bool(episodes.successful.any()), f"no episode of {task.name!r} in "
                f"{self.config.data} is a success; add --set agent.failures=true")
        return episodes.select(episodes.successful)

    def _put(self, records: Sequence[Episodes]) -> None:
        """Makes the records of what is learned now what is drawn from."""
        self._unread = False
        low, high = self._actions.low, self._actions.high
        for task, episodes in zip(self._learning, records, strict=True):
            self.replay.put(
                self._view.scaled(_before_steps(episodes)),
                2 * (episodes.actions - low) / (high - low) - 1,
                episodes.rewards / self._view.unit, episodes.lengths,
                head=self._slot_of.get(task.name, 0))

    def _begin_view(self, records: Sequence[Episodes]) -> None:
        """Settles for good how observations and rewards are scaled."""
        obs = np.concatenate([_before_steps(episodes) for episodes in records])
        factor = 1 / np.maximum(obs.std(0), _LEAST_STD)
        unit = max(float(np.abs(episodes.rewards).max()) for episodes in records)
        self._view = View(trees.to_tensor(obs.mean(0)), trees.to_tensor(factor),
                          self.config.returns, unit or 1.0, self._view.target)
        self._view.target[:] = np.quantile(
            np.concatenate([episodes.returns for episodes in records]), _BEST) / self._view.unit
        for task, episodes in zip(self._learning, records, strict=True):
            self._examples[task.name] = self._examples_of(episodes)

    def _begin_slot(self, task: Task, episodes: Episodes) -> None:
        """Settles which slot a task has, if any, and what tells it."""
        slot = 0
        if self._learns_slots:
            examples = self._examples_of(episodes)
            slot = (self._selector.allocate(examples.all) if isinstance(self._selector, Cosine)
                    else task.head + 1)
            self._show_selector(examples, slot)
        self._slot_of[task.name] = slot
        self._view.target[slot] = np.quantile(episodes.returns, _BEST) / self._view.unit

    def _examples_of(self, episodes: Episodes) -> Examples:
        obs = self._view.scaled(_before_steps(episodes))
        spread = np.linspace(0, len(obs) - 1, min(len(obs), _EXAMPLES)).astype(int)
        return Examples(*(torch.from_numpy(obs[rows]) for rows in (
            episodes.offsets[:-1][:_EXAMPLES], spread)))

    def _show_selector(self, examples: Examples, slot: int) -> None:
        self._selector.fit(examples.first if self.config.select == "prototypes" else examples.all,
                           slot)

    @property
    def _learns_slots(self) -> bool:
        return bool(self.config.pretrained) and self.config.tune == "pool"

    # ---- learning ----

    def _set_learning_rate(self) -> None:
        if self.config.pretrained:
            done, steps = self._task_steps, self._learning[0].steps
        else:
            done, steps = self.gradient_steps, self._stream.steps
        fallen = (1 + math.cos(math.pi * min(1.0, done / steps))) / 2
        share = min(1.0, (done + 1) / self.config.warm_up) * (
            _LEAST_RATE + (1 - _LEAST_RATE) * fallen)
        for group in self.parts["model"].optimizer.param_groups:
            group["lr"] = share * self.config.learning_rate

    def _add_gradients(self, batch: Windows) -> dict[str, Tensor]:
        with torch.enable_grad():  # methods ask for gradients from within no_grad
            loss = self._loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._pool.parameters(), self.config.max_gradient_norm)
        return {"model": loss.detach()}

    def _loss(self, batch: Windows) -> Tensor:
        return self._model.loss(self._logits(batch), batch.action, batch.valid)

    def _logits(self, batch: Windows, parameters: Parameters | None = None) -> Tensor:
        self._pool.use(batch.head)
        logits: Tensor = functional_call(self._pool, parameters or {}, (
            batch.obs, batch.to_go, batch.reward, batch.valid))
        return logits

    def _outputs(self, batch: Windows, parameters: Parameters | None = None) -> Tensor:
        """2√p of every bin of every number of every step, [B, K, act · bins]; 0 at padding.

        The squares of its slopes are the Fisher information of the choices among bins.
        """
        log_probs = self._logits(batch, parameters).log_softmax(-1)
        roots = 2 * (log_probs / 2).exp().flatten(2)
        return torch.where(batch.valid.unsqueeze(-1), roots, 0)

    def _reset_for_new_task(self) -> None:
        if self.config.pretrained:  # else all tasks go on being learned
            super()._reset_for_new_task()

    # ---- acting is its policies' affair ----

    def _store(self, step: Step) -> None:
        raise NotImplementedError("it learns from records alone")


class Examples(NamedTuple):
    """Scaled observations of a task, that a selector is told."""

    first: Tensor  # [n, obs], what episodes begin with
    all: Tensor    # [m, obs], at any time


def _before_steps(episodes: Episodes) -> FloatArray:
    """What was observed before each step, [S, obs]."""
    return np.delete(episodes.obs, episodes.offsets[1:] + np.arange(len(episodes)), axis=0)


def modulators(settings: L2MConfig) -> dict[str, Modulator]:
    """What is modulated, and how; as published where they say."""
    blocks = "transformer.blocks.*"
    if settings.kind == "prefix":
        return {f"{blocks}.attention.attend": Prefix(settings.prefix)}
    if settings.kind == "ia3":
        return dict.fromkeys((f"{blocks}.attention.key", f"{blocks}.attention.value",
                              f"{blocks}.mlp.wide"), IA3())
    lora = LoRA(settings.rank, settings.alpha)
    return dict.fromkeys((f"{blocks}.attention.query", f"{blocks}.attention.value",
                          f"{blocks}.mlp.wide", f"{blocks}.mlp.narrow"), lora)


def _selector_options(settings: L2MConfig, slots: int) -> dict[str, Any]:
    if settings.select == "prototypes":
        return {"count": settings.prototypes, "reject": settings.reject}
    return {"slots": slots} if settings.select == "cosine" else {}
