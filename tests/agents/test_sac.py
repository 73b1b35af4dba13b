"""SAC against Stable-Baselines3's, and the properties its settings promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stable_baselines3 import SAC as SB3SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from toy import Corner, corners

import crl
from crl.agent import Step
from crl.agents.sac import SAC, SACConfig
from crl.replay import Batch


def make(stream=None, seed=0, **settings) -> SAC:
    settings = {"hidden": (32, 32), "batch_size": 16, "start_steps": 50, "update_after": 50,
                **settings}
    agent = crl.make_agent("sac", stream or corners(), seed=seed, **settings)
    assert isinstance(agent, SAC)
    agent.attach([])
    return agent


def random_batch(rng: np.random.Generator, size: int = 64, head: int = 0) -> Batch:
    def normal(*shape):
        return torch.from_numpy(rng.normal(size=shape).astype(np.float32))

    terminated = torch.from_numpy((rng.random(size) < 0.2).astype(np.float32))
    return Batch(normal(size, 3), normal(size, 2).tanh(), normal(size), normal(size, 3),
                 0.99 * (1 - terminated), head)


def play(agent: SAC, task, steps: int, seed: int = 0) -> float:
    """Trains on a task for some steps and returns the share of episodes that succeeded."""
    env = task.make()
    agent.begin_task(task)
    obs, _ = env.reset(seed=seed)
    first, successes, success = np.array([True]), [], False
    for i in range(steps):
        action = agent.act(obs[None], first)
        following, reward, terminated, truncated, info = env.step(action[0])
        agent.observe(Step(obs[None], action, np.array([reward], np.float32), following[None],
                           np.array([terminated]), np.array([truncated]), first, [info]))
        agent.update()
        obs, first, success = following, np.array([False]), success or info["success"]
        if terminated or truncated:
            successes.append(success)
            (obs, _), first, success = env.reset(seed=seed + i + 1), np.array([True]), False
    agent.end_task(task)
    return float(np.mean(successes))


# ---- against Stable-Baselines3 ----


def sb3_twin(agent: SAC) -> SB3SAC:
    """An SB3 SAC with the same weights, whose optimisers record gradients and change nothing."""
    twin = SB3SAC("MlpPolicy", Corner(0), learning_rate=0.0, tau=0.0, gamma=0.99, device="cpu",
                  policy_kwargs={"net_arch": [32, 32]}, target_entropy=-2.0)

    def put(linear, kernel, bias):
        with torch.no_grad():
            linear.weight.copy_(kernel.T)
            linear.bias.copy_(bias)

    actor = twin.policy.actor
    for linear, dense in zip((actor.latent_pi[0], actor.latent_pi[2]), agent.actor.trunk.dense,
                             strict=True):
        put(linear, dense.kernel, dense.bias)
    head = agent.actor.heads.items[0]
    put(actor.mu, head.kernel[:, :2], head.bias[:2])
    put(actor.log_std, head.kernel[:, 2:], head.bias[2:])
    for critics, ours in ((twin.policy.critic, agent.critics),
                          (twin.policy.critic_target, agent.targets["critic"])):
        for i, network in enumerate(critics.q_networks):
            layers = [*ours.twins[i].trunk.dense, ours.twins[i].heads.items[0]]
            for linear, dense in zip((network[0], network[2], network[4]), layers, strict=True):
                put(linear, dense.kernel, dense.bias)
    with torch.no_grad():
        twin.log_ent_coef.copy_(agent.log_temperatures[0])
    # SB3 adds 1e-6 inside log(1 − tanh²), a bias of 1e-5 in log π that ours does not have.
    twin.actor.action_dist.epsilon = 0.0
    twin.set_logger(configure(None, []))
    return twin


def test_losses_and_gradients_equal_those_of_stable_baselines3():
    agent = make(layer_norm=False, reward_scale=1.0, gamma=0.99)
    with torch.no_grad():  # a target that differs from the critic
        for p in agent.targets["critic"].parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    twin = sb3_twin(agent)
    batch = random_batch(np.random.default_rng(0))
    done = (batch.discount == 0).float()[:, None]
    twin.replay_buffer.sample = lambda *a, **k: ReplayBufferSamples(
        batch.obs, batch.action, batch.next_obs, done, batch.reward[:, None])

    gradients = {}

    def recorder(name, parameters):
        def step(*args, **kwargs):
            gradients[name] = [p.grad.clone() for p in parameters]
        return step

    twin.actor.optimizer.step = recorder("actor", list(twin.actor.parameters()))
    twin.critic.optimizer.step = recorder("critic", list(twin.critic.parameters()))
    twin.ent_coef_optimizer.step = recorder("temperature", [twin.log_ent_coef])
    torch.manual_seed(7)
    noise, next_noise = (torch.normal(torch.zeros(64, 2), torch.ones(64, 2)) for _ in range(2))
    torch.manual_seed(7)
    twin.train(gradient_steps=1, batch_size=64)

    losses = agent.backward(batch, noise, next_noise)
    logged = twin.logger.name_to_value
    for ours, theirs in (("critic", "critic_loss"), ("actor", "actor_loss"),
                         ("temperature", "ent_coef_loss")):
        assert losses[ours].item() == pytest.approx(logged[f"train/{theirs}"], abs=1e-5)

    actor = agent.actor
    head = actor.heads.items[0]
    mine = [d.kernel.grad.T if n == "kernel" else d.bias.grad
            for d in actor.trunk.dense for n in ("kernel", "bias")]
    mine += [head.kernel.grad[:, :2].T, head.bias.grad[:2],
             head.kernel.grad[:, 2:].T, head.bias.grad[2:]]
    for ours, theirs in zip(mine, gradients["actor"], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    mine = [d.kernel.grad.T if n == "kernel" else d.bias.grad for twin in agent.critics.twins
            for d in (*twin.trunk.dense, twin.heads.items[0]) for n in ("kernel", "bias")]
    for ours, theirs in zip(mine, gradients["critic"], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    torch.testing.assert_close(agent.log_temperatures[0].grad, gradients["temperature"][0][0],
                               atol=1e-5, rtol=0)

    # The control: another batch does not agree.
    other = agent.backward(random_batch(np.random.default_rng(1)), noise, next_noise)
    assert abs(other["critic"].item() - logged["train/critic_loss"]) > 1e-3


def test_stable_baselines3_can_evaluate_a_policy():
    policy = make().policy(corners()[0])
    mean, _ = evaluate_policy(policy, Corner(0), n_eval_episodes=2, warn=False)
    assert np.isfinite(mean)


# ---- learning ----


def test_learns_a_simple_task():
    agent = make(learning_rate=3e-3, n_step=3)
    task = corners()[0]
    play(agent, task, 2000)
    successes = [e.success_once for e in crl.evaluate(agent.policy(task), task, episodes=10)]
    assert np.mean(successes) >= 0.9
    fresh = [e.success_once for e in crl.evaluate(make().policy(task), task, episodes=10)]
    assert np.mean(fresh) <= 0.5


def test_nothing_draws_from_the_global_generators():
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    play(make(), corners()[0], 200)
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002


def test_equal_seeds_give_equal_agents_and_others_do_not():
    def weights(seed):
        agent = make(seed=seed)
        play(agent, corners()[0], 150)
        return torch.cat([p.detach().flatten() for p in agent.actor.parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_update_to_data_ratio_counts_gradient_steps():
    for ratio, expected in ((0.25, 25), (1.0, 100), (2.0, 200)):
        agent = make(update_to_data=ratio, update_after=50, start_steps=0)
        play(agent, corners()[0], 150)
        assert agent.gradient_steps == expected


# ---- tasks and heads ----


def test_only_the_current_head_is_trained():
    agent, stream = make(), corners()
    before = {n: p.detach().clone() for n, p in agent.actor.named_parameters()}
    play(agent, stream[1], 150)
    changed = {n for n, p in agent.actor.named_parameters() if not torch.equal(p, before[n])}
    heads = {n for n in before if n.startswith("heads.")}
    assert changed & heads == {n for n in heads if n.startswith("heads.items.1.")}
    assert {n for n in before if n.startswith("trunk.")} <= changed


def test_one_head_for_all_when_boundaries_are_hidden():
    assert len(make(corners(boundaries="hidden")).actor.heads.items) == 1
    assert len(make(multi_head=False).actor.heads.items) == 1
    assert len(make().actor.heads.items) == 3


@pytest.mark.parametrize("reset", [(), ("replay",), ("optimizer",), ("critic",), ("actor",)])
def test_reset_at_a_task_change_does_what_it_names(reset):
    agent, stream = make(reset=reset), corners()
    play(agent, stream[0], 150)
    trunks = {"actor": agent.actor.trunk, "critic": agent.critics.twins[1].trunk}
    before = {n: [p.detach().clone() for p in trunk.parameters()] for n, trunk in trunks.items()}
    agent.begin_task(stream[1])
    assert (len(agent.replay) == 0) == ("replay" in reset)
    assert (not agent.parts["actor"].optimizer.state) == ("optimizer" in reset)
    for name, trunk in trunks.items():
        same = all(torch.equal(a, b) for a, b in zip(before[name], trunk.parameters(),
                                                     strict=True))
        assert same == (name not in reset)


def exploring_heads(agent: SAC, task, returns: list[float]) -> list[int | None]:
    """The head that explores in each of the first episodes of a task with the given returns."""
    agent.begin_task(task)
    heads = []
    for value in returns:
        heads.append(agent._exploring_head(first=True))
        one = np.zeros((1, 3), np.float32)
        for first in (True, False):
            agent.act(one, np.array([first]))
            agent.observe(Step(one, np.zeros((1, 2), np.float32), np.array([value / 2]), one,
                               np.array([False]), np.array([False]), np.array([first]), [{}]))
    return heads


@pytest.mark.parametrize(("mode", "expected"), [
    ("uniform", [None, None, None]), ("current", [2, 2, 2]), ("previous", [1, 1, 1]),
    ("best_return", [0, 1, 0, 0, 0]),
])
def test_exploration_at_a_task_start(mode, expected):
    agent, stream = make(explore=mode), corners()
    for task in stream[:2]:
        play(agent, task, 60)
    # Old head 0 brings a return of 5, old head 1 of 1: the best one goes on, whatever follows.
    assert exploring_heads(agent, stream[2], [5.0, 1.0, 0.0, 9.0, 0.0][: len(expected)]) == expected


def test_first_task_explores_uniformly_where_there_is_no_earlier_head():
    for mode in ("uniform", "previous", "best_return"):
        assert exploring_heads(make(explore=mode), corners()[0], [1.0]) == [None]


# ---- policies ----


def test_a_policy_is_frozen_and_stays_within_bounds():
    agent, stream = make(), corners()
    policy = agent.policy(stream[0])
    obs = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32) * 5
    before, _ = policy.predict(obs)
    play(agent, stream[0], 150)
    after, _ = policy.predict(obs)
    assert np.array_equal(before, after)
    now, _ = agent.policy(stream[0]).predict(obs)
    assert not np.array_equal(before, now)
    samples = policy.predict(obs, deterministic=False)[0]
    assert np.abs(samples).max() <= 0.2 + 1e-6
    assert not np.array_equal(samples, before)


def test_predict_takes_one_or_many_and_refuses_other_shapes():
    policy = make().policy(corners()[0])
    one, _ = policy.predict(np.zeros(3))
    many, _ = policy.predict(np.zeros((4, 3)))
    assert one.shape == (2,)
    np.testing.assert_allclose(many, np.tile(one, (4, 1)), rtol=1e-6)
    for shape in ((4,), (2, 4), (1, 2, 3), ()):
        with pytest.raises(crl.UserError, match="expected"):
            policy.predict(np.zeros(shape))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_learns_on_cuda():
    stream = corners()
    agent = crl.make_agent("sac", stream, device="cuda", hidden=(32, 32), start_steps=50,
                           update_after=50)
    agent.attach([])
    play(agent, stream[0], 150)
    assert next(agent.actor.parameters()).is_cuda


def test_config_is_checked():
    for bad in ({"hidden": ()}, {"gamma": 1.5}, {"learning_rate": 0.0}, {"reset": ("heads",)},
                {"start_steps": -1}):
        with pytest.raises(crl.UserError):
            SACConfig(**bad)


def test_an_agent_made_for_fewer_tasks_is_refused_at_once(tmp_path):
    agent = crl.make_agent("sac", corners(2), hidden=(8,))
    with pytest.raises(crl.UserError, match="has head 2, the agent 2 heads; make the agent for"):
        crl.train(agent, corners(3), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
