"""Hypernetworks: what they give, and that the regulariser keeps it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy import corners, play

import crl
from crl.checkpoint import same_structure
from crl.memory.generated_network import GeneratedNetwork
from crl.memory.hypernetwork import Hypernetwork
from crl.nn.adam import Adam

SMALL = {"hidden": (16, 16), "batch_size": 32, "start_steps": 50, "update_after": 50,
         "trunk": "hypernetwork", "learning_rate": 3e-3}


def hypernetwork(sizes=(5, 16, 3), tasks=4, seed=0, **options) -> Hypernetwork:
    return Hypernetwork(sizes, tasks, Hypernetwork.Config(**options),
                        torch.Generator().manual_seed(seed))


def agent_on(stream, seed=0, **settings):
    agent = crl.make_agent("sac", stream, seed=seed, **{**SMALL, **settings})
    agent.attach([])
    return agent


def actions(agent, task) -> np.ndarray:
    policy = agent.policy(task)
    obs = np.random.default_rng(0).uniform(-1, 1, (200, 3)).astype(np.float32)
    return policy.step(obs, policy.initial_state(200), np.ones(200, bool))[0]


# ---- what it gives ----


@pytest.mark.parametrize(("sizes", "width", "target", "expected"), [
    ((6, 256, 256, 4), 128, 68_612, 8_868_868),  # cart-pole: angles come as cosine and sine
    ((12, 200, 200, 10), 50, 44_810, 2_288_410),  # pusher
    ((20, 200, 200, 18), 50, 48_018, 2_452_018),  # slide
])
def test_sizes_are_the_published_ones(sizes, width, target, expected):
    """Huang et al. 2021, "Continual Model-Based Reinforcement Learning with Hypernetworks"."""
    made = hypernetwork(sizes, width=width)
    assert made.size == target
    assert sum(p.numel() for p in made.shared_parameters().values()) == expected
    assert sum(p.numel() for p in made.heads.parameters()) == 4 * 10


@pytest.mark.parametrize("chunks", [1, 7])
def test_all_tasks_at_once_are_each_by_itself(chunks):
    made = hypernetwork(chunks=chunks)
    together = made.weights([2, 0, 3])
    for k, task in enumerate([2, 0, 3]):
        for ours, alone in zip(together, made.weights([task]), strict=True):
            assert torch.allclose(ours[k], alone[0], atol=1e-6)
    assert [tuple(w.shape[1:]) for w in together] == [(5, 16), (16,), (16, 3), (3,)]


@pytest.mark.parametrize("chunks", [1, 20])
def test_initial_weights_have_the_variance_they_would_have_of_their_own(chunks):
    weights = hypernetwork((40, 100, 100, 10), tasks=300, chunks=chunks).weights(range(300))
    for i, (size_in, gain) in enumerate(((40, 2), (100, 2), (100, 1))):
        kernel, bias = weights[2 * i], weights[2 * i + 1]
        assert float(kernel.detach().square().mean()) == pytest.approx(gain / size_in, rel=0.25)
        assert float(bias.detach().square().mean()) == pytest.approx(gain / size_in / 3, rel=0.5)


def test_chunks_need_fewer_parameters():
    sizes = [sum(p.numel() for p in hypernetwork((12, 200, 200, 10), chunks=chunks)
                 .shared_parameters().values()) for chunks in (1, 60)]
    assert sizes[1] < sizes[0] / 40


@pytest.mark.parametrize("layer_norm", [True, False])
def test_rows_get_the_network_of_their_head(layer_norm):
    network = GeneratedNetwork(5, 3, (16,), 4, torch.Generator().manual_seed(0),
                               layer_norm=layer_norm, config=Hypernetwork.Config())
    x, head = torch.randn(6, 5), torch.tensor([1, 1, 3, 0, 0, 1])
    out = network(x, head)
    for h in (0, 1, 3):
        with torch.no_grad():
            mine = x[head == h]
            assert torch.allclose(out[head == h], network(mine, h), atol=1e-6)
            assert torch.allclose(network(mine, h), network.of_head(h)(mine, h), atol=1e-6)
            kernel, bias, *last = (w[0] for w in network.hypernetwork.weights([h]))
            hidden = mine @ kernel + bias
            if layer_norm:
                hidden = (hidden - hidden.mean(1, keepdim=True)) / (
                    hidden.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
            expected = hidden.clamp(min=0) @ last[0] + last[1]
            assert torch.allclose(network(mine, h), expected, atol=1e-5)


def test_kept_weights_are_those_of_now():
    network = GeneratedNetwork(5, 3, (16,), 4, torch.Generator().manual_seed(0),
                               config=Hypernetwork.Config())
    optimizer = Adam(network.parameters(), 1e-2)
    x = torch.randn(6, 5)
    with torch.no_grad():
        before = network(x, 1)
        assert network.weights([1])[0] is network.weights([1])[0]
    network(x, 1).square().sum().backward()
    optimizer.step()
    with torch.no_grad():
        after = network(x, 1)
    assert not torch.allclose(after, before)
    assert torch.allclose(after, network(x, 1).detach())


# ---- the optimiser's next step ----


def step_ahead(optimizer: Adam, parameter: torch.nn.Parameter) -> torch.Tensor:
    out = torch.full_like(parameter.detach(), torch.nan)
    optimizer.ahead(parameter, out)
    return out


@pytest.mark.parametrize("size", [(20,), (300, 500)])
def test_ahead_is_where_the_step_that_follows_leads(size):
    """And torch's own Adam takes the same."""
    weights = [torch.nn.Parameter(torch.randn(size, generator=torch.Generator().manual_seed(0)))
               for _ in range(2)]
    ours, theirs = Adam(weights[:1], 1e-2), torch.optim.Adam(weights[1:], 1e-2)
    for step in range(10):
        gradient = torch.randn(size, generator=torch.Generator().manual_seed(step)) * 10.0**-step
        for parameter in weights:
            parameter.grad = gradient.clone()
        ahead, again = (step_ahead(ours, weights[0]) for _ in range(2))
        ours.step()
        theirs.step()
        assert torch.equal(weights[0], ahead)
        assert torch.equal(ahead, again)
        assert torch.allclose(weights[0], weights[1], atol=1e-6)
    weights[0].grad = None
    assert torch.equal(step_ahead(ours, weights[0]), weights[0])


