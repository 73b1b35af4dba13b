"""Recurrent soft actor-critic: against the feed-forward one, and what only a memory can do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import corners, play

import crl
from crl.agents.recurrent_sac import RecurrentSAC
from crl.agents.sac import SAC
from crl.nn.distributions import TanhGaussian
from crl.registry import memories
from crl.replay import Batch

SMALL = {"hidden": (16, 16), "memory_size": 8, "batch_size": 4, "sequence_length": 12,
         "start_steps": 30, "update_after": 30, "update_to_data": 0.5, "learning_rate": 1e-3}
OPTIONS = {"s5": {"modes": 8, "blocks": 2}, "ffm": {"traces": 4}, "hcam": {"chunks": 2, "chunk": 4},
           "rmc": {"width": 8}, "gtrxl": {"window": 6}}


def make(stream=None, seed=0, **settings) -> RecurrentSAC:
    options = OPTIONS.get(settings.get("memory", "gru"), {})
    agent = crl.make_agent("recurrent-sac", stream or corners(), seed=seed,
                           **{**SMALL, "memory_options": options, **settings})
    assert isinstance(agent, RecurrentSAC)
    agent.attach([])
    return agent


# ---- against the feed-forward agent ----


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("n_step", [1, 3])
def test_losses_are_those_of_feed_forward_sac_on_the_features(shared, n_step):
    agent = make(memory="gru", shared_memory=shared, n_step=n_step, reward_scale=0.3)
    play(agent, agent._stream[0], 3)
    batch = agent.replay.sample(5, np.random.default_rng(0))
    row, step = batch.usable.nonzero(as_tuple=True)
    reward, end, discount = (t[row, step] for t in batch.returns(n_step, agent.config.gamma))
    values_memory = "memory" if shared else "critic_memory"
    with torch.no_grad():
        seen = agent._features("memory", batch)
        valued, slow = agent._features(values_memory, batch), agent._slow_features(batch)

    def twin(critic_obs, next_obs):
        """Feed-forward SAC with the same weights; it has one observation for actor and critics."""
        class Wide:
            observation_space = type(agent._stream.observation_space)(
                -9, 9, (critic_obs.shape[1],), np.float32)
            action_space, boundaries, heads = agent._stream.action_space, "known", 3
            name = "wide"

        other = SAC(Wide(), crl.agents.sac_config.SACConfig(
            hidden=SMALL["hidden"], reward_scale=0.3, gamma=agent.config.gamma))
        for mine, theirs in ((agent.parts["actor"].module, other.actor),
                             (agent.parts["critic"].module, other.critics),
                             (agent.targets["critic"], other.targets["critic"])):
            theirs.load_state_dict(mine.state_dict())
        with torch.no_grad():
            other.log_temperatures[0].copy_(agent.log_temperatures[0])
        return other, Batch(critic_obs, batch.action[row, step + 1], reward, next_obs, discount, 0)

    state = agent._generator.get_state()
    next_noise, noise = (torch.randn((len(row), 2), generator=agent._generator) for _ in range(2))
    agent._generator.set_state(state)
    agent._clear_gradients()
    losses = agent.losses(batch)
    # The actor's loss and the temperature's: with the policy's features everywhere, which is what
    # the critics see too if the memory is shared.
    if shared:
        other, transitions = twin(seen[row, step], seen[row, end])
        expected = other.backward(transitions, noise, next_noise)
        assert losses["actor"].item() == pytest.approx(float(expected["actor"]), rel=1e-4)
        assert losses["temperature"].item() == pytest.approx(float(expected["temperature"]),
                                                             rel=1e-4)
        torch.autograd.backward([losses["actor"], losses["temperature"]])
        ours = agent.parts["actor"].parameters()
        for name, p in other.parts["actor"].parameters().items():
            if p.grad is not None:
                assert torch.allclose(ours[name].grad, p.grad, rtol=1e-3, atol=1e-6), name
    # The critics' loss by its equation.
    with torch.no_grad():
        policy = TanhGaussian(agent.parts["actor"].module(seen[row, end], 0), next_noise)
        next_q = agent.targets["critic"](slow[row, end], policy.action, 0).amin(-1)
        alpha = agent.log_temperatures[0].exp()
        target = 0.3 * reward + discount * (next_q - alpha * policy.log_prob)
        q = agent.parts["critic"].module(valued[row, step], batch.action[row, step + 1], 0)
        loss = 0.5 * (q - target[:, None]).square().sum(-1).mean()
    assert losses["critic"].item() == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize("shared", [True, False])
def test_each_loss_reaches_its_own_parts_only(shared):
    agent = make(shared_memory=shared)
    play(agent, agent._stream[0], 3)
    batch = agent.replay.sample(5, np.random.default_rng(0))
    reached = {"critic": {"critic", "memory" if shared else "critic_memory"},
               "actor": {"actor"} if shared else {"actor", "memory"}, "temperature": set()}
    for name, parts in reached.items():
        agent._clear_gradients()
        agent.losses(batch)[name].backward()
        assert {part.name for part in agent.parts.values()
                if any(p.grad is not None and p.grad.abs().sum() > 0
                       for p in part.module.parameters())} == parts


def test_a_memory_may_be_trained_to_predict_instead():
    future = {"memory", "predictor"}
    both_ways = {"memory", "predictor", "code"}
    for losses, reached in ((("future",), {"future": future, "critic": {"critic"}}),
                            (("self",), {"self": both_ways, "critic": {"critic"}}),
                            (("values", "future"), {"future": future,
                                                    "critic": {"critic", "memory"}})):
        agent = make(memory_losses=losses)
        play(agent, agent._stream[0], 3)
        batch = agent.replay.sample(5, np.random.default_rng(0))
        for name, parts in reached.items():
            agent._clear_gradients()
            agent.losses(batch)[name].backward()
            assert {part.name for part in agent.parts.values()
                    if any(p.grad is not None for p in part.module.parameters())} == parts


def test_maps_of_a_self_predictor_learn_ten_times_faster():
    agent = make(memory_losses=("self",), learning_rate=1e-3)
    rates = {name: part.optimizer.param_groups[0]["lr"] for name, part in agent.parts.items()}
    assert rates == {"memory": 1e-3, "actor": 1e-3, "critic": 1e-3, "predictor": 1e-2,
                     "code": 1e-3}


def test_the_future_is_predicted_from_what_was_remembered():
    """A delayed echo: the next observation is the one of three steps ago, which only a memory has.

    The best guess without one is the mean, with a loss of ½ per coordinate.
    """
    rng, errors = np.random.default_rng(0), {}
    echo = rng.choice([-1.0, 1.0], (40, 33)).astype(np.float32)
    for t in range(4, 33):
        echo[:, t] = echo[:, t - 4]
    for memory in ("gru", "mlp"):
        agent = make(memory=memory, memory_size=16, memory_losses=("future",), learning_rate=1e-2,
                     batch_size=16, sequence_length=32)
        for signal in echo:
            for t in range(32):
                now, then = (np.full(3, signal[i], np.float32) for i in (t, t + 1))
                agent.replay.add(now, np.zeros(2, np.float32), 0.0, then, terminated=False,
                                 first=t == 0, head=0, state=np.zeros(16 if memory == "gru" else 0))
        agent.learn(300)
        batch = agent.replay.take(np.arange(40))
        with torch.no_grad():
            error = (agent._predictions(batch) - batch.obs[:, 1:]).square()[:, 4:]
        errors[memory] = 0.5 * error.mean().item()
    assert errors["gru"] < 0.1
    assert errors["mlp"] > 0.3


# ---- the memory ----


@pytest.mark.parametrize("memory", memories.names())
def test_a_policy_steps_through_what_the_learner_sees_at_once(memory):
    """Also across episodes: the stored states and what begins inside a piece are right."""
    agent = make(memory=memory, update_after=10_000, sequence_length=10)
    task = agent._stream[0]
    play(agent, task, 3)
    pieces = agent.replay.take(np.arange(len(agent.replay)))
    with torch.no_grad():
        outputs = agent.parts["actor"].outputs(pieces)
    policy, states = agent.policy(task), {}
    env = task.make()
    for e in range(3):
        obs, _ = env.reset(seed=e)
        state, first = policy.initial_state(1), np.array([True])
        rows = np.flatnonzero(agent.replay._columns["first"])[e]
        for t in range(25):
            taken = agent.replay._columns["action"][rows + t + 1]
            states[rows + t] = state
            _, state = policy.step(np.float32(obs)[None], state, first)
            mean = policy._actions.mode(policy.actor(
                policy.encoder.step(torch.from_numpy(np.float32(obs)[None]),
                                    torch.from_numpy(states[rows + t][1]),
                                    torch.from_numpy(states[rows + t][0]),
                                    torch.from_numpy(first))[0], policy.head))
            for b, t0 in zip(*np.nonzero(agent.replay._piece_row[:len(pieces.obs), None]
                                         + np.arange(10) == rows + t), strict=True):
                if pieces.usable[b, t0]:
                    assert torch.allclose(outputs.mean[b, t0].tanh(), mean[0], atol=1e-5)
            state = (state[0], taken[None])  # what was done, rather than what the policy would do
            obs, first = agent.replay._columns["obs"][rows + t + 1], np.array([False])


@pytest.mark.parametrize("name", ["recurrent-sac", "recurrent-ppo"])
def test_observations_are_scaled_alike_for_acting_and_learning(name):
    """By the moments of each task's own observations; a batch may be of several."""
    stream = corners(2)
    agent = crl.make_agent(name, stream, hidden=(16,), memory_size=8, sequence_length=30,
                           normalize_observations=True, reset=())
    agent.attach([])
    for task in stream:
        play(agent, task, 2)
    batch = agent.replay.take(np.arange(len(agent.replay)))
    with torch.no_grad():
        outputs = agent.parts["actor"].outputs(batch)
    for b in range(len(batch.obs)):
        head = int(batch.heads[b])
        seen = agent.replay._columns["obs"][agent.replay._columns["head"] == head]
        shift, factor = agent._scaling.of(head)
        assert np.allclose(shift, seen[:52].mean(0), atol=0.05)  # its last ones are not counted
        policy = agent.policy(stream[head])
        state, first = policy.initial_state(1), np.array([True])
        for t in range(25 if batch.first[b, 0] else 0):
            memory, previous = (torch.from_numpy(array) for array in state)
            scaled = ((batch.obs[b, t] - shift) * factor).clamp(-10, 10)[None]
            features, _ = policy.encoder.step(scaled, previous, memory, torch.from_numpy(first))
            expected = policy._actions.mode(policy.actor(features, head))
            action, state = policy.step(batch.obs[b, t].numpy()[None], state, first)
            assert np.allclose(policy._actions.to_env(expected.numpy()), action, atol=1e-6)
            assert torch.allclose(outputs.mean[b, t].tanh(), expected[0], atol=1e-5)
            state = (state[0], batch.action[b, t + 1].numpy()[None])
            first = np.array([False])


