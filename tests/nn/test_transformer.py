"""The transformer: causal, blind to padding and to where a sequence stands, and as written down."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from crl.nn.transformer import Attention, Transformer, sight

B, T, W, HEADS = 3, 6, 16, 4


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def transformer(reach: int = T) -> Transformer:
    made = Transformer(W, 2, HEADS, reach, seeded())
    for block in made.blocks:  # zero at first: then nothing would tell places apart
        torch.nn.init.normal_(block.attention.distance, generator=seeded())
    return made


def tokens() -> Tensor:
    return torch.randn(B, T, W, generator=seeded())


def test_attention_is_the_sum_that_is_written_down() -> None:
    attention = Attention(W, HEADS, 4, seeded())
    torch.nn.init.normal_(attention.distance, generator=seeded())
    x, size = tokens(), W // HEADS
    out = torch.zeros(B, T, W)
    for b in range(B):
        q, k, v = (layer(x[b]) for layer in (attention.query, attention.key, attention.value))
        for h in range(HEADS):
            own = slice(h * size, (h + 1) * size)
            for t in range(T):
                seen = range(max(0, t - 3), t + 1)
                scores = np.array([float(q[t, own] @ k[s, own]) / math.sqrt(size)
                                   + float(attention.distance[h, t - s]) for s in seen])
                weights = np.exp(scores) / np.exp(scores).sum()
                out[b, t, own] = sum(float(w) * v[s, own]
                                     for w, s in zip(weights, seen, strict=True))
    torch.testing.assert_close(attention(x, sight(T, 4)), attention.out(out), atol=1e-5, rtol=1e-4)


def test_the_future_changes_nothing_of_the_past() -> None:
    model, x = transformer(), tokens()
    before = model(x)
    x[:, 4:] *= -1
    after = model(x)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])  # the control


def test_padding_in_front_changes_nothing() -> None:
    model, x = transformer(), tokens()
    short = model(x[:, 2:])
    valid = torch.ones(B, T, dtype=torch.bool)
    valid[:, :2] = False
    padded = x.clone()
    padded[:, :2] = 1e3
    torch.testing.assert_close(model(padded, valid)[:, 2:], short, atol=1e-5, rtol=1e-4)
    seen = model(padded)[:, 2:]
    assert not torch.allclose(seen, short, atol=1e-2)  # the control: as if it were no padding


def test_each_row_has_padding_of_its_own() -> None:
    model, x = transformer(), tokens()
    valid = torch.ones(B, T, dtype=torch.bool)
    valid[1, :3] = False
    together = model(x, valid)
    torch.testing.assert_close(together[0], model(x[:1])[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together[1, 3:], model(x[1:2, 3:])[0], atol=1e-5, rtol=1e-4)
    assert together.isfinite().all()


def test_what_lies_out_of_reach_is_not_seen() -> None:
    model, x = Transformer(W, 1, HEADS, 2, seeded()), tokens()
    before = model(x)
    x[:, 0] *= -1
    after = model(x)
    assert not torch.allclose(before[:, 1], after[:, 1])
    torch.testing.assert_close(before[:, 2:], after[:, 2:])


def test_every_parameter_learns() -> None:
    model = transformer()
    model(tokens()).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for name, p in model.named_parameters()
               if not name.endswith("key.bias"))  # which a softmax cannot feel
