"""The two contracts that everything stands on: Agent (learns) and Policy (frozen, acts)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from crl.checkpoint import Tree
from crl.errors import UserError

if TYPE_CHECKING:
    from crl.methods.base import Method
    from crl.methods.composition import Methods
    from crl.methods.parts import Part
    from crl.replay import AnyReplay
    from crl.stream import Task, TaskStream

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
State = tuple[NDArray[Any], ...]
"""A policy's recurrent state: arrays [batch, …]; empty for a policy without memory."""


class Taken(NamedTuple):
    """What a replay is told of an action, besides what came of it."""

    action: FloatArray  # [act], as the agent sees it
    memory: FloatArray  # [n], what it remembered then; empty without a memory


class Step(NamedTuple):
    """One step of N environments side by side."""

    obs: FloatArray         # [N, obs]
    action: FloatArray      # [N, act], as given to the environment
    reward: FloatArray      # [N]
    next_obs: FloatArray    # [N, obs], the episode's own even when it ended
    terminated: BoolArray   # [N]: ended for good, its value is 0
    truncated: BoolArray    # [N]: cut off, its value goes on
    first: BoolArray        # [N]: obs was the first of an episode
    info: Sequence[dict[str, Any]]  # N dicts; of an explorer's steps with "success" alone
    taken: Taken | None = None  # of an explorer's actions; None: the agent acted itself


@dataclass(frozen=True)
class PolicySpec:
    """What a policy expects and gives.

    Attributes:
        task: Name of the task that the policy is for.
        observation_low, observation_high: Bounds, [obs] float32; may be infinite.
        action_low, action_high: Bounds of the actions it gives, [act] float32; of discrete
            actions, which it gives as vectors with a single 1, these are 0 and 1.
        discrete: Whether actions are choices.
        state_shapes: Shape of each array of the recurrent state, without the batch.
        context: Observations that an action depends on directly rather than through a state that
            steps have rewritten, the current one among them.
    """

    task: str
    observation_low: FloatArray
    observation_high: FloatArray
    action_low: FloatArray
    action_high: FloatArray
    discrete: bool = False
    state_shapes: tuple[tuple[int, ...], ...] = ()
    context: int = 1


class Policy(ABC):
    """A frozen policy of one task. It shares nothing with the agent that it came from."""

    spec: PolicySpec

    def initial_state(self, batch: int) -> State:
        """The recurrent state at the start of an episode, for ``batch`` environments."""
        return tuple(np.zeros((batch, *shape), np.float32) for shape in self.spec.state_shapes)

    @abstractmethod
    def step(
        self, obs: FloatArray, state: State, first: BoolArray, deterministic: bool = True
    ) -> tuple[FloatArray, State]:
        """One decision for B environments.

        Args:
            obs: [B, obs].
            state: What the previous call returned, or :meth:`initial_state`.
            first: [B], true where ``obs`` is the first of an episode; state before it is ignored.
            deterministic: The mode of the action distribution rather than a sample.

        Returns:
            Actions [B, act] within the bounds of ``spec``, and the next state.
        """

    @abstractmethod
    def seed(self, seed: int) -> None:
        """Seeds the policy's own generator, which only stochastic actions draw from."""

    def predict(
        self,
        observation: NDArray[Any],
        state: State | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], State | None]:
        """Stable-Baselines3's signature, so that its tools work on any policy here.

        Args:
            observation: [obs] or [B, obs].
            state: The state returned by the previous call, None at the start.
            episode_start: [B] or one bool; None: all false, or all true if ``state`` is None.
            deterministic: As in :meth:`step`.

        Returns:
            Actions [act] or [B, act], choices () or [B] int64 if they are discrete, and the state
            for the next call (None without memory).
        """
        obs = np.asarray(observation, np.float32)
        width = self.spec.observation_low.shape[0]
        if obs.ndim not in (1, 2) or obs.shape[-1] != width:
            raise UserError(f"observation of shape {obs.shape}; expected ({width},) or "
                            f"(B, {width})")
        batch = obs.reshape(-1, width)
        if episode_start is None:
            first = np.full(len(batch), state is None)
        else:
            first = np.broadcast_to(np.asarray(episode_start, bool), (len(batch),))
        vectors, state = self.step(
            batch, state or self.initial_state(len(batch)), first, deterministic
        )
        action = vectors.argmax(-1) if self.spec.discrete else vectors
        return (action if obs.ndim == 2 else action[0]), (state or None)