def test_features_of_an_episode_do_not_depend_on_what_came_before():
    agent = make(update_after=10_000, sequence_length=60)
    play(agent, agent._stream[0], 4)
    both = agent.replay.take(np.array([0, 1]))  # the second piece is the second episode
    begins = int(both.first[0].nonzero()[1])
    with torch.no_grad():
        one, two = agent._features("memory", both)
    assert torch.allclose(one[begins:], two[: len(one) - begins], atol=1e-6)
    garbled = replace(both, obs=both.obs.index_fill(1, torch.arange(begins), torch.nan))
    with torch.no_grad():
        assert torch.allclose(agent._features("memory", garbled)[0, begins:], one[begins:])


# ---- learning, saving ----


@pytest.mark.parametrize(("memory", "solved"), [("gru", True), ("mlp", False)])
def test_what_was_shown_is_remembered_only_by_a_memory(memory, solved):
    stream = crl.make_stream("memory-length-2", steps_per_task=3000)
    agent = make(stream, memory=memory, hidden=(32,), memory_size=16, batch_size=16,
                 sequence_length=3, start_steps=200, update_after=200, reward_scale=1.0,
                 learning_rate=3e-3, initial_temperature=0.01)
    play(agent, stream[0], 1000)
    episodes = crl.evaluate(agent.policy(stream[0]), stream[0], episodes=60, seed=1)
    success = np.mean([e.success_once for e in episodes])
    assert success == 1 if solved else success < 0.75


