"""Replay: what an off-policy agent has seen of late, sampled in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from crl.checkpoint import Tree
from crl.nn.state import to_tensor

if TYPE_CHECKING:
    from typing_extensions import Self


class Samples:
    """What batches of any kind share: columns with a row per sample, and a head each.

    Subclasses are frozen dataclasses of tensors [B, …] on the agent's device.
    """

    seen: ClassVar[tuple[str, ...]]
    """The columns that a policy's outputs depend on, besides the head."""

    obs: Tensor
    head: Tensor | int  # [B] int64, or one int when all are of the same head

    @property
    def heads(self) -> Tensor:
        """The head of each sample, [B] int64."""
        if isinstance(self.head, Tensor):
            return self.head
        return torch.full((len(self.obs),), self.head, device=self.obs.device)

    def columns(self) -> dict[str, Tensor]:
        """All columns by name, with a head per row; what ``type(self)`` is made of."""
        return {**vars(self), "head": self.heads}

    def what_is_seen(self) -> dict[str, Tensor]:
        """The columns in ``seen``, and a head per row."""
        return {**{name: getattr(self, name) for name in self.seen}, "head": self.heads}

    @classmethod
    def from_seen(cls, columns: Mapping[str, Tensor]) -> Self:
        """Samples for a policy to look at: what :meth:`what_is_seen` gave, all else zero [B]."""
        nothing = columns["obs"].new_zeros(len(columns["obs"]))
        return cls(**{f.name: columns.get(f.name, nothing) for f in fields(cast(Any, cls))})

    def rows(self, index: Tensor) -> Self:
        """The samples at ``index``: indices, or a mask of B."""
        return type(self)(**{name: column[index] if isinstance(column, Tensor) else column
                             for name, column in vars(self).items()})

    def sorted(self) -> Self:
        """The same samples, those of a head together: what networks take in fewest steps."""
        if not isinstance(self.head, Tensor):
            return self
        return self.rows(self.head.argsort(stable=True))

    @classmethod
    def join(cls, batches: Sequence[Self]) -> Self:
        """The samples of all batches, in order, with a head per row."""
        columns = [batch.columns() for batch in batches]
        return cls(**{name: torch.cat([c[name] for c in columns]) for name in columns[0]})


@dataclass(frozen=True)
class Batch(Samples):
    """B transitions of up to n steps.

    ``reward`` is Σ γᵏ r over the steps taken and ``discount`` is γⁿ, or 0 where the episode ended
    for good on the way: the target is ``reward + discount · V(next_obs)``.
    """

    seen: ClassVar[tuple[str, ...]] = ("obs",)

    obs: Tensor       # [B, obs]
    action: Tensor    # [B, act], scaled to [-1, 1]
    reward: Tensor    # [B]
    next_obs: Tensor  # [B, obs]
    discount: Tensor  # [B]
    head: Tensor | int


@dataclass(frozen=True)
class Transitions(Batch):
    """What a model of them is given, which looks at actions as well."""

    seen = ("obs", "action")


def one_or_each(head: np.ndarray[Any, Any], device: str) -> int | Tensor:
    """Heads of samples [B]: one int if all are of the same, else a tensor."""
    same = bool((head == head[0]).all())
    return int(head[0]) if same else torch.tensor(head, device=device)


def column_to_tensor(column: np.ndarray[Any, Any], device: str) -> Tensor:
    """Flags as bool, numbers as a float32 copy."""
    made = torch.from_numpy(column) if column.dtype == np.bool_ else to_tensor(column)
    return made.to(device)


class AnyReplay(Protocol):
    """What methods and measures use of a replay, whatever its samples are."""

    @property
    def kind(self) -> type[Samples]:
        """Of its samples."""
        ...

    device: str
    length: int  # steps of the environment in a sample

    def __len__(self) -> int: ...

    def sample(self, batch_size: int, rng: np.random.Generator) -> Samples:
        """Draws samples uniformly with replacement."""
        ...

    def take(self, start: np.ndarray) -> Samples:
        """The samples at ``start``, indices below ``len(self)`` [B]."""
        ...


