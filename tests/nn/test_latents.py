"""Categorical latents against torch's own distributions."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from crl.nn import latents


def some(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_mixed_chances_have_a_hundredth_of_the_uniform_distribution():
    chances = latents.log_probs(some(5, 12) * 20, classes=4)
    assert chances.shape == (5, 3, 4)
    for found, least in ((chances, 0.0), (latents.mixed(chances), 0.01 / 4)):
        torch.testing.assert_close(found.exp().sum(-1), torch.ones(5, 3))
        assert found.exp().min() == pytest.approx(least, abs=1e-4)


def test_entropy_is_torchs_summed_over_groups():
    chances = latents.log_probs(some(6, 12), 4)
    torch.testing.assert_close(latents.entropy(chances),
                               Categorical(logits=chances).entropy().sum(-1))


def test_divergence_is_torchs_summed_over_groups():
    p, q = (latents.log_probs(some(6, 12, seed=s), 4) for s in (1, 2))
    expected = kl_divergence(Categorical(logits=p), Categorical(logits=q)).sum(-1)
    torch.testing.assert_close(latents.kl(p, q), expected)


@pytest.mark.parametrize("nats", [1.0, 2.0])
def test_each_half_has_its_own_gradient_and_below_what_is_free_only_the_prior_has_one(nats):
    for spread, free in ((0.1, True), (6.0, False)):
        x, y = (spread * some(4, 12, seed=s) for s in (1, 2))
        x.requires_grad_()
        y.requires_grad_()
        p, q = latents.log_probs(x, 4), latents.log_probs(y, 4)
        to_prior, to_posterior = latents.balanced_kl(p, q, nats)
        expected = latents.kl(latents.mixed(p), latents.mixed(q))
        assert bool((expected < nats).all()) == bool((expected < nats).any()) == free
        torch.testing.assert_close(to_prior, expected)
        torch.testing.assert_close(to_posterior, expected.clamp(min=nats))
        for loss, taught, other, moved in ((to_prior, y, x, True), (to_posterior, x, y, not free)):
            gradients = torch.autograd.grad(loss.sum(), (taught, other), allow_unused=True)
            assert bool(gradients[0].abs().sum() > 0) == moved
            assert gradients[1] is None


def test_draws_have_the_chances_and_the_gradient_of_the_probabilities():
    logits = some(3, 8).requires_grad_()
    chances = latents.log_probs(logits, 4)
    many = torch.stack([latents.sample(chances.detach(), torch.Generator().manual_seed(s))
                        for s in range(4000)]).view(-1, 3, 2, 4)
    assert set(many.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(many.mean(0), chances.detach().exp(), atol=0.03, rtol=0)
    weight = some(3, 8, seed=3)
    drawn = latents.sample(chances, torch.Generator().manual_seed(0))
    (through,) = torch.autograd.grad((drawn * weight).sum(), logits, retain_graph=True)
    (expected,) = torch.autograd.grad((chances.exp().flatten(-2) * weight).sum(), logits)
    torch.testing.assert_close(through, expected)


def test_without_a_generator_it_is_the_likeliest():
    chances = latents.log_probs(some(5, 12), 4)
    z = latents.sample(chances, None).view(5, 3, 4)
    assert torch.equal(z.argmax(-1), chances.argmax(-1))
    assert z.sum() == pytest.approx(15)
