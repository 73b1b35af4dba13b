"""Methods that promise old tasks to the last bit: the promise, kept in every way it can break.

What each of them would break if half of it were missing is tested in its own file.
"""

from __future__ import annotations

import pytest
from keeping import drift, values
from visits import make_agent

import crl

PROMISING = {"packnet": {"retrain_share": 0.2}, "clnp": {"threshold": 0.5, "samples": 200},
             "input-affine": {}, "modulation": {}, "relevance-masks": {}, "rank-updates": {}}
WITHOUT_NORM = {"clnp"}


def agent_with(name, *others, settings=None, **agent):
    method = crl.make_method(name, **PROMISING[name], **(settings or {}))
    return make_agent(*others, method, **{"layer_norm": name not in WITHOUT_NORM, **agent})


@pytest.fixture(params=PROMISING)
def name(request):
    return request.param


def test_old_policies_are_bit_identical_after_later_tasks(name):
    assert drift(*agent_with(name)) == 0


def test_without_layer_normalisation_too(name):
    assert drift(*agent_with(name, layer_norm=False)) == 0


def test_momentum_that_outlasts_a_task_does_not_move_them(name):
    assert drift(*agent_with(name, reset=("replay",))) == 0


@pytest.mark.parametrize("layer_norm", [True, False])
def test_without_a_method_old_policies_change(layer_norm):
    assert drift(*make_agent(layer_norm=layer_norm)) > 0


# PackNet's old weights are picked when a policy is deployed, which a critic never is.
@pytest.mark.parametrize("name", sorted(set(PROMISING) - {"packnet"}))
def test_old_critics_are_kept_if_named_and_not_otherwise(name):
    assert drift(*agent_with(name, settings={"parts": ("critic",)}), values) == 0
    assert drift(*agent_with(name), values) > 0


@pytest.mark.parametrize("first", [True, False])
def test_a_method_that_adds_gradients_to_all_heads_does_not_move_them(name, first):
    method = crl.make_method(name, **PROMISING[name])
    other = crl.make_method("a-gem", samples_per_task=100, batch_size=16)
    methods = (other, method) if first else (method, other)
    assert drift(*make_agent(*methods, layer_norm=name not in WITHOUT_NORM)) == 0
