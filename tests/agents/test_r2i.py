"""R2I: one model in two ways of running it, returns by hand, and what its losses reach."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import corners, play

import crl
from crl.agents.r2i import R2I
from crl.agents.r2i_behaviour import ReturnScale, bounded, imagine, lambda_returns
from crl.agents.r2i_model import TWO_HOT
from crl.registry import memories, methods

SMALL = {"hidden": (16, 16), "batch_size": 4, "sequence_length": 12, "start_steps": 30,
         "train_ratio": 24.0, "imagined": 10, "horizon": 4}
OPTIONS = {"s5": {"modes": 8, "blocks": 2}, "hcam": {"chunks": 2, "chunk": 4},
           "gtrxl": {"window": 6}}
FEW = {name: {"samples_per_task": 24, "batch_size": 24}
       for name in ("a-gem", "gem", "clonex")} | {
    name: {"samples_per_task": 24} for name in ("ser", "replay-scheduling",
                                                "power-law-rehearsal")} | {
    name: {"batches": 2, "batch_size": 24} for name in ("ewc", "mas")}


def make(stream=None, seed=0, names=(), **settings) -> R2I:
    options = OPTIONS.get(settings.get("memory", "s5"), {})
    agent = crl.make_agent("r2i", stream or corners(), seed=seed,
                           **{**SMALL, "memory_options": options, **settings})
    assert isinstance(agent, R2I)
    agent.attach([crl.make_method(n, seed=3, **FEW.get(n, {})) for n in names])
    return agent


def played(episodes=6, **settings) -> tuple[R2I, crl.TaskStream]:
    stream = settings.pop("stream", None) or corners()
    agent = make(stream, **settings)
    play(agent, stream[0], episodes)
    return agent, stream


def everything(agent):
    return agent.replay.take(np.arange(len(agent.replay)))


# ---- the model ----


@pytest.mark.parametrize("posterior", ["observation", "recurrent"])
@pytest.mark.parametrize("memory", memories.names())
def test_observing_a_chunk_is_observing_its_rows(memory, posterior):
    """Across episodes that begin inside it, from the state that acting left."""
    agent, _ = played(memory=memory, posterior=posterior, start_steps=1000)
    batch, model = everything(agent), agent.model
    assert batch.first[:, 1:].any()
    with torch.no_grad():
        belief, chances, _ = model.observe(batch, None)
        state = batch.state
        for t in range(batch.first.shape[1]):
            at = model.step(batch.obs[:, t], batch.action[:, t], state, batch.first[:, t], None)
            for whole, one in zip(belief, at, strict=True):
                torch.testing.assert_close(whole[:, t], one, atol=1e-4, rtol=1e-4)
            state = at.remembered
    assert chances.exp().sum(-1).allclose(torch.ones(()))


def test_what_acting_left_is_where_the_next_chunk_goes_on():
    agent, _ = played(start_steps=1000)
    batch = everything(agent)
    with torch.no_grad():
        belief, _, _ = agent.model.observe(batch, None)
    z = agent.model.latents
    # Latents are drawn when acting; what the core makes of what it was given is not.
    state = batch.state[:, :z]
    assert set(state[1:].unique().tolist()) <= {0.0, 1.0}
    assert (state[1:].sum(-1) == 8).all()
    last = batch.first[:, 0].logical_not()
    assert last[1:].any()
    assert belief.core.shape[-1] == batch.state.shape[-1] - z


@pytest.mark.parametrize("posterior", ["observation", "recurrent"])
def test_nothing_crosses_the_start_of_an_episode(posterior):
    agent, _ = played(posterior=posterior, start_steps=1000)
    batch = everything(agent)
    row, begins = next((r, t) for r, t in batch.first.nonzero().tolist() if t > 1)
    one = batch.rows(torch.tensor([row]))
    broken = replace(one, obs=one.obs.clone(), action=one.action.clone(),
                     state=torch.full_like(one.state, torch.nan))
    broken.obs[:, :begins], broken.action[:, :begins + 1] = torch.nan, torch.nan
    with torch.no_grad():
        clean, found = (agent.model.observe(b, None)[0] for b in (one, broken))
    for a, b in zip(clean, found, strict=True):
        torch.testing.assert_close(a[:, begins:], b[:, begins:])
    assert not found.h[:, begins - 1].isfinite().all()


def test_imagining_is_stepping_without_seeing():
    """The core is given what it would be given; what it says does not depend on what is seen."""
    agent, _ = played(start_steps=1000)
    model, batch = agent.model, everything(agent)
    with torch.no_grad():
        belief, _, _ = model.observe(batch, None)
        within = batch.first[:, 5].logical_not()
        imagined = model.imagine(type(belief)(*(part[:, 4] for part in belief)),
                                 batch.action[:, 5], None)
    assert within.any()
    for name in ("h", "core"):
        torch.testing.assert_close(getattr(imagined, name)[within],
                                   getattr(belief, name)[:, 5][within], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("free", [0.5, 1.0])
def test_losses_are_their_equations(free):
    agent, _ = played(free_nats=free)
    batch, model = everything(agent), agent.model
    seed = agent._generator.get_state()
    losses, _ = model.losses(batch, agent._generator)
    agent._generator.set_state(seed)
    belief, posterior, prior = model.observe(batch, agent._generator)
    told = torch.cat((belief.h, belief.z), -1)
    obs = batch.obs.sign() * (batch.obs.abs() + 1).log()
    assert losses["observation"].item() == pytest.approx(
        ((model.decoder(told) - obs) ** 2).sum(-1).mean().item(), rel=1e-5)
    logits = model.goes_on(told.flatten(0, 1), 0).view(batch.ended.shape)
    chance = torch.where(batch.ended, 1 - logits.sigmoid(), logits.sigmoid())
    assert losses["end"].item() == pytest.approx(-chance.log().mean().item(), rel=1e-4)
    p, q = (0.99 * chances.exp() + 0.01 / chances.shape[-1] for chances in (posterior, prior))
    kl = (p * (p / q).log()).sum((-1, -2))
    assert losses["prior"].item() == pytest.approx(0.5 * kl.mean().item(), rel=1e-4)
    assert losses["posterior"].item() == pytest.approx(0.1 * kl.clamp(min=free).mean().item(),
                                                       rel=1e-4)
    entropy = torch.distributions.Categorical(logits=posterior).entropy().sum(-1).mean()
    assert losses["entropy"].item() == pytest.approx(0.003 * entropy.item(), rel=1e-4)
    rewards = TWO_HOT.loss(model.reward(told.flatten(0, 1), 0), batch.reward.flatten())
    of_steps = rewards[~batch.first.flatten()]
    assert losses["reward"].item() == pytest.approx(of_steps.mean().item(), rel=1e-4)


def test_rewards_are_scaled_once_before_the_model_sees_them():
    plain, scaled = (played(reward_scale=scale, start_steps=1000)[0] for scale in (1.0, 3.0))
    batch = everything(scaled)
    assert batch.reward.abs().sum() > 0
    torch.testing.assert_close(batch.reward, 3 * everything(plain).reward)
    mine, theirs = (agent.losses(batch) for agent in (scaled, plain))
    assert {n: float(x.detach()) for n, x in mine.items()} == {
        n: float(x.detach()) for n, x in theirs.items()}


def test_each_loss_reaches_its_own_parts_only():
    agent, _ = played()
    batch = agent.replay.sample(4, np.random.default_rng(0))
    for name in ("observation", "reward", "end", "prior", "posterior", "entropy", "actor",
                 "critic"):
        agent._clear_gradients()
        agent.losses(batch)[name].backward()
        reached = {part.name for part in agent.parts.values()
                   if any(p.grad is not None for p in part.module.parameters())}
        assert reached == {name if name in ("actor", "critic") else "model"}


def test_a_reward_is_told_by_what_was_shown_and_only_with_memory():
    """The reward is an exclusive-or of the last action and of a bit that was shown steps before."""
    length = 3
    agent, _ = played(400, stream=crl.make_stream(f"memory-length-{length}"), hidden=(32,),
                      batch_size=16, sequence_length=24, start_steps=10**6, learning_rate=1e-3,
                      memory_options={"layers": 1, "modes": 16, "normalized": True})
    model, rng = agent.model, np.random.default_rng(0)
    for _ in range(800):
        losses, _ = model.losses(agent.replay.sample(16, rng), agent._generator)
        model.zero_grad()
        sum(losses.values()).backward()
        agent.parts["model"].optimizer.step()

    batch = everything(agent)
    asked = batch.reward != 0
    asked[:, :length + 1] = False  # of these, it was shown before the chunk

    @torch.no_grad()
    def right(batch):
        told = model.told(model.observe(batch, None)[0]).flatten(0, 1)
        reward = TWO_HOT.mean(model.reward(told, 0)).view(asked.shape)
        return (reward[asked].sign() == batch.reward[asked].sign()).float().mean().item()

    assert right(batch) > 0.95
    assert right(replace(batch, first=torch.ones_like(batch.first))) < 0.6


# ---- behaviour ----


def test_returns_are_those_by_hand():
    reward, discount = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[0.9], [0.0], [0.5]])
    value = torch.tensor([[7.0], [10.0], [20.0], [30.0]])
    third = 3 + 0.5 * 30
    second = 2 + 0.0
    first = 1 + 0.9 * (0.2 * 10 + 0.8 * second)
    found = lambda_returns(reward, discount, value, 0.8)
    torch.testing.assert_close(found, torch.tensor([[first], [second], [third]]))
    whole = lambda_returns(reward, torch.full((3, 1), 0.9), value, 1.0)
    assert whole[0].item() == pytest.approx(1 + 0.9 * 2 + 0.81 * 3 + 0.729 * 30)


def test_advantages_are_never_scaled_up():
    scale = ReturnScale(2)
    scale.see(torch.linspace(0, 100, 101), 0)
    scale.see(torch.linspace(0, 0.01, 101), 1)
    assert scale.of(0) == pytest.approx(90)
    assert scale.of(1) == 1
    assert scale.of(torch.tensor([1, 0])).tolist() == pytest.approx([1, 90])
    scale.see(torch.linspace(0, 200, 101), 0)
    assert scale.of(0) == pytest.approx(90.9)
    again = ReturnScale(2)
    again.load_state_dict(scale.state_dict())
    assert again.of(0) == scale.of(0)


@pytest.mark.parametrize("stream", [corners(), crl.make_stream("memory-length-5")])
def test_policies_never_stop_exploring(stream):
    actions = make(stream)._actions
    out = torch.full((1, actions.policy_size), -50.0)
    out[0, 0] = 50
    shaped = bounded(actions, out)
    if actions.discrete:
        assert shaped.exp().min().item() == pytest.approx(0.01 / actions.size, rel=1e-3)
    else:
        assert shaped[0, actions.size:].exp().tolist() == pytest.approx([0.1, 0.1], rel=1e-3)


def test_a_dream_is_of_the_policy_and_its_rewards():
    agent, _ = played()
    batch = agent.replay.sample(4, np.random.default_rng(0))
    with torch.no_grad():
        belief, _, _ = agent.model.observe(batch, None)
    start, head = agent._starts(batch, belief)
    assert head == 0
    assert len(start.z) == 10
    dream = imagine(agent.model, start, head, lambda features, h: torch.ones(10, 2),
                    sees="output", horizon=3, generator=agent._generator)
    assert torch.equal(dream.action, torch.ones(3, 10, 2))
    torch.testing.assert_close(dream.features[0], start.features("output"))
    with torch.no_grad():
        for t in range(3):
            told = dream.features[t + 1]
            torch.testing.assert_close(dream.reward[t], TWO_HOT.mean(agent.model.reward(told, 0)))
            torch.testing.assert_close(dream.goes_on[t],
                                       agent.model.goes_on(told, 0)[:, 0].sigmoid())


@pytest.mark.parametrize("sees", ["output", "hidden", "full"])
def test_a_policy_acts_as_the_learner_believes(sees):
    agent, stream = played(sees=sees)
    policy, batch = agent.policy(stream[0]), everything(agent)
    row, begins = next((r, t) for r, t in batch.first.nonzero().tolist() if t < 8)
    state = policy.initial_state(1)
    chunk = batch.rows(torch.tensor([row]))
    with torch.no_grad():
        features = agent._features(chunk)[0]
        expected = agent._actions.mode(agent._policy_out(features, 0))
    for t in range(begins, min(begins + 4, 12)):
        state = (state[0], chunk.action[:, t].numpy())
        action, state = policy.step(chunk.obs[:, t].numpy(), state, np.array([t == begins]))
        np.testing.assert_allclose(action[0], agent._actions.to_env(expected[t].numpy()), atol=1e-5)


# ---- as an agent ----


@pytest.mark.parametrize("settings", [{}, {"keep": "half"}, {"posterior": "recurrent"},
                                      {"trunk": "hypernetwork", "memory": "gru"}])
def test_what_is_saved_goes_on_as_if_never_stopped(settings):
    agent, stream = played(**settings)
    play(agent, stream[1], 3)
    again = make(stream, seed=5, **settings)
    again.load_state_dict(agent.state_dict())
    more = [play(one, stream[1], 3, seed=9) for one in (agent, again)]
    assert more[0] == more[1]
    for name, part in agent.parts.items():
        for mine, theirs in zip(part.module.parameters(), again.parts[name].module.parameters(),
                                strict=True):
            assert torch.equal(mine, theirs), name


@pytest.mark.parametrize("name", methods.names())
def test_methods_work_on_it_or_say_what_they_lack(name):
    cls, stream = methods.load(name), corners(2)
    settings = {"reset": ("replay",)} if "fresh replay" in cls.needs else {}
    settings["layer_norm"] = name != "clnp"
    try:
        agent = make(stream, names=(name,), **settings)
    except crl.UserError as error:
        assert "hidden layers" in str(error) or "Gaussian" in str(error), error  # noqa: PT017
        own = {"parts": ("actor",)} if hasattr(cls.Config(), "parts") else {"part": "actor"}
        agent = make(stream, **settings)
        agent.attach([crl.make_method(name, seed=3, **{**FEW.get(name, {}), **own})])
    before = [p.detach().clone() for p in agent.parts["actor"].module.parameters()]
    for task in stream:
        play(agent, task, 4)
    after = agent.parts["actor"].module.parameters()
    assert any(a.shape != b.shape or not torch.equal(a, b)
               for a, b in zip(before, after, strict=False))
    assert crl.evaluate(agent.policy(stream[0]), stream[0], episodes=1)[0].length == 25


@pytest.mark.parametrize(("settings", "hint"), [
    ({"size": "50M"}, "size"), ({"horizon": 0}, "horizon must be above 0"),
    ({"train_ratio": 0.0}, "train_ratio must be above 0"), ({"keep": "all"}, "keep"),
    ({"replay_size": 20}, "at least twice sequence_length"),
    ({"normalize_observations": True}, "observations of any size"),
    ({"reset": ("memory",)}, "reset can name"), ({"free_nats": -1.0}, "free_nats"),
])
def test_settings_that_cannot_be(settings, hint):
    with pytest.raises(crl.UserError, match=hint):
        make(**settings)


def test_sizes_set_what_is_not_set():
    agent = crl.make_agent("r2i", corners(), size="1M", hidden=(8,))
    assert agent.config.hidden == (8,)
    assert agent.config.memory_options["layers"] == 3
    assert crl.make_agent("r2i", corners(), size="1M").config.hidden == (64, 64, 64)
    published = crl.make_agent("r2i", corners(), size="bsuite")
    assert published.model.latents == 32 * 32
    assert published.model.features_size("hidden") == 32 * 32 + 2 * 3 * 128


@pytest.mark.parametrize(("size", "millions"), [("nano", 0.43), ("1M", 1), ("12M", 12)])
def test_sizes_have_about_as_many_parameters_as_they_say(size, millions):
    agent = crl.make_agent("r2i", crl.make_stream("t-maze-10"), size=size)
    count = sum(p.numel() for part in agent.parts.values() for p in part.module.parameters())
    assert count == pytest.approx(1e6 * millions, rel=0.1)
