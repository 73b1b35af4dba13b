"""Any two methods: refused at the start with the reason, or they work and keep their promises."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from toy import ANYWHERE
from visits import flat, make_agent, outputs, visit

import crl

SMALL = {"packnet": {"retrain_share": 0.02}, "ewc": {"batches": 1, "batch_size": 16},
         "clnp": {"samples": 32}, "mas": {"batches": 1, "batch_size": 16},
         "redo": {"period": 2}, "continual-backprop": {"rate": 0.1, "maturity": 1},
         "resets": {"period": 2}, "shrink-and-perturb": {"period": 2},
         **{name: {"samples_per_task": 32} for name in (
             "clonex", "ser", "a-gem", "gem", "replay-scheduling", "power-law-rehearsal")}}
TO_THE_BIT = {"packnet", "clnp", "input-affine", "modulation", "relevance-masks", "rank-updates"}
# Why two cannot share a part: the claims of the contract, by hand, as a user would argue.
OWN_KERNELS = {"packnet", "clnp", "input-affine", "modulation", "relevance-masks", "rank-updates",
               "vcl", "half-fine-tuning"}
REDRAW = {"redo", "continual-backprop", "shrink-and-perturb", "resets"}
NEW_LAYERS = {"vcl", "modulation", "relevance-masks", "rank-updates"}
REHEARSE = {"perfect-memory", "replay-scheduling", "power-law-rehearsal"}
DEPLOY = {"packnet", "clnp", "input-affine", "modulation", "relevance-masks", "rank-updates", "ema"}


def cannot(a: str, b: str) -> bool:
    """Whether two methods ask for the same thing."""
    pair = {a, b}
    return (
        len(pair & (OWN_KERNELS | REDRAW)) == 2       # whose weights are they?
        or len(pair & REHEARSE) == 2                  # which transitions?
        or len(pair & DEPLOY) == 2                    # which weights are deployed?
        or ("parseval" in pair and len(pair & (NEW_LAYERS | REDRAW)) == 1)  # of which matrices?
        or ("elephant" in pair and len(pair & (REDRAW | {"clnp", "rank-updates"})) == 1)
    )


@pytest.mark.parametrize(("a", "b"), combinations(ANYWHERE, 2))
def test_two_methods_work_together_or_are_refused(a, b):
    def attempt(first: str, second: str):
        methods = [crl.make_method(name, **SMALL.get(name, {})) for name in (first, second)]
        return make_agent(*methods, tasks=2, steps=50, layer_norm="clnp" not in (a, b))

    if cannot(a, b):
        for order in ((a, b), (b, a)):
            with pytest.raises(crl.UserError, match=f"{order[0]}.*{order[1]}.*cannot share the"):
                attempt(*order)
        return
    for order in ((a, b), (b, a)):
        agent, stream = attempt(*order)
        visit(agent, stream[0], 3)
        before = outputs(agent, stream[0])
        agent.methods.evaluated(stream[0], 0.0)
        visit(agent, stream[1], 3)
        assert torch.isfinite(flat(agent.actor)).all()
        assert torch.isfinite(flat(agent.critics)).all()
        same = (outputs(agent, stream[0]) == before).all()
        if {a, b} & TO_THE_BIT:
            assert same, "an old policy changed"
        elif not {a, b} & {"half-fine-tuning"}:
            assert not same, "the control: nothing was learned"
