"""Methods on an agent with a memory: they work on it, or say what they lack."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import ANYWHERE, corners, play

import crl
from crl.agents.parts_agent import PartsAgent
from crl.methods.ewc import fisher
from crl.stream import step_env

SMALL = {"hidden": (8,), "memory_size": 6, "batch_size": 4, "sequence_length": 12}
AGENTS = {
    "recurrent-sac": {"burn_in": 2, "start_steps": 20, "update_after": 20, "update_to_data": 0.3},
    "recurrent-ppo": {"rollout_steps": 40, "epochs": 2}}
FEW = {name: {"samples_per_task": 60, "batch_size": 24}
       for name in ("a-gem", "gem", "clonex")} | {
    name: {"samples_per_task": 60} for name in ("ser", "replay-scheduling",
                                                "power-law-rehearsal")} | {
    name: {"batches": 2, "batch_size": 24} for name in ("ewc", "mas")} | {
    "continual-backprop": {"maturity": 3, "rate": 0.05}, "redo": {"period": 5},
    "resets": {"period": 7}}
MADE_OF_LAYERS = {"vcl", "clnp", "relevance-masks", "rank-updates", "input-affine", "modulation"}
CONTINUOUS_ONLY = {"clonex", "ser"}


def make(*names, name="recurrent-sac", stream=None, seed=0, settings=(), **options
         ) -> tuple[PartsAgent, list]:
    stream = stream or corners(3)
    agent = crl.make_agent(name, stream, seed=seed, **{**SMALL, **AGENTS[name], **options})
    made = [crl.make_method(n, seed=7, **{**FEW.get(n, {}), **dict(settings)}) for n in names]
    agent.attach(made)
    return agent, stream


def flat(agent) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for part in agent.parts.values()
                      for p in part.module.parameters()])


def actions(agent, task, seed: int = 0) -> np.ndarray:
    """What the policy for a task does, over an episode of one that does nothing."""
    policy, env = agent.policy(task), task.make()
    obs, _ = env.reset(seed=seed)
    state, first, done = policy.initial_state(1), np.array([True]), []
    for _ in range(20):
        action, state = policy.step(np.float32(obs)[None], state, first)
        done.append(action[0])
        obs, *_ = step_env(env, np.zeros_like(action[0]))
        first = np.array([False])
    return np.array(done)


@pytest.mark.parametrize("name", ANYWHERE)
@pytest.mark.parametrize("agent", AGENTS)
def test_every_method_works_on_a_memory_or_says_what_it_lacks(agent, name):
    options = {"name": agent, **({"layer_norm": False} if name == "clnp" else {})}
    if name in MADE_OF_LAYERS:
        with pytest.raises(crl.UserError, match=f"{name!r}.*hidden layers; 'memory' is not"):
            make(name, **options)
        options["settings"] = {"parts": ("actor",)}
    agent, stream = make(name, **options)
    for task in stream:
        play(agent, task, 3)
        assert torch.isfinite(flat(agent)).all()
        assert np.isfinite(actions(agent, task)).all()


@pytest.mark.parametrize("name", [n for n in ANYWHERE if n not in MADE_OF_LAYERS])
def test_discrete_actions_too_or_the_reason(name):
    stream = crl.make_stream("memory-query-4,t-maze-4", steps_per_task=100)
    if name in CONTINUOUS_ONLY:
        with pytest.raises(crl.UserError, match="Gaussian outputs"):
            make(name, stream=stream)
        return
    agent, _ = make(name, stream=stream)
    for task in stream:
        play(agent, task, 12)
        assert torch.isfinite(flat(agent)).all()


@pytest.mark.parametrize("name", ANYWHERE)
@pytest.mark.parametrize("agent", AGENTS)
def test_a_saved_agent_goes_on_to_the_bit(agent, name):
    options = {"name": agent, **({"layer_norm": False} if name == "clnp" else {})}
    if name in MADE_OF_LAYERS:
        options["settings"] = {"parts": ("actor",)}
    (one, stream), (two, _) = make(name, **options), make(name, **options)
    play(one, stream[0], 3)
    two.load_state_dict(one.state_dict())
    for agent in (one, two):
        play(agent, stream[1], 3, seed=30)
    assert torch.equal(flat(one), flat(two))


def test_packnet_keeps_what_a_memory_does_to_the_bit():
    agent, stream = make("packnet")
    kept = []
    for task in stream:
        play(agent, task, 3)
        kept.append(actions(agent, task))
    for task, before in zip(stream, kept, strict=True):
        assert np.array_equal(actions(agent, task), before)
    plain, _ = make()
    for task in stream:
        play(plain, task, 3)
        kept.append(actions(plain, task))
    assert not np.array_equal(actions(plain, stream[0]), kept[3])  # control: fine-tuning moves


def test_methods_protect_the_memory_with_the_actor_by_default():
    agent, _ = make("ewc")
    assert [part.name for part in agent.methods.items[0].parts] == ["memory", "actor"]


@pytest.mark.parametrize("part", ["memory", "actor", "critic"])
def test_a_sequences_fisher_information_is_estimated_without_bias(part):
    """Against the sum over all outputs, one gradient each."""
    agent, stream = make(memory="s5", memory_options={"modes": 4, "blocks": 1, "layers": 1})
    play(agent, stream[0], 3)
    batch = agent.replay.sample(1, np.random.default_rng(0))
    part = agent.parts[part]
    outputs = part.outputs(batch)
    if part.gaussian:
        variance = outputs.std.detach().square() + 1e-6
        terms = [(outputs.mean, 1 / variance), (outputs.std, 2 / variance)]
    else:
        terms = [(outputs, torch.ones_like(outputs))]
    exact = {name: torch.zeros_like(p) for name, p in part.shared_parameters().items()}
    for values, weights in terms:
        for value, weight in zip(values.flatten(), weights.flatten(), strict=True):
            found = torch.autograd.grad(value, list(part.shared_parameters().values()),
                                        retain_graph=True, allow_unused=True)
            for name, g in zip(exact, found, strict=True):
                if g is not None:
                    exact[name] += (weight * g.square()).detach()
    rng = np.random.default_rng(1)
    repeated = [fisher(part, [batch], rng=rng) for _ in range(600)]
    for name in exact:
        draws = torch.stack([r[name] for r in repeated])
        error = draws.std(0) / len(draws) ** 0.5
        assert ((draws.mean(0) - exact[name]).abs() <= 5 * error + 1e-7).all(), name


def test_steps_that_are_not_usable_do_not_count():
    agent, stream = make()
    play(agent, stream[0], 3)
    batch = agent.replay.sample(4, np.random.default_rng(0))
    nothing = replace(batch, usable=torch.zeros_like(batch.usable))
    importance = fisher(agent.parts["memory"], [nothing], rng=np.random.default_rng(0))
    assert all((value == 0).all() for value in importance.values())