class Agent(Protocol):
    """Something that learns a stream. ``crl.train`` calls it in this order:

    ``attach`` once; per task ``begin_task``, then per step ``act``, ``observe``, ``update``, then
    ``end_task``. State is saved and restored between episodes only.
    """

    name: str
    config: Any  # a frozen dataclass of plain values
    parts: dict[str, Part]
    methods: Methods  # what ``attach`` was given

    @property
    def replay(self) -> AnyReplay:
        """What it learns from."""
        ...

    def attach(self, methods: Sequence[Method]) -> None:
        """Gives the agent the methods whose hooks its gradient steps must call."""

    def begin_task(self, task: Task) -> None: ...

    def act(self, obs: FloatArray, first: BoolArray) -> FloatArray:
        """Exploring actions [N, act] for observations [N, obs]; ``first`` as in :class:`Step`."""
        ...

    def observe(self, step: Step) -> None:
        """Takes in what the last actions led to."""

    def update(self) -> dict[str, float]:
        """Does the gradient steps that are due now; returns scalars to log, often none."""
        ...

    def learn(self, steps: int) -> None:
        """Does ``steps`` gradient steps on what is in the replay, whether they are due or not."""

    def end_task(self, task: Task) -> None: ...

    def policy(self, task: Task) -> Policy:
        """A frozen copy of the policy for ``task``, as the attached methods would deploy it."""
        ...

    @property
    def gradient_steps(self) -> int:
        """Gradient steps done so far."""
        ...

    def state_dict(self) -> Tree:
        """Everything: weights, optimisers, replay, random generators."""
        ...

    def load_state_dict(self, tree: Tree) -> None: ...


class Explorer(Protocol):
    """What an agent acts with, on its own: it can be sent anywhere, and learns nothing.

    It acts for one environment. An episode depends on its weights and on the seeds alone.
    """

    def seed(self, seed: int) -> None:
        """Seeds all draws."""

    def act(self, obs: FloatArray, first: BoolArray) -> FloatArray:
        """As :meth:`Agent.act`."""
        ...

    @property
    def taken(self) -> Taken:
        """What the agent must be told of the last action."""
        ...


@runtime_checkable
class ExploringAgent(Agent, Protocol):
    """An agent that learns from what its explorers do, too; see :mod:`crl.rounds`.

    Attributes:
        on_policy: It learns from steps of its newest weights alone.
    """

    on_policy: bool

    def check_explorers(self) -> None:
        """Raises ``UserError`` if, with these settings, it must act itself."""

    def explorer(self) -> Explorer:
        """A copy of what it acts with, for the next episodes."""
        ...


@runtime_checkable
class OfflineAgent(Agent, Protocol):
    """An agent that learns from records alone: a step of the loop is one call of ``update``, and
    ``act`` and ``observe`` are never called."""

    def check_records(self) -> None:
        """Raises ``UserError`` if records that it would learn from are not there."""


def make_agent(
    name: str, stream: TaskStream, seed: int = 0, device: str = "cpu", **settings: Any
) -> Agent:
    """Makes a registered agent for a stream.

    Args:
        name: Registered name (``crl list agents``).
        stream: The :class:`~crl.stream.TaskStream` it will learn: gives spaces and heads.
        seed: Seed of the agent's initial weights and random draws.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        **settings: Fields of the agent's configuration.

    Raises:
        UserError: Unknown name, setting or device, or a value of the wrong type or out of range.
    """
    from crl import config, registry

    cls = registry.agents.load(name)
    config.require_whole("seed", seed, least=0)
    settings = config.build(cls.Config, settings, "agent")
    agent: Agent = cls(stream, settings, seed=seed, device=device)
    return agent
