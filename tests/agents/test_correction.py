"""The correction on robots of which everything is known: point masses that are pushed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from crl.agents.action_maps import least_squares
from crl.agents.correction import Calibration, Correction, calibrate, residuals
from crl.agents.dynamics import Angles

ANGLES = Angles(3, (2,))


def turn(obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """A unicycle: x, y and an angle that is kept within ±π; [N, 3], [N, 2] → [N, 3]."""
    speed, rate = 0.2 * action[:, 0], 0.4 * action[:, 1]
    angle = obs[:, 2] + rate
    return torch.stack((obs[:, 0] + speed * obs[:, 2].cos(), obs[:, 1] + speed * obs[:, 2].sin(),
                        torch.atan2(angle.sin(), angle.cos())), 1)


def noisy(seed: int = 0, deviation: float = 1e-3):
    draw = torch.Generator().manual_seed(seed)
    return lambda obs, action: turn(obs, action) + deviation * torch.randn(
        len(obs), 3, generator=draw)


def draws(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    obs = np.column_stack((rng.normal(0, 3, (count, 2)), rng.uniform(-math.pi, math.pi, count)))
    return (torch.from_numpy(obs.astype(np.float32)),
            torch.from_numpy(rng.uniform(-1, 1, (count, 2)).astype(np.float32)))


def calibrated(count: int = 2_000) -> Calibration:
    obs, actions = draws(count)
    return calibrate(turn, ANGLES, obs, actions, noisy()(obs, actions))


def corrected(transform=least_squares, limit: float = 3.0) -> Correction:
    return Correction(transform, turn, ANGLES, calibrated(), window=8, limit=limit)


def drive(correction: Correction, gains, steps: int = 40, starts: int = 64, seed: int = 3,
          wanted=None):
    """Robots with such gains, from their first step: wanted, sent and whether one was misaligned,
    [steps, starts, …]."""
    obs, _ = draws(starts, seed)
    real, past = noisy(seed), correction.initial_past(starts, 3, 2)
    gains = torch.tensor(gains, dtype=torch.float32).expand(2)
    rows = []
    for step in range(steps):
        aim = draws(starts, seed + step + 1)[1] if wanted is None else wanted[step]
        sent, past = correction(obs, aim, past, torch.full((starts,), step == 0))
        rows.append((aim, sent))
        obs = real(obs, gains * sent)
    return (torch.stack(column) for column in zip(*rows, strict=True))


def test_residuals_are_what_acted_besides_in_units_of_the_action():
    obs, actions = draws(300)
    trust = torch.full((3,), 1e4)
    matrix, offset = torch.tensor([[-1.0, 0.3], [0.2, 1.5]]), torch.tensor([0.1, -0.2])
    acted = actions @ matrix.T + offset
    found = residuals(turn, ANGLES, trust, obs, actions, turn(obs, acted))
    # The model is linear in the action but for the heading, which turns while it drives.
    torch.testing.assert_close(found, acted - actions, atol=0.02, rtol=0.02)


def test_residuals_are_of_what_acted_where_the_model_is_not_linear(monkeypatch):
    """A robot with a speed, which motors change the less the farther it is from what they want."""
    def pushed(obs, action):
        return obs + 0.4 * torch.tanh(action - obs)

    rng = np.random.default_rng(0)
    obs, actions = (torch.from_numpy(rng.uniform(-0.9, 0.9, (300, 1)).astype(np.float32))
                    for _ in range(2))
    following, trust = pushed(obs, -actions), torch.tensor([1e4])

    def worst():
        found = residuals(pushed, Angles(1, ()), trust, obs, actions, following)
        return (found + 2 * actions).abs().quantile(0.95).item()

    assert worst() < 0.05
    monkeypatch.setattr("crl.agents.correction._NEWTON_STEPS", 1)
    assert worst() > 1.0


def test_residuals_do_not_jump_where_an_angle_does():
    obs, actions = draws(300)
    obs[:, 2] = torch.where(obs[:, 0] > 0, math.pi - 0.05, 0.05 - math.pi)
    trust, following = torch.full((3,), 1e4), turn(obs, -actions)
    found = residuals(turn, ANGLES, trust, obs, actions, following)
    torch.testing.assert_close(found, -2 * actions, atol=0.05, rtol=0.05)
    plain = residuals(turn, Angles(3, ()), trust, obs, actions, following)
    assert plain.norm(dim=-1).max() > 5  # a control: what is not wrapped is an error of 2 π


def test_errors_that_no_action_makes_are_none_of_the_actions():
    obs, actions = draws(300)
    following = turn(obs, actions)
    sideways = torch.stack((-obs[:, 2].sin(), obs[:, 2].cos()), 1)
    following[:, :2] += 0.05 * sideways
    found = residuals(turn, ANGLES, torch.tensor([1e4, 1e4, 1e4]), obs, actions, following)
    assert found.norm(dim=-1).max() < 0.01


def test_the_threshold_is_that_of_clean_residuals():
    calibration = calibrated()
    obs, actions = draws(20_000, seed=5)
    clean = residuals(turn, ANGLES, calibration.trust, obs, actions, noisy(7)(obs, actions))
    above = (clean.norm(dim=-1) > calibration.threshold).float().mean().item()
    assert 0.001 < above < 0.01
    torch.testing.assert_close(1 / calibration.trust, torch.full((3,), 1e-3), rtol=0.1, atol=0)
    again = Calibration.from_tree(calibration.state_dict())
    assert torch.equal(again.trust, calibration.trust)
    assert again.threshold == calibration.threshold


def test_a_number_that_never_moves_is_not_trusted():
    obs, actions = draws(200)
    predict = lambda o, a: torch.cat((turn(o, a), o[:, :1] * 0), 1)  # noqa: E731
    angles, wide = Angles(4, (2,)), torch.cat((obs, torch.zeros(200, 1)), 1)
    found = calibrate(predict, angles, wide, actions,
                      torch.cat((noisy()(obs, actions), torch.zeros(200, 1)), 1))
    assert found.trust[3] == 0
    assert found.trust.isfinite().all()


def test_a_clean_robot_is_left_alone():
    wanted, sent = drive(corrected(), 1.0, steps=60)
    changed = (sent - wanted).norm(dim=-1) > 1e-6
    # A residual of 0.5 % above the threshold is seen for eight steps; what follows is little.
    assert changed.float().mean() < 0.1
    assert (sent - wanted).abs().mean() < 0.001
    wanted, sent = drive(corrected(), -1.0)  # the control
    assert (sent - wanted).norm(dim=-1).gt(0.1)[3:].float().mean() > 0.95


@pytest.mark.parametrize("gains", [(-1.0, 2.0), (1.0, -0.5), (0.5, 0.5)])
def test_within_six_steps_what_acts_is_what_is_wanted(gains):
    small = [0.4 * draws(64, 20 + step)[1] for step in range(20)]
    wanted, sent = drive(corrected(), gains, steps=20, wanted=small)
    missing = (torch.tensor(gains) * sent - wanted).norm(dim=-1).mean(1)
    assert (missing[6:] < 0.15 * missing[:1]).all()


def test_a_robot_that_recovers_is_left_alone_again():
    correction, obs = corrected(), draws(16)[0]
    past, real, lengths = correction.initial_past(16, 3, 2), noisy(1), []
    for step in range(60):
        aim = draws(16, step)[1]
        sent, past = correction(obs, aim, past, torch.full((16,), step == 0))
        lengths.append((sent - aim).norm(dim=-1).mean().item())
        obs = real(obs, -sent if step < 30 else sent)
    assert min(lengths[5:30]) > 0.5
    assert max(lengths[45:]) < 0.05


@pytest.mark.parametrize("limit", [0.1, 0.5])
def test_no_correction_is_longer_than_the_limit(limit):
    wanted, sent = drive(corrected(limit=limit), -1.0)
    lengths = (sent - wanted).norm(dim=-1)
    assert lengths.max() <= limit + 1e-5
    assert lengths.max() > 0.99 * limit
    assert (sent.abs() <= 1).all()


def test_a_limit_of_0_is_none_at_all():
    wanted, sent = drive(corrected(limit=0.0), -1.0)
    assert torch.equal(wanted, sent)


def test_a_transform_that_does_harm_is_left_out():
    """One that turns everything round, on a robot that is weak: nearer without it."""
    wanted, sent = drive(corrected(lambda aim, window: -aim), 0.7)
    assert (sent != wanted).any(-1).float().mean() < 0.3  # it is tried, and dropped
    wanted, sent = drive(corrected(lambda aim, window: -aim), -1.0)
    assert (sent != wanted).any(-1).float()[5:].mean() > 0.95  # where it is right it stays


def test_what_cannot_be_is_not_believed():
    """Observations without a number: actions stay finite and within bounds, and go on."""
    correction, obs = corrected(), draws(4)[0]
    past, real = correction.initial_past(4, 3, 2), noisy(1)
    for step in range(30):
        aim = draws(4, step)[1]
        shown = torch.full_like(obs, torch.nan) if step in (10, 11) else obs
        sent, past = correction(shown, aim, past, torch.full((4,), step == 0))
        assert sent.isfinite().all()
        assert (sent.abs() <= 1).all()
        obs = real(obs, -sent)
    torch.testing.assert_close(sent, -aim, atol=0.05, rtol=0)


def test_rows_of_a_batch_and_their_episodes_are_each_for_themselves():
    correction = corrected()
    obs, aims = draws(3), [draws(3, seed)[1] for seed in range(12)]
    together, alone = [], []
    for rows in (slice(None), slice(1, 2)):
        state, where, real = correction.initial_past(3, 3, 2), obs[0], noisy(2, 0.0)
        state, where = tuple(s[rows] for s in state), where[rows]
        for step, aim in enumerate(aims):
            first = torch.tensor([step == 0, step in (0, 6), step == 0])[rows]
            sent, state = correction(where, aim[rows], state, first)
            (together if rows == slice(None) else alone).append(sent)
            where = real(where, -sent)
    torch.testing.assert_close(torch.stack(together)[:, 1:2], torch.stack(alone), atol=1e-3,
                               rtol=0)
    begun = torch.stack(alone)[6, 0]
    assert torch.equal(begun, aims[6][1])  # nothing is known of the episode that begins
