"""Settings of R2I."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from crl.agents.agent_config import ValueConfig
from crl.chunks import Keep
from crl.config import require, require_not_negative, require_positive


@dataclass(frozen=True)
class Size:
    """Widths of a world model and of what is trained in it.

    Attributes:
        groups, classes: Of the latents.
        deter: Of what the past says.
        width: Of the sequence model, inside and out.
        modes, layers: Of a state-space sequence model.
        hidden: Of the hidden layers of every perceptron.
    """

    groups: int
    classes: int
    deter: int
    width: int
    modes: int
    layers: int
    hidden: tuple[int, ...]


SIZES = {
    "nano": Size(8, 8, 128, 64, 32, 2, (128, 128)),
    "1M": Size(32, 4, 512, 192, 64, 3, (64, 64, 64)),
    "12M": Size(32, 16, 2048, 512, 256, 4, (256, 256, 256)),
    "popgym": Size(32, 32, 1024, 512, 128, 3, (512, 512)),
    "bsuite": Size(32, 32, 512, 512, 128, 3, (512, 512)),
    "dmc": Size(32, 32, 512, 512, 128, 4, (512, 512)),
    "maze": Size(32, 32, 2048, 1024, 512, 5, (1024, 1024, 1024, 1024)),
}


@dataclass(frozen=True)
class R2IConfig(ValueConfig):
    """Settings of :class:`~crl.agents.r2i.R2I`.

    Attributes:
        size: ``"nano"``, for two cores and minutes; ``"1M"`` or ``"12M"``, which have so many
            parameters and DreamerV3's widths (Hafner et al. 2023); or R2I's own for a domain,
            ``"popgym"``, ``"bsuite"``, ``"dmc"`` or ``"maze"``.
        hidden: Widths of the hidden layers of every perceptron; none: those of the size.
        memory: The sequence model (``crl list memories``).
        memory_options: Its options; none: those of the size.
        posterior: ``"observation"``: latents are told from what is seen alone; ``"recurrent"``,
            as DreamerV3 has it: from the past as well, for which steps come one after another.
        latent_entropy: Price of a nat of the latents' entropy; published: 0, for which what is
            remembered is mostly noise, for thousands of updates. At 0.1, latents say too little.
        free_nats: How much may come unforeseen, in nats a step: the posterior has no gradient of
            the KL below it, and goes down to it where observations are of little weight. What is
            drawn at random and must be remembered wants more, such as a card of four, 1.4 nats.
        sees: What policy and values are given: ``"output"``, latents and what the sequence model
            gives; ``"hidden"``, latents and its state; ``"full"``, all of them.
        batch_size, sequence_length: Chunks of a gradient step, and rows of each.
        train_ratio: Rows learned from for each that is stored.
        keep: What the replay keeps: ``"fifo"``, ``"reservoir"`` or ``"half"`` of each.
        start_steps: Steps at a task's start that act at random; only then is anything learned.
        imagined: Rows from which futures are imagined in a gradient step; 0: all.
        horizon: Steps imagined from each.
        gae_lambda: λ of the returns.
        entropy_weight: Of the policy's entropy.
        learning_rate: The model's.
        behaviour_rate: Actor's and critic's.
        max_gradient_norm: What each part's gradient is clipped to.
    """

    size: Literal["nano", "1M", "12M", "popgym", "bsuite", "dmc", "maze"] = "nano"
    hidden: tuple[int, ...] = ()
    memory: str = "s5"
    memory_options: dict[str, bool | int | float | str] = field(default_factory=dict)
    posterior: Literal["observation", "recurrent"] = "observation"
    latent_entropy: float = 3e-3
    free_nats: float = 1.0
    sees: Literal["output", "hidden", "full"] = "full"
    batch_size: int = 16
    sequence_length: int = 64
    train_ratio: float = 64.0
    replay_size: int = 200_000
    keep: Keep = "fifo"
    start_steps: int = 1_000
    imagined: int = 128
    horizon: int = 15
    gamma: float = 1 - 1 / 333
    gae_lambda: float = 0.95
    entropy_weight: float = 3e-4
    learning_rate: float = 3e-4
    behaviour_rate: float = 3e-4
    max_gradient_norm: float = 100.0
    reward_scale: float = 1.0
    reset: tuple[str, ...] = ()

    resettable = ("replay", "optimizer", "model", "actor", "critic")

    def __post_init__(self) -> None:
        size = SIZES[self.size]
        if not self.hidden:
            object.__setattr__(self, "hidden", size.hidden)
        if self.memory == "s5" and not self.memory_options:
            object.__setattr__(self, "memory_options", {
                "layers": size.layers, "modes": size.modes, "normalized": True})
        super().__post_init__()
        require_positive(self, "train_ratio", "sequence_length", "start_steps", "horizon",
                         "behaviour_rate", "max_gradient_norm")
        require_not_negative(self, "imagined", "entropy_weight", "latent_entropy", "free_nats")
        self._require_share("gae_lambda")
        require(self.replay_size >= 2 * self.sequence_length,
                "replay_size must be at least twice sequence_length")
        require(not self.normalize_observations,
                "a world model takes observations of any size; leave normalize_observations out")