# ---- the regulariser ----


def after_two_tasks(**settings):
    """An agent at the start of its third task, and its regulariser."""
    stream = corners(3)
    agent = agent_on(stream, **settings)
    for task in stream[:2]:
        play(agent, task, 6)
    agent.begin_task(stream[2])
    agent._clear_gradients()
    return agent, agent.methods.items[-1]


def test_right_after_the_snapshot_it_asks_for_nothing():
    agent, regularizer = after_two_tasks()
    regularizer.gradients()
    shared = agent.actor.hypernetwork.shared_parameters().values()
    assert all(p.grad.abs().max() < 1e-10 for p in shared)
    assert all(e.vector.grad is None for e in agent.actor.hypernetwork.heads.items)
    assert all(p.grad is None for p in agent.critics.parameters())  # the policy is what is kept


@pytest.mark.parametrize("chunks", [1, 5])
def test_its_gradient_is_that_of_finite_differences(chunks):
    agent, regularizer = after_two_tasks(trunk_options={"width": 4, "chunks": chunks,
                                                        "coefficient": 0.3})
    hypernetwork = agent.actor.hypernetwork.double()
    regularizer._targets = {n: t.double() for n, t in regularizer._targets.items()}
    regularizer._ahead = {name: {n: p.double() for n, p in room.items()}
                          for name, room in regularizer._ahead.items()}
    optimizer = agent.parts["actor"].optimizer
    optimizer.state.clear()
    draw = torch.Generator().manual_seed(0)
    shared = hypernetwork.shared_parameters()
    task_gradient = {n: torch.randn(p.shape, generator=draw).double() for n, p in shared.items()}
    for name, parameter in shared.items():
        parameter.grad = task_gradient[name].clone()
    ahead = {n: step_ahead(optimizer, p) - p.detach() for n, p in shared.items()}
    (target,) = regularizer._targets.values()

    @torch.no_grad()
    def penalty() -> float:  # at θ + Δθ; Δθ stays what it is when θ moves
        for name, parameter in shared.items():
            parameter += ahead[name]
        given = hypernetwork(hypernetwork.heads([0, 1]))
        for name, parameter in shared.items():
            parameter -= ahead[name]
        return 0.3 / 2 * float((given - target).square().sum())

    regularizer.gradients()
    for name, parameter in shared.items():
        found = (parameter.grad - task_gradient[name]).flatten()
        for i in torch.randint(parameter.numel(), (6,), generator=draw).tolist():
            flat, values = parameter.detach().view(-1), []
            for shift in (1e-5, -2e-5):
                flat[i] += shift
                values.append(penalty())
            flat[i] += 1e-5
            slope = (values[0] - values[1]) / 2e-5
            assert float(found[i]) == pytest.approx(slope, rel=1e-4, abs=1e-6), name


