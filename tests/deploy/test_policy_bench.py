"""The rows of the benchmark; how fast they say we are is not a test's business."""

from __future__ import annotations

import pytest

from crl import bench
from crl.bench import policy


def test_policy(monkeypatch):
    for name, value in {"_TURNS": 1, "_CALLS": 3, "_MEMORIES": ("gru",)}.items():
        monkeypatch.setattr(policy, name, value)
    rows = list(bench.BENCHES["policy"]())
    both = ("torch eager", "SB3 predict")
    cases = {"mlp": both, "mlp, corrected": both[:1], "gru": both}
    assert [(row["case"], row["unit"], *row["peers"]) for row in rows] == [
        line for case, peers in cases.items() for line in (
            *((f"{case} {share}", "s/step", peer) for share in ("p50", "p99") for peer in peers),
            (f"{case} p99", "of 2 ms", "torch eager"))]
    for row in rows:
        assert row["ours"] > 0
        assert row["ours/peer"] == row["ours"] / next(iter(row["peers"].values()))
    assert rows[4]["ours"] == pytest.approx(rows[3]["ours"] * 500)
