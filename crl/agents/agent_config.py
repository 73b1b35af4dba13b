"""Settings that agents share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from crl.config import require, require_positive


@dataclass(frozen=True)
class AgentConfig:
    """Settings of any agent that learns by gradients.

    Attributes:
        learning_rate: Adam's, for everything that is learned.
        batch_size: Samples of the replay per gradient step.
        reset: What begins anew at each task: ``"replay"``, ``"optimizer"`` (moments to zero), and
            parts whose weights are re-drawn, such as ``"critic"``.
    """

    learning_rate: float = 1e-3
    batch_size: int = 256
    reset: tuple[str, ...] = ("replay", "optimizer")

    resettable: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        require_positive(self, "learning_rate", "batch_size")
        for item in self.reset:
            require(item in self.resettable,
                    f"reset can name {', '.join(self.resettable)}; got {item!r}")

    def _require_share(self, *names: str) -> None:
        for name in names:
            require(0 <= getattr(self, name) <= 1,
                    f"{name} must be between 0 and 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class NetworkConfig(AgentConfig):
    """Settings of any agent whose networks are trunks with heads, and learn from what it does.

    Attributes:
        hidden: Widths of the hidden layers, of all networks alike.
        layer_norm: Layer normalisation before each activation.
        trunk: What tasks share of each network: hidden layers (``"mlp"``), or a hypernetwork that
            gives each task all weights of its own, and holds on to those that the policy needs.
        trunk_options: Options of the hypernetwork, such as ``{"coefficient": 0.05}``.
        multi_head: One head per task; else one for all.
        replay_size: Environment steps kept.
    """

    hidden: tuple[int, ...] = (128, 128)
    layer_norm: bool = True
    trunk: Literal["mlp", "hypernetwork"] = "mlp"
    trunk_options: dict[str, bool | int | float | str] = field(default_factory=dict)
    multi_head: bool = True
    replay_size: int = 1_000_000

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.hidden) and min(self.hidden) > 0, "hidden must be widths above 0")
        require_positive(self, "replay_size")
        require(self.trunk == "hypernetwork" or not self.trunk_options,
                "trunk_options are of a hypernetwork; set trunk to hypernetwork")
        require(self.trunk == "mlp" or self.multi_head,
                "a hypernetwork knows tasks apart; leave multi_head at true")


@dataclass(frozen=True)
class ValueConfig(NetworkConfig):
    """Settings of any agent that learns what actions are worth.

    Attributes:
        gamma: Discount per environment step.
        reward_scale: Factor on every reward.
        normalize_observations: Bring each task's observations to mean 0 and variance 1; the moments
            stay when the task is over.
    """

    gamma: float = 0.99
    reward_scale: float = 0.1
    normalize_observations: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "reward_scale")
        self._require_share("gamma")


@dataclass(frozen=True)
class RecurrentConfig(ValueConfig):
    """Settings of any agent with a memory.

    Attributes:
        memory: The sequence core (``crl list memories``); ``"mlp"`` is none, for comparison.
        memory_size: Width of its input and output.
        memory_options: Its options, such as ``{"layers": 1}``.
        batch_size: Sequences per gradient step.
        sequence_length: Steps of a sequence, through which gradients flow.
    """

    memory: str = "gru"
    memory_size: int = 64
    memory_options: dict[str, bool | int | float | str] = field(default_factory=dict)
    batch_size: int = 16
    sequence_length: int = 64
    learning_rate: float = 3e-4
    replay_size: int = 200_000

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "memory_size", "sequence_length")
        require(self.replay_size > self.sequence_length,
                "replay_size must be above sequence_length")
