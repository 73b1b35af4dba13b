"""Scaled observations: running moments against NumPy's, task by task."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import crl
from crl.nn.scaling import ObservationScaling


def seen(rng: np.random.Generator, count: int = 500) -> tuple[ObservationScaling, np.ndarray]:
    """Moments of head 1 after ``count`` observations, and these."""
    scaling = ObservationScaling(3, 4)
    obs = rng.normal([0, 5, -3, 2], [1, 0.01, 20, 0], (count, 4)).astype(np.float32)
    for row in obs:
        scaling.see(row, 1)
    return scaling, obs


def test_what_was_seen_has_mean_0_and_variance_1():
    scaling, obs = seen(np.random.default_rng(0))
    shift, factor = scaling.of(1)
    np.testing.assert_allclose(shift, obs.astype(np.float64).mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(factor[:3], 1 / obs.astype(np.float64).std(0)[:3], rtol=1e-4)
    scaled = scaling(torch.from_numpy(obs), 1)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(scaled.std(0)[:3], 1, rtol=1e-2)
    assert (scaled[:, 3] == 0).all()  # it never moved


def test_far_observations_are_clipped_and_a_coordinate_that_hardly_moves_is_not_blown_up():
    scaling, obs = seen(np.random.default_rng(0))
    far = torch.from_numpy(obs[:1] + 1000)
    assert scaling(far, 1).abs().max() == 10
    still = ObservationScaling(1, 1)
    for value in (1.0, 1.0 + 1e-6):
        still.see(np.array([value]), 0)
    assert still.of(0)[1].item() <= 1000.0001


def test_each_head_has_its_own_and_rows_may_be_of_several():
    scaling, obs = seen(np.random.default_rng(0))
    rows = torch.from_numpy(obs[:4])
    assert torch.equal(scaling(rows, 0), rows.clamp(-10, 10))  # nothing seen yet
    mixed = scaling(rows, torch.tensor([1, 0, 1, 0]))
    assert torch.equal(mixed[::2], scaling(rows, 1)[::2])
    assert torch.equal(mixed[1::2], scaling(rows, 0)[1::2])


def test_loaded_moments_go_on_the_same():
    scaling, obs = seen(np.random.default_rng(0), 50)
    again = ObservationScaling(3, 4)
    again.load_state_dict(scaling.state_dict())
    for moments in (scaling, again):
        moments.see(obs[0] * 2, 1)
        moments.see(obs[0], 2)
    for head in range(3):
        for a, b in zip(scaling.of(head), again.of(head), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("normalize", [True, False])
def test_an_old_policy_is_as_it_was_after_another_task(normalize, tmp_path):
    """With moments of its own; PackNet keeps the rest."""
    from toy import corners

    stream = corners(2, 150)
    agent = crl.make_agent("sac", stream, hidden=(16,), start_steps=50, update_after=50,
                           batch_size=16, normalize_observations=normalize)
    obs = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    kept = []

    def note(progress):
        if progress.task_step == 150 and progress.phase == "evaluating" and progress.task == 0:
            kept.append(agent.policy(stream[0]).predict(obs)[0])

    run = crl.train(agent, stream, ["packnet"], out=tmp_path / "run", eval_episodes=1, watch=note)
    after = run.policy("corner-0").predict(obs)[0]
    assert np.array_equal(kept[0], after)
    assert not np.array_equal(after, run.policy("corner-1").predict(obs)[0])
