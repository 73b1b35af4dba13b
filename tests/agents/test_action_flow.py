"""The flow of actions on changes that it was not trained on, made by NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import crl
from crl.agents.action_flow import REGRESSOR, ActionFlow, FlowConfig
from crl.agents.action_maps import Window
from crl.envs.dynamic_tasks import GAINS

UPDATES, ROBOTS = 600, 400


@pytest.fixture(scope="module")
def flow() -> ActionFlow:
    return ActionFlow(2, FlowConfig(updates=UPDATES))


def with_steps(flow: ActionFlow, steps: int) -> ActionFlow:
    again = ActionFlow(flow.size, replace(flow.config, updates=0, steps=steps))
    again.load_state_dict(flow.state_dict())
    return again


def seen(matrix, offset, length: int = 8, error: float = 0.02, seed: int = 0
         ) -> tuple[Window, np.ndarray]:
    """What robots that act by matrix · a + offset have shown, and wanted actions within reach."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (ROBOTS, length, 2))
    acted = actions @ np.swapaxes(matrix, -1, -2) + offset
    residuals = acted - actions + rng.normal(0, error, actions.shape)
    wanted = 0.95 * (rng.uniform(-1, 1, (ROBOTS, 1, 2)) @ np.swapaxes(matrix, -1, -2) + offset)
    tensors = (torch.from_numpy(x.astype(np.float32)) for x in (actions, residuals))
    return Window(*tensors, torch.ones(ROBOTS, length, 1)), wanted[:, 0].clip(-1, 1)


def missed(flow, matrix, offset=0.0, window: Window | None = None, **options
           ) -> tuple[np.ndarray, np.ndarray]:
    """How far what acts is from what is wanted, uncorrected and corrected: [robots] each."""
    shown, wanted = seen(matrix, offset, **options)
    sent = flow(torch.from_numpy(wanted.astype(np.float32)), window or shown).numpy()
    assert (np.abs(sent) <= 1).all()
    acts = [(x[:, None] @ np.swapaxes(matrix, -1, -2) + offset)[:, 0] for x in (wanted, sent)]
    before, after = (np.linalg.norm(act - wanted, axis=1) for act in acts)
    return before, after


def reductions(flow, **options) -> tuple[np.ndarray, np.ndarray]:
    """Of each of the paper's gains: the share of the error that goes, and of robots it helps."""
    found = [missed(flow, np.diag(gains), **options) for gains in GAINS]
    return (np.array([1 - after.mean() / before.mean() for before, after in found]),
            np.array([(after < before).mean() for before, after in found]))


def test_it_corrects_the_gains_of_the_paper(flow):
    less, helped = reductions(flow)
    assert less.mean() > 0.8
    assert less.min() > 0.5
    assert helped.min() > 0.95


@pytest.mark.parametrize("length", [4, 8])
def test_it_corrects_what_mixes_and_shifts_actions(flow, length):
    rng = np.random.default_rng(1)
    matrix = np.diag([-1.0, 1.0]) * rng.uniform(0.5, 1.5, (ROBOTS, 1, 1)) + rng.normal(
        0, 0.3, (ROBOTS, 2, 2))
    before, after = missed(flow, matrix, rng.normal(0, 0.2, (ROBOTS, 1, 2)), length=length)
    assert 1 - after.mean() / before.mean() > 0.7


def test_the_context_is_what_it_knows_of_a_robot(flow):
    """With windows of other robots the benefit is gone, and does harm."""
    mixed = [seen(np.diag(gains), 0.0)[0] for gains in GAINS]
    others = [1 - after.mean() / before.mean() for gains, window in
              zip(GAINS, [*mixed[4:], *mixed[:4]], strict=True)
              for before, after in [missed(flow, np.diag(gains), window=window)]]
    assert np.mean(others) < 0


def test_where_nothing_is_wrong_it_changes_next_to_nothing(flow):
    shown, wanted = seen(np.eye(2), 0.0)
    wanted = torch.from_numpy(wanted.astype(np.float32))
    assert (flow(wanted, shown) - wanted).abs().mean() < 0.05
    nothing = Window(*(torch.zeros_like(column) for column in shown))
    assert (flow(wanted, nothing) - wanted).abs().mean() < 0.1


def test_one_two_and_ten_steps_lead_to_the_same(flow):
    found = [reductions(with_steps(flow, steps))[0].mean() for steps in (1, 2, 10)]
    assert max(found) - min(found) < 0.02


def test_it_is_no_worse_than_a_regressor_of_its_form(flow):
    regressor = ActionFlow(2, replace(REGRESSOR, updates=UPDATES))
    assert 1 - reductions(flow)[0].mean() < 1.15 * (1 - reductions(regressor)[0].mean()) + 0.05


def test_it_is_decided_by_its_seed_and_comes_back_from_its_state():
    settings = FlowConfig(updates=3)
    one, same, other = (ActionFlow(2, settings, seed) for seed in (1, 1, 2))
    shown, wanted = seen(np.diag([-1.0, 1.0]), 0.0)
    wanted = torch.from_numpy(wanted.astype(np.float32))
    assert torch.equal(one(wanted, shown), same(wanted, shown))
    assert not torch.equal(one(wanted, shown), other(wanted, shown))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(wanted, shown), other(wanted, shown))


@pytest.mark.parametrize(("settings", "hint"), [
    ({"window": 0}, "window must be above 0"), ({"steps": 0}, "steps must be above 0"),
    ({"updates": -1}, "updates must not be negative"), ({"at_start": 1.5}, "between 0 and 1"),
])
def test_settings_that_cannot_be(settings, hint):
    with pytest.raises(crl.UserError, match=hint):
        FlowConfig(**settings)
