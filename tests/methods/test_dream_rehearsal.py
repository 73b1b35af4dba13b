"""Dream rehearsal: what dreams are made of, what is kept, what is rehearsed and cloned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy import corners, play

import crl
from crl.agents.r2i import R2I
from crl.agents.r2i_dreams import dream_chunks
from crl.nn.symlog import symexp

SMALL = {"hidden": (16, 16), "batch_size": 4, "sequence_length": 12, "start_steps": 30,
         "train_ratio": 24.0, "imagined": 10, "horizon": 4,
         "memory_options": {"modes": 8, "blocks": 2}, "reset": ("replay",)}


class Always(torch.nn.Module):
    """A head that says the same whatever it is told."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, told, head):
        return torch.full((*told.shape[:-1], 1), self.logit)


def make(stream, seed=0, **settings) -> tuple[R2I, crl.Method]:
    agent = crl.make_agent("r2i", stream, seed=seed, **SMALL)
    method = crl.make_method("dream-rehearsal", seed=1, **{"dreams": 12, "starts": 3, **settings})
    agent.attach([method])
    return agent, method


def after_one_task(**settings):
    stream = corners(2)
    agent, method = make(stream, **settings)
    play(agent, stream[0], 8)
    return stream, agent, method


def dreams_of(agent, count=200, length=12, seed=0):
    starts = torch.tensor([[0.1, 0.2, 1.0], [0.3, 0.4, 1.0]])

    def act(belief):
        return torch.ones(len(belief.z), agent.model.action_size)

    return starts, dream_chunks(agent.model, starts, count, length, act, 0,
                                torch.Generator().manual_seed(seed))


def test_episodes_of_dreams_begin_as_real_ones_and_end_as_often_as_the_model_says():
    _, agent, _ = after_one_task()
    agent.model.goes_on = Always(1.0)
    starts, dreams = dreams_of(agent)
    assert dreams.first[:, 0].all()
    assert not dreams.ended[:, 0].any()
    assert torch.equal(dreams.first[:, 1:], dreams.ended[:, :-1])
    begins = dreams.obs[dreams.first]
    assert {tuple(row) for row in begins.tolist()} == {tuple(row) for row in starts.tolist()}
    within = ~dreams.first
    assert dreams.ended[within].float().mean().item() == pytest.approx(1 / (1 + np.e), abs=0.03)
    assert (dreams.reward[dreams.first] == 0).all()
    assert (dreams.action[dreams.first] == 0).all()
    assert (dreams.action[within] == 1).all()


def test_a_dream_is_what_the_model_tells_of_what_follows():
    """With a model that is sure of its latents, observing a dream is dreaming it."""
    _, agent, _ = after_one_task()
    model = agent.model
    code = 50 * torch.randn(model.latents, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for layers in (model.posterior, model.prior):
            layers.out.kernel.zero_()
            layers.out.bias.copy_(code)
    model.goes_on = Always(50.0)
    _, dreams = dreams_of(agent, count=3)
    with torch.no_grad():
        belief, _, _ = model.observe(dreams, None)
        expected = symexp(model.decoder(model.told(belief)))
    torch.testing.assert_close(dreams.obs[:, 1:], expected[:, 1:], atol=1e-4, rtol=1e-4)


def test_nothing_is_kept_of_a_task_but_how_it_began_and_dreams_do_not_grow():
    stream, agent, method = after_one_task()
    firsts = agent.replay.take(np.arange(len(agent.replay)))
    real = firsts.obs[firsts.first].tolist()
    assert len(method._starts[0]) == 3
    assert all(start in real for start in method._starts[0].tolist())
    assert method._dreams.heads.tolist() == [0] * 12
    play(agent, stream[1], 4)
    assert method._dreams.heads.tolist() == [0] * 6 + [1] * 6


def test_about_a_share_of_a_batch_is_dreamt_after_the_first_task():
    stream = corners(2)
    agent, method = make(stream, share=0.25)
    play(agent, stream[0], 8)
    batch = agent.replay.sample(400, np.random.default_rng(0))
    mixed = method.rehearse(batch)
    dreamt = method._dreams.obs.tolist()
    count = sum(row in dreamt for row in mixed.obs.tolist())
    assert len(mixed.obs) == 400
    assert count == pytest.approx(100, abs=30)
    _, alone = make(stream)
    assert alone.rehearse(batch) is batch


def test_cloning_is_nothing_at_first_and_calls_back_who_has_left():
    _, agent, method = after_one_task(coefficient=2.0)
    part = agent.parts["actor"]
    batch = agent.replay.sample(8, np.random.default_rng(0))
    assert method.loss(agent.parts["critic"], batch) is None
    assert method.loss(part, batch).item() == pytest.approx(0, abs=1e-5)
    generator = torch.Generator().manual_seed(0)
    before = [p.detach().clone() for p in part.module.parameters()]
    with torch.no_grad():
        for parameter in part.module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    moved = method.loss(part, batch)
    assert moved.item() > 0.01
    moved.backward()
    towards = sum(((b - p.detach()) * -p.grad).sum() for b, p in
                  zip(before, part.module.parameters(), strict=True) if p.grad is not None)
    assert towards > 0


def test_an_agent_without_a_world_model_cannot():
    with pytest.raises(crl.UserError, match="needs an agent with a world model; type --agent r2i"):
        crl.make_agent("sac", corners()).attach([crl.make_method("dream-rehearsal")])


@pytest.mark.parametrize("settings", [{"share": 1.5}, {"coefficient": -1.0}, {"dreams": 0}])
def test_settings_that_cannot_be(settings):
    with pytest.raises(crl.UserError, match="must"):
        crl.make_method("dream-rehearsal", **settings)


def test_what_is_saved_goes_on_as_if_never_stopped():
    stream, agent, _ = after_one_task()
    again, _ = make(stream, seed=7)
    again.load_state_dict(agent.state_dict())
    assert play(agent, stream[1], 3, seed=9) == play(again, stream[1], 3, seed=9)
    for mine, theirs in zip(agent.parts["actor"].module.parameters(),
                            again.parts["actor"].module.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_what_is_rehearsed_is_dreamt_or_kept_and_not_both():
    agent = crl.make_agent("r2i", corners(), **SMALL)
    methods = [crl.make_method(name) for name in ("dream-rehearsal", "perfect-memory")]
    with pytest.raises(crl.UserError, match=r"dream-rehearsal.*perfect-memory.*cannot share the"):
        agent.attach(methods)