def test_continuous_control_is_learned_too():
    stream = corners(1)
    agent = make(stream, hidden=(32, 32), memory_size=16, learning_rate=3e-3, batch_size=8,
                 reward_scale=1.0, initial_temperature=0.01)
    play(agent, stream[0], 60)
    episodes = crl.evaluate(agent.policy(stream[0]), stream[0], episodes=10, seed=1)
    assert np.mean([e.success_once for e in episodes]) >= 0.9


@pytest.mark.parametrize(("stream", "memory"), [
    (corners(2), "s5"), (crl.make_stream("memory-length-9,memory-length-30"), "gru")])
def test_a_loaded_agent_goes_on_to_the_bit(stream, memory):
    agents = [make(stream, seed=1, memory=memory, burn_in=3) for _ in range(2)]
    play(agents[0], stream[0], 4)
    agents[1].load_state_dict(agents[0].state_dict())
    states = []
    for agent in agents:
        play(agent, stream[1], 3, seed=50)
        states.append(agent.state_dict())
    assert crl.checkpoint.same_structure(*states)
    for a, b in zip(_leaves(states[0]), _leaves(states[1]), strict=True):
        assert np.array_equal(a, b)


def _leaves(tree):
    if isinstance(tree, dict):
        return [leaf for value in tree.values() for leaf in _leaves(value)]
    if isinstance(tree, list):
        return [leaf for value in tree for leaf in _leaves(value)]
    return [tree]


def test_discrete_policies_speak_sb3():
    stream = crl.make_stream("t-maze-5", steps_per_task=100)
    policy = make(stream).policy(stream[0])
    action, state = policy.predict(np.zeros(4, np.float32))
    assert int(action) in range(4)
    assert np.shape(action) == ()
    actions, _ = policy.predict(np.zeros((3, 4), np.float32))
    assert actions.shape == (3,)
    assert state is not None
    assert policy.spec.discrete


def test_feed_forward_sac_says_who_can_choose():
    with pytest.raises(crl.UserError, match="--agent recurrent-sac"):
        crl.make_agent("sac", crl.make_stream("t-maze-5"))


@pytest.mark.parametrize(("settings", "hint"), [
    ({"memory": "elephant"}, "unknown memory 'elephant'"),
    ({"memory_options": {"colour": 1}}, "colour"),
    ({"memory_losses": ("future", "self")}, "future or self, not both"),
    ({"memory_losses": ("self",), "shared_memory": False}, "leave shared_memory at true"),
    ({"burn_in": 6}, "below half of sequence_length"),
    ({"reset": ("mind",)}, "reset can name replay, optimizer, memory"),
    ({"replay_size": 5}, "replay_size must be above sequence_length"),
])
def test_settings_that_cannot_be(settings, hint):
    with pytest.raises(crl.UserError, match=hint):
        make(**settings)
