"""Settings of L2M."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crl.agents.agent_config import AgentConfig
from crl.config import require, require_positive


@dataclass(frozen=True)
class Size:
    """Of a transformer."""

    width: int
    layers: int
    heads: int


SIZES = {
    "nano": Size(128, 3, 4),
    "10M": Size(384, 6, 6),
    "40M": Size(768, 6, 12),  # as published
}


@dataclass(frozen=True)
class L2MConfig(AgentConfig):
    """Settings of :class:`~crl.agents.l2m.L2M`.

    Attributes:
        data: Folder of the data sets that ``crl data`` wrote for the stream's tasks.
        pretrained: Run folder of the policy to go on from; none: pre-train one, on all tasks of the
            stream at once.
        tune: What of it learns new tasks: a slot of the ``"pool"`` each, ``"full"``: all of it, or
            its ``"head"``.
        kind: What a slot of the pool is: ``"lora"``, ``"ia3"`` or ``"prefix"``.
        rank, alpha: Of LoRA.
        prefix: Learned keys of a prefix.
        select: What tells which slot: the ``"oracle"``, which is told the task; ``"prototypes"`` of
            what is seen first, until the next reset; ``"cosine"``, the published rule, every step.
        prototypes: How many a task.
        reject: Share of a task's own episodes that may be taken for no task's. These meet the
            pre-trained policy, as do those of tasks that were never learned.
        returns: Tell the policy rewards and the return to come; the stream must show them
            (``stream.observe_reward``).
        failures: Learn from episodes without success as well, which only ``returns`` tell apart.
        size: ``"nano"``, for two cores and minutes, ``"10M"``, or ``"40M"``, the published one.
        window: Steps that it sees.
        bins: Of each number of an action.
        warm_up: Gradient steps until the learning rate is what it says; then it falls to a tenth,
            as a cosine, by the end of the task, or of pre-training.
        max_gradient_norm: What the gradient is clipped to.
    """

    data: str = "data"
    pretrained: str = ""
    tune: Literal["pool", "full", "head"] = "pool"
    kind: Literal["lora", "ia3", "prefix"] = "lora"
    rank: int = 8
    alpha: float = 16.0
    prefix: int = 8
    select: Literal["oracle", "prototypes", "cosine"] = "prototypes"
    prototypes: int = 3
    reject: float = 0.01
    returns: bool = False
    failures: bool = False
    size: Literal["nano", "10M", "40M"] = "nano"
    window: int = 5
    bins: int = 64
    batch_size: int = 64
    learning_rate: float = 1e-3
    warm_up: int = 100
    max_gradient_norm: float = 0.25

    resettable = ("replay", "optimizer")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "rank", "alpha", "prefix", "prototypes", "window", "warm_up",
                         "max_gradient_norm")
        require(self.bins > 1, "bins must be above 1")
        self._require_share("reject")
        require(bool(self.data), "data must be the folder that 'crl data' wrote")