def test_without_a_coefficient_it_is_fine_tuning_to_the_bit():
    stream, weights = corners(2), []
    for regularized in (True, False):
        agent = agent_on(stream, trunk_options={"coefficient": 0.0})
        if not regularized:
            agent.methods.items = []
        for task in stream:
            play(agent, task, 5)
        weights.append(torch.cat([p.flatten() for p in agent.actor.parameters()]))
    assert torch.equal(*weights)


def test_old_policies_stay_and_without_it_they_do_not():
    changes = []
    for coefficient in (0.5, 0.0):
        stream = corners(3)
        agent = agent_on(stream, trunk_options={"coefficient": coefficient})
        play(agent, stream[0], 20)
        before = actions(agent, stream[0])
        embedding = agent.actor.hypernetwork.heads.items[0].vector.detach().clone()
        for task in stream[1:]:
            play(agent, task, 20)
        changes.append(np.abs(actions(agent, stream[0]) - before).mean())
        assert torch.equal(embedding, agent.actor.hypernetwork.heads.items[0].vector)
    assert changes[0] < changes[1] / 5
    assert changes[1] > 0.05  # of actions within ±0.2


@pytest.mark.parametrize("regularized", [0, 1])
def test_a_loaded_agent_goes_on_to_the_bit(regularized):
    stream = corners(3)
    agents = [agent_on(stream, seed=1, reset=("optimizer",),
                       trunk_options={"regularized": regularized})
              for _ in range(2)]
    for task in stream[:2]:
        play(agents[0], task, 4)
    agents[0].begin_task(stream[2])
    agents[1].load_state_dict(agents[0].state_dict())
    for agent in agents:
        agent.learn(20)
    assert same_structure(*(agent.state_dict() for agent in agents))
    for p, q in zip(*(agent.actor.parameters() for agent in agents), strict=True):
        assert torch.equal(p, q)


def test_what_is_kept_does_not_grow_with_the_tasks():
    """Beyond the embedding of each, which there is from the start."""
    stream = corners(4)
    agent, sizes = agent_on(stream), []
    for task in stream:
        play(agent, task, 3)
        kept = agent.methods.state_dict()["output-regularizer"]["before"]
        sizes.append(sum(a.size for tree in kept.values() for a in tree.values()))
    assert sizes[1] == sizes[2] == sizes[3] == sum(
        p.numel() for p in agent.actor.hypernetwork.shared_parameters().values())


def test_a_task_that_comes_again_is_not_held_where_it_was():
    stream = corners(2)
    agent = agent_on(stream)
    for task in (*stream, stream[0]):
        play(agent, task, 3)
    assert agent.methods.items[-1]._old == [1]


# ---- with the rest ----


def test_methods_work_on_it_or_say_what_they_lack():
    stream = corners(2)
    agent = crl.make_agent("sac", stream, **SMALL)
    agent.attach([crl.make_method("ewc", batches=2, batch_size=16), crl.make_method("ema")])
    for task in stream:
        play(agent, task, 4)
    with pytest.raises(crl.UserError, match="parts made of hidden layers; 'actor' is not"):
        crl.make_agent("sac", stream, **SMALL).attach([crl.make_method("relevance-masks")])
    with pytest.raises(crl.UserError, match="reset would re-draw"):
        agent_on(stream, reset=("replay", "actor"))


@pytest.mark.parametrize("name", ["recurrent-sac", "recurrent-ppo"])
def test_agents_with_a_memory_have_such_trunks_too(name):
    stream = corners(2)
    agent = crl.make_agent(name, stream, trunk="hypernetwork", hidden=(8,), memory_size=6,
                           batch_size=4, sequence_length=12)
    agent.attach([])
    for task in stream:
        play(agent, task, 2)
    assert crl.evaluate(agent.policy(stream[0]), stream[0], episodes=1)[0].length == 25


@pytest.mark.parametrize(("settings", "hint"), [
    ({"trunk": "mlp", "trunk_options": {"width": 3}}, "set trunk to hypernetwork"),
    ({"multi_head": False}, "leave multi_head at true"),
    ({"precision": "bf16"}, "leave trunk at mlp"),
    ({"trunk_options": {"width": 0}}, "width must be above 0"),
    ({"trunk_options": {"coefficient": -1.0}}, "coefficient must not be negative"),
    ({"trunk_options": {"depth": 2}}, "unknown setting"),
])
def test_settings_that_cannot_be(settings, hint):
    with pytest.raises(crl.UserError, match=hint):
        crl.make_agent("sac", corners(2), **{**SMALL, **settings})


def test_it_must_be_told_which_task_it_is():
    with pytest.raises(crl.UserError, match="must be told which task it is"):
        crl.make_agent("sac", corners(2, boundaries="hidden"), **SMALL)
