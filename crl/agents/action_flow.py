"""The transform of Action Flow Matching: from the action that is wanted to the one to send."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crl import seeding
from crl.agents.action_maps import (
    ActionMaps,
    Window,
    draw_maps,
    estimate_gains,
    estimate_maps,
)
from crl.checkpoint import Tree
from crl.config import require, require_not_negative, require_positive
from crl.nn import state as trees
from crl.nn.descent import descend
from crl.nn.flow import Rule, VelocityField, integrate, matching_errors

_RATE, _BATCH = 3e-3, 256
_CHANGING = 0.2  # share of the windows in which the robot changes
_NARROWEST = 0.03  # spread of the actions in a window; 1 is half their range
_ERROR = 0.3   # of residuals, at most
_RECENT = 3    # steps that soon tell of a change
_LEAST_MISFIT = 0.02  # that tells anything: below it, a rounding error would
_ESTIMATES = 3
_SHORT = 0.1   # mean square of a correction, below which its length does not matter


@dataclass(frozen=True)
class FlowConfig:
    """Settings of :class:`ActionFlow`.

    Attributes:
        window: Steps that it looks back.
        width: Of its hidden layers.
        updates: Gradient steps of its training.
        steps: Of an integration.
        rule: Of an integration: ``"midpoint"`` or ``"euler"``.
        noise, at_start: Of :func:`~crl.nn.flow.matching_errors`. With ``at_start`` 1 and one step
            of Euler's rule it is a plain regressor.
    """

    window: int = 8
    width: int = 64
    updates: int = 2_000
    steps: int = 2
    rule: Rule = "midpoint"
    noise: float = 0.1
    at_start: float = 0.5

    def __post_init__(self) -> None:
        require_positive(self, "window", "width", "steps")
        require_not_negative(self, "updates", "noise")
        require(0 <= self.at_start <= 1, f"at_start must be between 0 and 1, got {self.at_start}")


REGRESSOR = FlowConfig(steps=1, rule="euler", at_start=1.0)


class ActionFlow:
    """Sends what acts as wanted, on a robot that is not what its model says.

    Murillo-González and Liu 2025, "Action Flow Matching for Continual Robot Learning": a flow from
    the planned action to the intended one, given what an action did of late. It is trained on
    random changes of what actions do, before any is met. Unlike the published one it sees errors in
    units of the action (:mod:`~crl.agents.correction`), so that it is made for a number of actions
    and for no robot; it is told its start besides a context that is of other steps; and it is given
    estimates of the change by least squares, and learns how far to believe them.

    Args:
        size: Of an action.
        settings: The configuration.
        seed: Of weights and training.
    """

    def __init__(self, size: int, settings: FlowConfig = FlowConfig(), seed: int = 0) -> None:
        self.size, self.config = size, settings
        generator = torch.Generator().manual_seed(seeding.integer(seed, "action flow"))
        context = (size + 1) * (size + 2) // 2 + 2 * _ESTIMATES * size
        self.field = VelocityField(size, _ESTIMATES, context, settings.width, generator)
        self._train(generator)

    def __call__(self, wanted: Tensor, window: Window) -> Tensor:
        """Actions [B, act] in [-1, 1] that act as wanted [B, act] in [-1, 1]."""
        velocity = self.field.conditioned(*_told(wanted, window))
        return integrate(velocity, wanted, self.config.steps, self.config.rule).clamp(-1, 1)

    def _train(self, generator: torch.Generator) -> None:
        settings = self.config

        def loss() -> Tensor:
            wanted, window, maps = draw_windows(_BATCH, self.size, settings.window, generator)
            end = maps.inverse(wanted)
            errors = matching_errors(self.field.conditioned(*_told(wanted, window)), wanted, end,
                                     generator, noise=settings.noise, at_start=settings.at_start)
            # By their length, so that small corrections are as exact for theirs as large ones.
            return (errors / (_SHORT + (end - wanted).square().mean(-1))).mean()

        descend(self.field.parameters(), loss, settings.updates, _RATE)
        self.field.requires_grad_(False)

    def state_dict(self) -> Tree:
        return trees.tensors_to_tree(dict(self.field.named_parameters()))

    def load_state_dict(self, tree: Tree) -> None:
        trees.load_parameters(self.field, tree)


def draw_windows(batch: int, size: int, length: int, generator: torch.Generator
                 ) -> tuple[Tensor, Window, ActionMaps]:
    """Wanted actions [B, act], windows, and what acts now; in some windows it was another before.

    Actions of a window lie anywhere from all over their range to close together.
    """
    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    maps, before = (draw_maps(batch, size, generator) for _ in range(2))
    middle, spread = 2 * uniform(batch, 1, size) - 1, _NARROWEST ** uniform(batch, 1, 1)
    around = (middle + spread * normal(batch, length + 1, size)).clamp(-1, 1)
    anywhere = 2 * uniform(batch, size) - 1
    wanted = torch.where(uniform(batch, 1) < 0.5, around[:, 0], anywhere)
    actions, age = around[:, 1:], torch.arange(length)
    since = torch.randint(1, length + 1, (batch, 1), generator=generator)
    old = (age >= since) & (uniform(batch, 1) < _CHANGING)
    acted = torch.where(old[..., None], before(actions), maps(actions))
    errors = _ERROR * uniform(batch, 1, 1).square() * normal(batch, length, size)
    known = (age < torch.randint(1, length + 1, (batch, 1), generator=generator)).float()[..., None]
    return wanted, Window(actions * known, (acted - actions + errors) * known, known), maps


def _told(wanted: Tensor, window: Window) -> tuple[Tensor, Tensor, Tensor]:
    """What the field is told: its start [B, act], where to the estimates would go from there
    [B, estimates, act]; and as the context [B, …] how much there is to know them from, and how well
    each fits all steps and the newest, which an estimate of what was before a change does not."""
    actions, residuals, known = window
    estimates = (estimate_maps(window), estimate_gains(window),
                 estimate_gains(Window(*(column[:, :_RECENT] for column in window))))
    all_maps = ActionMaps(*(torch.cat(columns) for columns in zip(*estimates, strict=True)))
    guesses = all_maps.inverse(wanted.repeat(_ESTIMATES, 1)).view(_ESTIMATES, *wanted.shape)
    x = torch.cat((actions, known), -1)
    row, column = torch.triu_indices(x.shape[-1], x.shape[-1])
    moments = (x.mT @ x)[:, row, column] / x.shape[1]
    misfits = torch.stack([((maps(actions) - actions - residuals) * known).square()
                           for maps in estimates], 1)
    fits = torch.stack((misfits.mean(2), misfits[:, :, :_RECENT].mean(2)), 1).flatten(1)
    return (wanted, guesses.transpose(0, 1) - wanted[:, None],
            torch.cat((moments, (fits + _LEAST_MISFIT**2).log() / 4), -1))
