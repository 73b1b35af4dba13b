"""Diagnostics against closed forms, and what they say of agents whose change is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from methods.visits import fill, make_agent
from support import ONCE_TIMED
from toy import corners, play

import crl
from crl.diagnostics import Diagnostics, dormant_share, effective_rank, linear_cka, refit_error


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- the measures ----


def test_dormant_units_are_those_far_below_their_layers_mean():
    layer = torch.tensor([[1.0, -3.0, 0.0, 0.02], [1.0, 3.0, 0.0, 0.02]])
    assert dormant_share([layer]) == 2 / 4  # mean |activation| 1, 3, 0, .02; their mean is 1.005
    assert dormant_share([layer, torch.ones(2, 4)]) == 2 / 8
    assert dormant_share([torch.zeros(2, 3)]) == 1


def test_effective_rank_of_known_spectra():
    basis, _ = torch.linalg.qr(normal(20, 6))
    assert effective_rank(basis) == pytest.approx(6, rel=1e-4)
    assert effective_rank(basis[:, :1] @ normal(1, 6)) == pytest.approx(1, rel=1e-3)
    values = torch.tensor([3.0, 1.0])
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert effective_rank(basis[:, :2] * values) == pytest.approx(expected, rel=1e-4)
    assert effective_rank(torch.zeros(4, 3)) == 0


def test_cka_ignores_rotation_scale_and_shift_and_little_else():
    features = normal(200, 5)
    rotation, _ = torch.linalg.qr(normal(5, 5, seed=1))
    assert linear_cka(features, 3 * features @ rotation + 7) == pytest.approx(1, abs=1e-5)
    assert linear_cka(features, normal(200, 5, seed=2)) < 0.1
    assert linear_cka(features, torch.zeros(200, 5)) == 0
    # Against the definition through kernel matrices (Kornblith et al. 2019, eq. 4).
    other = features + normal(200, 5, seed=3)
    centring = torch.eye(200) - 1 / 200

    def hsic(a, b):
        return torch.trace(centring @ a @ a.T @ centring @ b @ b.T)
    expected = hsic(features, other) / (hsic(features, features) * hsic(other, other)).sqrt()
    assert linear_cka(features, other) == pytest.approx(expected.item(), rel=1e-3)


def test_refit_undoes_what_a_head_can_undo_and_no_more():
    features, head = normal(400, 5), normal(5, 2, seed=1)
    old = features @ head + 1
    left, total = refit_error(features, torch.zeros(400, 2), old)
    assert left < 1e-3 * total
    noise = normal(400, 2, seed=2)
    left, total = refit_error(features, torch.zeros(400, 2), noise)
    assert left > 0.9 * total
    assert refit_error(features, old, old)[1] == 0


# ---- of an agent ----


def measures(diagnostics: Diagnostics) -> dict[tuple[str, str], float]:
    return {(part, name): value for part, name, value in diagnostics.measure()}


def one_task_done():
    agent, stream = make_agent()
    diagnostics = Diagnostics(agent, stream, seed=0)
    agent.begin_task(stream[0])
    assert measures(diagnostics) == {}
    fill(agent, 0)
    agent.learn(30)
    before = measures(diagnostics)
    agent.end_task(stream[0])
    diagnostics.end_task(stream[0])
    agent.begin_task(stream[1])
    fill(agent, 1)
    return agent, stream, diagnostics, before


def test_nothing_has_changed_right_after_a_boundary():
    _, _, diagnostics, before = one_task_done()
    assert {name for _, name in before} == {"dormant", "effective_rank", "weight_norm"}
    now = measures(diagnostics)
    for part in ("actor", "critic"):
        assert now[part, "drift"] == pytest.approx(0, abs=1e-6)
        assert now[part, "cka"] == pytest.approx(1, abs=1e-4)
        assert (part, "refit") not in now  # nothing was lost
    assert now["actor", "kl_forward"] == pytest.approx(0, abs=1e-6)
    assert ("critic", "kl_forward") not in now


def test_a_changed_head_is_refitted_and_a_changed_trunk_is_not():
    agent, _, diagnostics, _ = one_task_done()
    with torch.no_grad():
        agent.actor.heads.items[0].kernel.add_(0.3 * normal(24, 4))
    head = measures(diagnostics)
    assert head["actor", "drift"] > 1e-3
    assert head["actor", "refit"] > 0.99
    assert head["actor", "cka"] == pytest.approx(1, abs=1e-4)
    assert head["critic", "drift"] == pytest.approx(0, abs=1e-6)

    agent, _, diagnostics, _ = one_task_done()
    with torch.no_grad():
        for kernel in (d.kernel for d in agent.actor.trunk.dense):
            kernel.copy_(normal(*kernel.shape, seed=9))
    trunk = measures(diagnostics)
    assert trunk["actor", "cka"] < 0.9
    assert trunk["actor", "refit"] < 0.99


def test_kl_is_that_of_the_two_policies():
    agent, _, diagnostics, _ = one_task_done()
    bias = agent.actor.heads.items[1].bias  # of the task in training
    with torch.no_grad():
        bias[:2].add_(0.5)  # the means; standard deviations stay
    now = measures(diagnostics)
    states = agent.replay.take(np.arange(len(agent.replay)))
    std = agent.parts["actor"].outputs(states).std
    expected = (0.5 * 0.25 / std.square()).sum(-1)
    for name in ("kl_forward", "kl_reverse"):
        assert expected.min().item() <= now["actor", name] <= expected.max().item()
    assert now["actor", "drift"] == pytest.approx(0, abs=1e-6)  # head 0 is another


def a_world_model_after_a_task():
    stream = corners(2)
    agent = crl.make_agent("r2i", stream, hidden=(16, 16), batch_size=4, sequence_length=12,
                           start_steps=30, train_ratio=24.0, imagined=10, horizon=4,
                           memory_options={"modes": 8, "blocks": 2})
    agent.attach([])
    diagnostics = Diagnostics(agent, stream, seed=0)
    play(agent, stream[0], 6)
    diagnostics.end_task(stream[0])
    agent.begin_task(stream[1])
    return agent, stream, diagnostics


def test_what_a_world_model_and_what_an_actor_forgets_are_told_apart():
    agent, stream, diagnostics = a_world_model_after_a_task()
    now = measures(diagnostics)
    assert now["model", "loss"] > 0
    for part, name in (("model", "loss_rise"), ("model", "drift_alone"), ("actor", "drift_alone"),
                       ("actor", "drift")):
        assert now[part, name] == pytest.approx(0, abs=1e-6)
    saved = diagnostics.state_dict()

    def after(part):
        """The measures once every weight of a part has moved by a tenth, by a loaded copy too."""
        generator = torch.Generator().manual_seed(0)
        parameters = list(agent.parts[part].module.parameters())
        before = [p.detach().clone() for p in parameters]
        again = Diagnostics(agent, stream, seed=5)
        again.load_state_dict(saved)
        with torch.no_grad():
            for p in parameters:
                p.add_(0.1 * torch.randn(p.shape, generator=generator))
            found = measures(again)
            for p, old in zip(parameters, before, strict=True):
                p.copy_(old)
        return found

    model, actor = after("model"), after("actor")
    assert model["model", "loss_rise"] > 0.1
    assert model["model", "drift_alone"] == pytest.approx(model["actor", "drift"])
    assert model["actor", "drift_alone"] == pytest.approx(0, abs=1e-6)
    for name in ("loss_rise", "drift_alone"):
        assert actor["model", name] == pytest.approx(0, abs=1e-6)
    assert actor["actor", "drift_alone"] == pytest.approx(actor["actor", "drift"])
    assert actor["actor", "drift"] > 1e-3


def test_policies_are_measured_as_they_are_deployed():
    """PackNet's old policies never change, though their network does."""
    def drift(*methods):
        agent, stream = make_agent(*methods)
        diagnostics = Diagnostics(agent, stream, seed=0)
        for task in stream[:2]:
            agent.begin_task(task)
            fill(agent, task.head)
            agent.learn(30)
            agent.end_task(task)
            if task.head == 0:
                diagnostics.end_task(task)
        return measures(diagnostics)["actor", "drift"]

    assert drift(crl.make_method("packnet")) == pytest.approx(0, abs=1e-6)
    assert drift() > 1e-3


# ---- in a run ----


def train(out, **settings):
    stream = corners(2, 120)
    agent = crl.make_agent("sac", stream, hidden=(8,), start_steps=20, update_after=20,
                           batch_size=8)
    return crl.train(agent, stream, ["ewc"], out=out, eval_episodes=1, eval_every=50, **settings)


def test_a_run_has_them_in_its_folder_and_they_change_nothing_else(tmp_path):
    with_them, without = train(tmp_path / "a", diagnose=True), train(tmp_path / "b")
    for name in ("train", "evals"):
        columns = [getattr(run, name)() for run in (with_them, without)]
        for column in columns[0].keys() - set(ONCE_TIMED):
            assert (columns[0][column] == columns[1][column]).all()
    rows = with_them.diagnostics()
    assert without.diagnostics() is None
    assert set(rows["part"]) == {"actor", "critic"}
    assert set(rows["measure"][rows["train_task"] == 1]) >= {"dormant", "drift", "cka",
                                                             "kl_forward"}
    assert np.isfinite(rows["value"]).all()
    # At the end of task 1 they still compare with the end of task 0.
    last = (rows["env_step"] == 240) & (rows["measure"] == "kl_forward")
    assert (rows["value"][last] > 0).all()
