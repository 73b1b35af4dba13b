"""Recurrent PPO: its quantities against definitions, what it learns, that it goes on to the bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from toy import corners, play

import crl
from crl.agents.actions import BoundedActions, DiscreteActions
from crl.agents.recurrent_ppo import RecurrentPPO
from crl.checkpoint import same_structure

SMALL = {"hidden": (16,), "memory_size": 8, "batch_size": 4, "sequence_length": 12,
         "rollout_steps": 60, "epochs": 2}


def make(stream=None, seed=0, **settings) -> RecurrentPPO:
    agent = crl.make_agent("recurrent-ppo", stream or corners(), seed=seed, **{**SMALL, **settings})
    assert isinstance(agent, RecurrentPPO)
    agent.attach([])
    return agent


# ---- quantities ----


def test_probabilities_of_bounded_actions_are_stable_baselines():
    torch.manual_seed(0)  # theirs draw from it
    actions = BoundedActions(np.full(3, -2, np.float32), np.full(3, 5, np.float32))
    out = torch.randn(50, 6).clamp(max=2)  # above, log σ is bounded here and not there
    theirs = SquashedDiagGaussianDistribution(3, epsilon=1e-9)
    for i in range(50):
        theirs.proba_distribution(out[i:i + 1, :3].double(), out[i, 3:].double())
        action = theirs.sample().clamp(-1 + 1e-6, 1 - 1e-6)
        ours = actions.log_prob(out[i:i + 1].double(), action)
        assert float(ours) == pytest.approx(float(theirs.log_prob(action)), abs=1e-3)


def test_an_action_at_the_bound_has_a_finite_probability():
    actions = BoundedActions(np.array([-1], np.float32), np.array([1], np.float32))
    out = torch.tensor([[30.0, 1.0]])
    assert actions.sample(out, torch.Generator().manual_seed(0)).item() == 1
    assert torch.isfinite(actions.log_prob(out, torch.ones(1, 1)))


def test_entropies_are_those_of_the_distributions():
    out, generator = torch.randn(6, 4), torch.Generator().manual_seed(0)
    exact = torch.distributions.Categorical(logits=out).entropy()
    assert torch.allclose(DiscreteActions(4).entropy(out, generator), exact, atol=1e-6)
    # Narrow and far from the bounds, tanh is linear: the normal's own entropy and log tanh'(0.3).
    actions = BoundedActions(np.array([-1], np.float32), np.array([1], np.float32))
    out = torch.tensor([[0.3, -4.0]]).repeat(20_000, 1)
    exact = torch.distributions.Normal(0.3, np.exp(-4)).entropy() + np.log(1 - np.tanh(0.3) ** 2)
    assert float(actions.entropy(out, generator).mean()) == pytest.approx(float(exact), abs=0.02)


@pytest.mark.parametrize("shared", [True, False])
def test_what_is_stored_is_what_was_true_when_it_acted(shared):
    """Values and probabilities of sequences are those of a walk through the episodes."""
    agent = make(shared_memory=shared, rollout_steps=10_000, replay_size=20_000, gae_lambda=0.0)
    task = agent._stream[0]
    play(agent, task, 3)
    batch = agent.replay.take(np.arange(len(agent.replay)))
    rows = agent.replay._columns
    values, log_probs, states = {}, {}, {}
    for name in agent._memories:
        encoder, state = agent._encoder(name), torch.zeros(1, 8)
        for row in range(agent.replay._rows):
            first = torch.tensor([bool(rows["first"][row])])
            with torch.no_grad():
                features, state = encoder.step(
                    torch.tensor(rows["obs"][row:row + 1]),
                    torch.tensor(rows["action"][row:row + 1]), state, first)
                if name == agent._value_memory:
                    values[row] = float(agent.parts["critic"].module(features, 0))
                if name == "memory":
                    out = agent.parts["actor"].module(features, 0)
                    following = torch.tensor(rows["action"][row + 1:row + 2])
                    log_probs[row] = float(agent._actions.log_prob(out, following))
            states[name, row] = state
    found = [(b, t, agent.replay._piece_row[b] + t) for b, t in batch.usable.nonzero().tolist()]
    assert len(found) == sum(~rows["first"][:agent.replay._rows])
    for b, t, row in found:
        assert float(batch.log_prob[b, t + 1]) == pytest.approx(log_probs[row], abs=1e-3)
        gamma = 0.0 if rows["ended"][row + 1] else agent.config.gamma
        target = agent.config.reward_scale * rows["reward"][row + 1] + gamma * values[row + 1]
        assert float(batch.target[b, t + 1]) == pytest.approx(target, abs=1e-3)
        assert float(batch.advantage[b, t + 1]) == pytest.approx(target - values[row], abs=1e-3)


def test_the_first_gradient_is_the_policy_gradient():
    """Before a step the ratio is 1: −E[A ∇ log π], with advantages of mean 0 and variance 1."""
    agent = make(rollout_steps=10_000, replay_size=20_000, value_weight=0.0)
    play(agent, agent._stream[0], 4)
    batch = agent.replay.take(np.arange(len(agent.replay)))
    agent._clear_gradients()
    agent.losses(batch)["policy"].backward()
    ours = {n: p.grad.clone() for n, p in agent.parts["actor"].parameters().items()
            if p.grad is not None}
    agent._clear_gradients()
    row, step = batch.usable.nonzero(as_tuple=True)
    out = agent.parts["actor"].module(agent._features("memory", batch)[row, step], 0)
    advantage = batch.advantage[row, step + 1]
    normal = (advantage - advantage.mean()) / advantage.std()
    (-normal * agent._actions.log_prob(out, batch.action[row, step + 1])).mean().backward()
    for name, gradient in ours.items():
        expected = agent.parts["actor"].parameters()[name].grad
        assert torch.allclose(gradient, expected, atol=1e-5), name


@pytest.mark.parametrize(("shift", "advantage", "counts"), [
    (-1.0, 1.0, False),  # already more probable than 1 + clip, and good: no further
    (-1.0, -1.0, True),  # and bad: back
    (1.0, -1.0, False),  # less probable than 1 − clip, and bad: no further
    (1.0, 1.0, True),
    (0.0, 1.0, True),
])
def test_a_ratio_beyond_the_clip_counts_only_if_it_must_come_back(shift, advantage, counts):
    agent = make(rollout_steps=10_000, replay_size=20_000)
    play(agent, agent._stream[0], 2)
    batch = agent.replay.take(np.array([0]))
    usable = torch.zeros_like(batch.usable)
    usable[0, 3] = True  # a single step, whose advantage is not normalised
    batch = replace(batch, usable=usable, log_prob=batch.log_prob + shift,
                    advantage=torch.full_like(batch.advantage, advantage))
    agent._clear_gradients()
    agent.losses(batch)["policy"].backward()
    gradient = sum(p.grad.abs().sum() for p in agent.parts["actor"].module.parameters()
                   if p.grad is not None)
    assert (float(gradient) > 0) == counts


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_a_ratio_beyond_floats_has_a_finite_gradient(advantage):
    """A policy far in the tails of an old one: e to the 100th."""
    agent = make(rollout_steps=10_000, replay_size=20_000)
    play(agent, agent._stream[0], 2)
    batch = agent.replay.take(np.array([0]))
    usable = torch.zeros_like(batch.usable)
    usable[0, 3] = True
    batch = replace(batch, usable=usable, log_prob=batch.log_prob - 100,
                    advantage=torch.full_like(batch.advantage, advantage))
    assert all(gradient.isfinite().all() for part in agent.gradients(batch).values()
               for gradient in part.values())


@pytest.mark.parametrize("shared", [True, False])
def test_each_loss_reaches_its_own_parts_only(shared):
    agent = make(shared_memory=shared, entropy_weight=0.1)
    play(agent, agent._stream[0], 2)
    batch = agent.replay.take(np.arange(2))
    for name, parts in (("policy", {"memory", "actor"}), ("entropy", {"memory", "actor"}),
                        ("value", {"memory" if shared else "value_memory", "critic"})):
        agent._clear_gradients()
        agent.losses(batch)[name].backward()
        assert {part.name for part in agent.parts.values()
                if any(p.grad is not None for p in part.module.parameters())} == parts


def test_gradients_are_clipped_together():
    agent = make(max_gradient_norm=1e-3)
    play(agent, agent._stream[0], 2)
    found = agent.gradients(agent.replay.take(np.arange(2)))
    norm = sum(g.square().sum() for part in found.values() for g in part.values()) ** 0.5
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_it_updates_after_whole_episodes():
    agent = make(rollout_steps=60, epochs=2, batch_size=4)  # three episodes of 25 steps: 7 pieces
    task = agent._stream[0]
    play(agent, task, 2)
    assert agent.gradient_steps == 0
    play(agent, task, 3)  # a task's leftover is not learned from in the next
    assert agent.gradient_steps == 2 * 2


# ---- learning, saving ----


@pytest.mark.parametrize(("memory", "solved"), [("gru", True), ("mlp", False)])
def test_what_was_shown_is_remembered_only_by_a_memory(memory, solved):
    stream = crl.make_stream("memory-length-3", steps_per_task=8000)
    agent = make(stream, memory=memory, hidden=(32,), memory_size=16, batch_size=16,
                 sequence_length=4, rollout_steps=256, epochs=4, reward_scale=1.0,
                 learning_rate=3e-3)
    play(agent, stream[0], 2000)
    episodes = crl.evaluate(agent.policy(stream[0]), stream[0], episodes=60, seed=1)
    success = np.mean([e.success_once for e in episodes])
    assert success == 1 if solved else success < 0.75


def test_continuous_control_is_learned_too():
    stream = corners(1)
    agent = make(stream, hidden=(32, 32), memory_size=16, learning_rate=3e-3, batch_size=8,
                 rollout_steps=500, epochs=5, reward_scale=1.0)
    play(agent, stream[0], 300)
    episodes = crl.evaluate(agent.policy(stream[0]), stream[0], episodes=10, seed=1)
    assert np.mean([e.success_once for e in episodes]) >= 0.9


def test_a_loaded_agent_goes_on_to_the_bit():
    stream = corners(2)
    agents = [make(stream, seed=1, memory="s5", memory_options={"modes": 8, "blocks": 2},
                   entropy_weight=0.01) for _ in range(2)]
    task = stream[0]
    play(agents[0], task, 4)
    agents[1].load_state_dict(agents[0].state_dict())
    states = []
    for agent in agents:
        play(agent, stream[1], 4, seed=50)
        states.append(agent.state_dict())
    assert same_structure(*states)
    for name, part in agents[0].parts.items():
        for p, q in zip(part.module.parameters(), agents[1].parts[name].module.parameters(),
                        strict=True):
            assert torch.equal(p, q)


@pytest.mark.parametrize(("settings", "hint"), [
    ({"rollout_steps": 0}, "rollout_steps must be above 0"),
    ({"gae_lambda": 1.1}, "gae_lambda must be between 0 and 1"),
    ({"entropy_weight": -1.0}, "entropy_weight must not be negative"),
    ({"replay_size": 100}, "at least twice rollout_steps"),
])
def test_settings_that_cannot_be(settings, hint):
    with pytest.raises(crl.UserError, match=hint):
        make(**settings)