def in_samples(steps: int, replay: AnyReplay) -> int:
    """A number of environment steps, which settings are given in, as samples; at least one."""
    return max(1, steps // replay.length)


class Replay:
    """First in, first out; uniform sampling with replacement; n-step returns.

    Args:
        capacity: Transitions kept.
        obs_size, action_size: Widths of the vectors.
        n_step: Steps of the return; cut at the end of an episode, and at the newest transition.
        gamma: Discount per step.
        device: Where batches go.
        kind: Of its batches.

    Transitions of one environment must arrive in order.
    """

    length = 1

    def __init__(self, capacity: int, obs_size: int, action_size: int, *, n_step: int = 1,
                 gamma: float = 0.99, device: str = "cpu", kind: type[Batch] = Batch) -> None:
        self.capacity = capacity
        self.kind = kind
        self.n_step = n_step
        self.gamma = gamma
        self.device = device
        self._columns = {
            # np.empty: the pages of a large buffer are only taken as they are written.
            "obs": np.empty((capacity, obs_size), np.float32),
            "action": np.empty((capacity, action_size), np.float32),
            "reward": np.empty(capacity, np.float32),
            "next_obs": np.empty((capacity, obs_size), np.float32),
            "terminated": np.empty(capacity, np.bool_),
            "last": np.empty(capacity, np.bool_),  # terminated or truncated: no n-step past it
            "head": np.empty(capacity, np.int64),
        }
        self.clear()

    def __len__(self) -> int:
        return self._size

    def clear(self) -> None:
        """Forgets everything."""
        self._size = 0
        self._next = 0

    def add(self, obs: np.ndarray, action: np.ndarray, reward: float, next_obs: np.ndarray, *,
            terminated: bool, truncated: bool, head: int) -> None:
        """Stores one step of the environment.

        Args:
            obs, next_obs: [obs].
            action: [act], scaled to [-1, 1].
            reward: Of this step.
            terminated, truncated: Whether and how the episode ended here.
            head: Head of the task that the step is from.
        """
        i, columns = self._next, self._columns
        columns["obs"][i] = obs
        columns["action"][i] = action
        columns["reward"][i] = reward
        columns["next_obs"][i] = next_obs
        columns["terminated"][i] = terminated
        columns["last"][i] = terminated or truncated
        columns["head"][i] = head
        self._next = (i + 1) % self.capacity
        self._size = min(self._size + 1, self.capacity)

    def sample(self, batch_size: int, rng: np.random.Generator) -> Batch:
        """Draws ``batch_size`` transitions uniformly with replacement."""
        if self._size == 0:
            raise ValueError("cannot sample from an empty replay")
        return self.take(rng.integers(self._size, size=batch_size))

    def take(self, start: np.ndarray) -> Batch:
        """The transitions at ``start``, indices below ``len(self)`` [B], in storage order."""
        reward, end, discount = self._returns(start)
        head = self._columns["head"][start]
        return self.kind(
            self._gather("obs", start),
            self._gather("action", start),
            to_tensor(reward).to(self.device),
            self._gather("next_obs", end),
            to_tensor(discount).to(self.device),
            one_or_each(head, self.device),
        )

    def _returns(self, start: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sum of discounted rewards from ``start``, where it ends, and the discount of its end."""
        columns = self._columns
        reward = columns["reward"][start].copy()
        end = start.copy()
        discount = np.full(len(start), self.gamma, np.float32)
        newest = (self._next - 1) % self.capacity
        for _ in range(self.n_step - 1):
            going = ~columns["last"][end] & (end != newest)
            following = (end + 1) % self.capacity
            reward += np.where(going, discount * columns["reward"][following], 0).astype(np.float32)
            end = np.where(going, following, end)
            discount = np.where(going, discount * np.float32(self.gamma), discount)
        return reward, end, np.where(columns["terminated"][end], np.float32(0), discount)

    def _gather(self, name: str, index: np.ndarray) -> Tensor:
        # Into memory of torch's own, as ``to_tensor`` would, without the copy in between.
        column = self._columns[name]
        out = torch.empty((len(index), column.shape[1]))
        np.take(column, index, axis=0, out=out.numpy(), mode="clip")
        return out.to(self.device)

    def state_dict(self) -> Tree:
        """The transitions held, in storage order."""
        return {
            "next": self._next,
            "columns": {name: column[: self._size] for name, column in self._columns.items()},
        }

    def load_state_dict(self, tree: Tree) -> None:
        """Puts back what :meth:`state_dict` gave."""
        self._size = len(tree["columns"]["reward"])
        self._next = tree["next"]
        for name, column in self._columns.items():
            column[: self._size] = tree["columns"][name]
