"""VCL: the sampled layer against its moments, the KL against torch's, and what is pulled where."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from visits import fill, make_agent, outputs, visit

import crl
from crl.methods.vcl import BayesianDense
from crl.nn.layers import Dense


def bayesian(log_variance: float = -1.0) -> BayesianDense:
    generator = torch.Generator().manual_seed(0)
    layer = BayesianDense(Dense(3, 4, generator), log_variance, generator)
    with torch.no_grad():
        for p in (layer.kernel_log_variance, layer.bias_log_variance):
            p.add_(torch.randn(p.shape, generator=generator))
    return layer


def test_outputs_have_the_moments_of_the_closed_form():
    layer, x = bayesian(), torch.tensor([[1.0, -2.0, 0.5]])
    draws = torch.stack([layer(x, 0)[0] for _ in range(5_000)]).detach()
    mean = (x @ layer.kernel + layer.bias)[0].detach()
    variance = (x.square() @ layer.kernel_log_variance.exp()
                + layer.bias_log_variance.exp())[0].detach()
    assert ((draws.mean(0) - mean).abs() < 5 * (variance / len(draws)).sqrt()).all()
    torch.testing.assert_close(draws.var(0), variance, rtol=0.1, atol=0)
    torch.testing.assert_close(layer.eval()(x, 0)[0], mean)  # frozen: the means, without variance


def test_one_sample_of_the_weights_serves_the_whole_batch():
    layer = bayesian()
    first, second = layer(torch.ones(2, 3), 0)
    assert torch.equal(first, second)
    assert not torch.equal(layer(torch.ones(1, 3), 0)[0], first)


def test_copies_use_the_means_and_draw_from_nobody():
    layer = bayesian()
    twin, state = copy.deepcopy(layer), layer._generator.get_state()
    x = torch.ones(1, 3)
    torch.testing.assert_close(twin(x, 0), layer.eval()(x, 0))
    assert torch.equal(layer._generator.get_state(), state)
    agent, stream = make_agent(crl.make_method("vcl", parts=("actor", "critic")))
    agent.begin_task(stream[0])
    fill(agent, 0)
    batch = agent.replay.take(torch.arange(4).numpy())
    values = [network(batch.obs, batch.action, 0) for network in
              (agent.critics, agent.critics, agent.targets["critic"], agent.targets["critic"])]
    assert not torch.equal(values[0], values[1])  # networks that learn are sampled
    assert torch.equal(values[2], values[3])
    assert (outputs(agent, stream[0]) == outputs(agent, stream[0])).all()


def after_a_task(**settings):
    method = crl.make_method("vcl", **settings)
    agent, stream = make_agent(method)
    visit(agent, stream[0])
    return agent, stream, method


def moved(agent):
    """Pushes all parameters of the actor away from where they are."""
    with torch.no_grad():
        for i, p in enumerate(agent.actor.parameters()):
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i)) + 0.1)


def test_the_kl_is_that_of_the_hidden_layers_as_torch_has_it():
    agent, _, method = after_a_task(coefficient=3.0)
    prior = copy.deepcopy(agent.actor)
    part = agent.parts["actor"]
    assert method.loss(part, None).item() == 0
    moved(agent)

    def normals(actor):
        return [Normal(getattr(dense, n), getattr(dense, f"{n}_log_variance").mul(0.5).exp())
                for dense in actor.trunk.dense for n in ("kernel", "bias")]

    pairs = list(zip(normals(agent.actor), normals(prior), strict=True))
    expected = 3.0 * sum(kl_divergence(q, p).sum() for q, p in pairs)
    reverse = 3.0 * sum(kl_divergence(p, q).sum() for q, p in pairs)
    loss = method.loss(part, None)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert abs(reverse.item() / expected.item() - 1) > 0.05  # the control: the other direction
    agent.actor.zero_grad()
    loss.backward()
    reached = {n for n, p in part.parameters().items() if p.grad is not None and p.grad.any()}
    assert reached == {f"trunk.dense.{i}.{n}{end}" for i in range(2) for n in ("kernel", "bias")
                       for end in ("", "_log_variance")}


def test_the_kl_pulls_towards_the_prior():
    def left(coefficient: float) -> float:
        agent, stream, method = after_a_task(coefficient=coefficient)
        agent.begin_task(stream[1])
        fill(agent, 1)
        moved(agent)
        before = method.divergence(agent.parts["actor"]).item()
        agent.learn(200)
        return method.divergence(agent.parts["actor"]).item() / before

    assert left(10.0) < 0.2
    assert left(0.0) > 0.5  # the control


def test_there_is_no_kl_in_the_first_task_and_the_prior_follows():
    method = crl.make_method("vcl")
    agent, stream = make_agent(method)
    part = agent.parts["actor"]
    for task in stream:
        assert (method.loss(part, None) is None) == (task is stream[0])
        visit(agent, task)
        assert method.divergence(part).item() == 0


def test_the_layers_begin_as_they_were_and_heads_stay_as_they_are():
    plain, stream = make_agent()
    agent, _ = make_agent(crl.make_method("vcl"))
    assert (outputs(agent, stream[1]) == outputs(plain, stream[1])).all()
    extra = {n for n, _ in agent.actor.named_parameters()} - {
        n for n, _ in plain.actor.named_parameters()}
    assert extra == {f"trunk.dense.{i}.{n}_log_variance" for i in range(2)
                     for n in ("kernel", "bias")}
    assert all((p == -6).all() for n, p in agent.actor.named_parameters() if n in extra)


def test_normalisation_is_trained_in_the_first_task_only():
    def norms(agent):
        return torch.cat([p.detach().flatten() for p in agent.actor.trunk.norm.parameters()])

    method = crl.make_method("vcl")
    agent, stream = make_agent(method, reset=("replay",))  # momentum goes on
    start = norms(agent)
    visit(agent, stream[0])
    first = norms(agent)
    visit(agent, stream[1])
    assert not torch.equal(start, first)
    assert torch.equal(first, norms(agent))


def test_importance_is_measured_at_the_means():
    """EWC next to it: the Fisher matrix does not depend on draws, nor takes any."""
    ewc, vcl = crl.make_method("ewc", batches=1, batch_size=16), crl.make_method("vcl")
    agent, stream = make_agent(vcl, ewc)
    agent.begin_task(stream[0])
    fill(agent, 0)
    state = vcl._generator.get_state()
    ewc.end_task(stream[0])
    assert torch.equal(vcl._generator.get_state(), state)


@pytest.mark.parametrize("other", ["packnet"])
def test_methods_that_own_kernels_are_refused(other):
    with pytest.raises(crl.UserError, match=f"'vcl' and '{other}' cannot share the kernels"):
        make_agent(crl.make_method("vcl"), crl.make_method(other))


def test_weights_that_are_drawn_anew_are_refused():
    with pytest.raises(crl.UserError, match=r"agent\.reset would re-draw"):
        make_agent(crl.make_method("vcl"), reset=("replay", "actor"))
