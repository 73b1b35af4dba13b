"""Speed, measured: ours, the peer and the floor in one interleaved run.

Each benchmark is a generator of rows, so that a caller can show them as they are measured:

    {"bench": "env", "case": "push-v3", "unit": "s/step", "ours": 1e-4,
     "peers": {"metaworld": 9e-4}, "floor": 7e-5, "ours/peer": 0.11, "ours/floor": 1.43}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from crl.bench.afm import bench_afm
from crl.bench.collection import bench_collection
from crl.bench.data import bench_data
from crl.bench.env import bench_env
from crl.bench.hypernetwork import bench_hypernetwork
from crl.bench.memory import bench_memory
from crl.bench.modulation import bench_modulation
from crl.bench.planner import bench_planner
from crl.bench.policy import bench_policy
from crl.bench.rollout import bench_rollout
from crl.bench.rows import Row
from crl.bench.sac import bench_sac
from crl.bench.scan import bench_scan
from crl.bench.worldmodel import bench_worldmodel

BENCHES: dict[str, Callable[[], Iterable[Row]]] = {
    "env": bench_env, "sac": bench_sac, "scan": bench_scan,
    "memory": bench_memory, "planner": bench_planner, "hypernetwork": bench_hypernetwork,
    "worldmodel": bench_worldmodel, "modulation": bench_modulation, "policy": bench_policy,
    "data": bench_data, "rollout": bench_rollout,
    "collection": bench_collection, "afm": bench_afm}
"""Benchmarks by name."""
