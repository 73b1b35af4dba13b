"""The env benchmark's rows; how fast they say we are is not a test's business."""

from __future__ import annotations

import math

from crl import bench
from crl.envs.continual_world import CW10


def test_rows(monkeypatch):
    for name, value in {"_STEPS": 10, "_EPISODES": 1, "_RESETS": 1}.items():
        monkeypatch.setattr(bench, name, value)
    rows = list(bench.BENCHES["env"]())
    cases = [row["case"] for row in rows]
    assert cases == [c for t in CW10 for c in (t, f"{t} reset")] + [
        "geometric mean", "geometric mean reset",
    ]
    for row in rows:
        assert set(row) == {
            "bench", "case", "unit", "ours", "peers", "floor", "ours/peer", "ours/floor",
        }
        assert row["bench"] == "env"
        assert row["ours/peer"] == row["ours"] / row["peers"]["metaworld"]
        if row["case"].endswith("reset"):
            assert row["unit"] == "s/reset"
            assert row["floor"] is row["ours/floor"] is None
        else:
            assert row["unit"] == "s/step"
            assert row["ours/floor"] == row["ours"] / row["floor"]
    ratios = [row["ours/floor"] for row in rows[:-2:2]]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    assert math.isclose(rows[-2]["ours/floor"], mean, rel_tol=1e-9)
