"""The average that is deployed, against the sum written out; learning does not notice it."""

from __future__ import annotations

import pytest
import torch
from visits import fill, flat, make_agent, outputs, visit

import crl


def make(**settings):
    return crl.make_method("ema", **{"ramp": 8, **settings})


def averaged(decays, weights) -> torch.Tensor:
    """Σ wₜθₜ with the weights that θ̄ ← dₜθ̄ + (1−dₜ)θₜ amounts to, from θ̄ = θ₀."""
    shares = [1.0]
    for d in decays[1:]:
        shares = [d * share for share in shares] + [1 - d]
    assert sum(shares) == pytest.approx(1)
    return sum(share * w.double() for share, w in zip(shares, weights, strict=True))


def test_what_is_deployed_is_the_weighted_sum_of_all_weights_so_far():
    agent, stream = make_agent(make())
    weights = []
    for task in stream[:2]:  # the average goes on across the boundary
        agent.begin_task(task)
        fill(agent, task.head)
        for _ in range(10):
            agent.learn(1)
            weights.append(flat(agent.actor))
    decays = [0.9 + 0.09 * min(1, t / 8) for t in range(20)]
    ours = flat(agent.policy(stream[1]).actor).double()
    torch.testing.assert_close(ours, averaged(decays, weights), atol=1e-6, rtol=1e-5)
    # The controls: no ramp; a new average for each task.
    assert not torch.allclose(ours, averaged([0.99] * 20, weights), atol=1e-4)
    assert not torch.allclose(ours, averaged(decays[:10], weights[10:]), atol=1e-4)
    assert not torch.allclose(ours, weights[-1].double(), atol=1e-4)


def test_learning_is_the_same_to_the_bit_and_evaluation_is_not():
    agents = [make_agent(*methods)[0] for methods in ([make()], [])]
    stream = make_agent()[1]
    for agent in agents:
        visit(agent, stream[0])
        visit(agent, stream[1])
    ours, plain = agents
    assert torch.equal(flat(ours.actor), flat(plain.actor))
    assert torch.equal(flat(ours.critics), flat(plain.critics))
    obs, first = torch.zeros(1, 3).numpy(), torch.ones(1, dtype=torch.bool).numpy()
    assert (ours.act(obs, first) == plain.act(obs, first)).all()
    assert (outputs(ours, stream[1]) != outputs(plain, stream[1])).any()


def test_before_the_first_step_and_with_no_decay_the_weights_are_deployed():
    agent, stream = make_agent(make(start=0.0, decay=0.0))
    assert torch.equal(flat(agent.policy(stream[0]).actor), flat(agent.actor))
    visit(agent, stream[0])
    assert torch.equal(flat(agent.policy(stream[0]).actor), flat(agent.actor))


@pytest.mark.parametrize("names", [["packnet", "ema"], ["ema", "packnet"]])
def test_packnet_says_itself_what_is_deployed(names):
    with pytest.raises(crl.UserError, match="cannot share the policy of the actor"):
        make_agent(*map(crl.make_method, names))


@pytest.mark.parametrize("bad", [{"decay": 1.0}, {"start": 0.999}, {"ramp": -1}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(crl.UserError, match=next(iter(bad))):
        make(**bad)
