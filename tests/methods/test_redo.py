"""ReDo: silent units come to life, at their time, and only they."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from visits import fill, flat, make_agent

import crl
from crl.methods.redo import dormant

DEAD = 4


def make(**settings):
    return crl.make_method("redo", **{"period": 5, "threshold": 0.0, **settings})


def with_a_dead_unit(*methods):
    """An agent at its first task; a unit of the actor's second layer gives 0, and no gradient."""
    agent, stream = make_agent(*methods, layer_norm=False)
    agent.begin_task(stream[0])
    fill(agent, 0)
    with torch.no_grad():
        dense = agent.actor.trunk.dense[1]
        dense.kernel[:, DEAD], dense.bias[DEAD] = 0.0, -1.0
    return agent


def fires(agent) -> bool:
    batch = agent.replay.sample(128, np.random.default_rng(0))
    return bool((agent.parts["actor"].activations(batch)[1][:, DEAD] > 0).any())


def test_the_score_is_a_share_of_the_mean_of_the_layer():
    h = torch.tensor([[0.0, 1.0, -3.0, 0.0], [0.0, 1.0, 3.0, 4.0]])  # means 0, 1, 3, 2; of all 1.5
    assert dormant(h, 0.0).tolist() == [0]
    assert dormant(h, 0.66).tolist() == [0]
    assert dormant(h, 0.67).tolist() == [0, 1]
    assert dormant(torch.zeros(2, 3), 0.0).tolist() == [0, 1, 2]


def test_a_dead_unit_lives_again():
    agent = with_a_dead_unit(make())
    agent.learn(4)
    assert not fires(agent)
    agent.learn(1)
    assert fires(agent)
    for head in agent.actor.heads.items:
        assert (head.kernel[DEAD] == 0).all()
    agent.learn(1)
    assert (agent.actor.heads.items[0].kernel[DEAD] != 0).any()  # and is heard


def test_without_redo_it_stays_dead():
    agent = with_a_dead_unit()
    agent.learn(30)
    assert not fires(agent)


def test_where_all_units_fire_nothing_happens():
    def learned(*methods):
        agent = with_a_dead_unit(*methods)
        with torch.no_grad():
            for trunk in (agent.actor.trunk, *(twin.trunk for twin in agent.critics.twins)):
                for dense, bias in zip(trunk.dense, (5.0, 50.0), strict=True):
                    dense.bias.fill_(bias)
        agent.learn(10)
        return flat(agent.actor), flat(agent.critics)

    for ours, plain in zip(learned(make()), learned(), strict=True):
        assert torch.equal(ours, plain)


@pytest.mark.parametrize("bad", [{"period": 0}, {"threshold": 1.0}, {"threshold": -0.1}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(crl.UserError, match=next(iter(bad))):
        make(**bad)


def test_weights_that_packnet_keeps_are_not_drawn_anew():
    with pytest.raises(crl.UserError, match="'packnet' and 'redo' cannot share"):
        make_agent(crl.make_method("packnet"), make())
    make_agent(crl.make_method("packnet"), make(parts=("critic",)))
