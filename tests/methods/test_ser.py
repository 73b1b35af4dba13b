"""Strong experience replay: held to what was said on old states, and to the old policy on new."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence
from visits import fill, make_agent, visit

import crl
from crl.nn.distributions import mean_and_log_std


def drifted(*, drift=0.3, **settings):
    """An agent that finished two tasks and whose trunk was then pushed away from them."""
    method = crl.make_method("ser", seed=4, samples_per_task=200, **settings)
    agent, stream = make_agent(method)
    for task in stream[:2]:
        visit(agent, task)
    agent.begin_task(stream[2])
    fill(agent, 2)
    with torch.no_grad():
        for p in agent.actor.trunk.parameters():
            p.add_(drift * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
    return agent, method


def divergences(agent, method, draws=20):
    rng = np.random.default_rng(0)
    with torch.no_grad():
        both = [torch.stack(method.divergences(agent.parts["actor"], agent.replay.sample(64, rng)))
                for _ in range(draws)]
    return torch.stack(both).mean(0).tolist()


def test_both_terms_are_the_kl_to_what_was_said():
    """Against the distributions' own KL, with policies kept aside by the test."""
    agent, method = drifted(drift=0.0)
    old = {name: p.detach().clone() for name, p in agent.actor.named_parameters()}
    agent, method = drifted()
    batch = agent.replay.sample(32, np.random.default_rng(1))
    state = method._rng.bit_generator.state
    stored_rows = np.random.default_rng(0)
    stored_rows.bit_generator.state = state
    rows = torch.from_numpy(stored_rows.integers(len(method._stored["obs"]), size=32))
    head = method._stored["head"][rows]

    def normal(parameters, obs):
        out = torch.func.functional_call(agent.actor, parameters, (obs, head))
        mean, log_std = mean_and_log_std(out)
        return Normal(mean, log_std.exp())

    now = dict(agent.actor.named_parameters())
    forward = kl_divergence(normal(old, batch.obs), normal(now, batch.obs)).sum(-1).mean()
    said = Normal(method._stored["mean"][rows], method._stored["std"][rows])
    backward = kl_divergence(said, normal(now, method._stored["obs"][rows])).sum(-1).mean()
    ours = method.divergences(agent.parts["actor"], batch)
    torch.testing.assert_close(torch.stack(ours), torch.stack((backward, forward)), rtol=1e-4,
                               atol=1e-5)
    method._rng.bit_generator.state = state
    loss = method.loss(agent.parts["actor"], batch)
    torch.testing.assert_close(loss, 100 * backward + 100 * forward, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("settings", "held"), [
    ({"alpha": 100.0, "beta": 0.0}, 0), ({"alpha": 0.0, "beta": 100.0}, 1)])
def test_each_term_falls_by_its_own_weight(settings, held):
    agent, method = drifted(**settings)
    before = divergences(agent, method)
    agent.learn(120)
    assert before[held] > 0.05
    assert divergences(agent, method)[held] < 0.3 * before[held]


def test_without_weights_neither_falls():
    agent, method = drifted(alpha=0.0, beta=0.0)
    before = divergences(agent, method)
    agent.learn(120)
    assert all(now > 0.5 * then
               for now, then in zip(divergences(agent, method), before, strict=True))


def test_only_heads_of_finished_tasks_are_held():
    agent, method = drifted()
    batch = agent.replay.sample(64, np.random.default_rng(2))
    loss = method.loss(agent.parts["actor"], batch)
    loss.backward()
    gradients = [item.kernel.grad for item in agent.actor.heads.items]
    assert gradients[2] is None  # the head being learned is free
    assert all(g.abs().sum() > 0 for g in gradients[:2])


def test_right_after_a_task_the_old_policy_is_the_policy():
    agent, method = drifted(drift=0.0, alpha=0.0, beta=0.0)
    backward, forward = divergences(agent, method)
    assert forward == pytest.approx(0, abs=1e-6)
    assert backward > 1e-3  # what the second task changed on states of the first


def test_no_loss_in_the_first_task_or_for_other_parts():
    method = crl.make_method("ser", samples_per_task=50)
    agent, stream = make_agent(method)
    agent.begin_task(stream[0])
    fill(agent, 0)
    batch = agent.replay.sample(8, np.random.default_rng(0))
    assert method.loss(agent.parts["actor"], batch) is None
    agent.end_task(stream[0])
    assert method.loss(agent.parts["actor"], batch) is not None
    assert method.loss(agent.parts["critic"], batch) is None


def test_a_part_without_gaussian_outputs_and_negative_weights_are_refused():
    with pytest.raises(crl.UserError, match="Gaussian"):
        make_agent(crl.make_method("ser", part="critic"))
    with pytest.raises(crl.UserError, match="alpha and beta"):
        crl.make_method("ser", beta=-1.0)
