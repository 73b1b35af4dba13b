"""The rows of the benchmarks; how fast they say we are is not a test's business."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import pytest
import torch
from torch.func import functional_call

from crl import bench
from crl.bench import afm, env, hypernetwork, memory, modulation, planner, sac, scan, worldmodel
from crl.bench.rows import take_turns
from crl.envs.continual_world import CW10
from crl.memory.hypernetwork import Hypernetwork
from crl.nn.scan import linear_scan
from crl.registry import memories


def test_env(monkeypatch):
    for name, value in {"_STEPS": 10, "_EPISODES": 1, "_RESETS": 1}.items():
        monkeypatch.setattr(env, name, value)
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


def test_sac(monkeypatch):
    for name, value in {"_STORED": 300, "_LOOPS": 1, "_LOOP_STEPS": 250}.items():
        monkeypatch.setattr(sac, name, value)
    monkeypatch.setattr(sac, "take_turns",
                        lambda *sides, turns, calls: take_turns(*sides, turns=1, calls=1))
    rows = list(bench.BENCHES["sac"]())
    assert [row["case"] for row in rows] == [
        f"update {size}, {threads}{bf16}" for threads in ("1 thread", "2 threads")
        for size in ("2x256", "4x256") for bf16 in ("", ", bf16")
    ] + ["loop 2x256, push-v3", "evaluation, push-v3", "evaluation on cw10 as published"]
    for row in rows:
        assert row["ours"] > 0
        assert row["ours/peer"] == row["ours"] / row["peers"]["sb3"]
        assert (row["floor"] is None) == (not row["case"].startswith("update"))
    # As published, 20 000 steps of training come with 22 000 of evaluation.
    loop, evaluation, share = (row["ours"] for row in rows[-3:])
    assert math.isclose(share, 1.1 * evaluation / (1.1 * evaluation + loop))


def test_the_floor_is_the_products_of_an_update():
    """Counted another way: the multiplications of each pass of SAC, layer by layer."""
    class Counter:
        total = 0

        def __call__(self, left, right, *rest):
            rows, columns = left.shape[0], right.shape
            self.total += rows * columns[0] * columns[1]

    counter = Counter()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("affine", "input_gradient"):
            patch.setattr(sac, name, counter)
        patch.setattr(sac, "kernel_gradient", lambda x, g: counter(x, torch.empty(
            x.shape[1], g.shape[1])))
        sac._products((256, 256), torch.float32)()
    actor, critic = (39 + 256) * 256, (43 + 256) * 256
    forward = 2 * actor + 2 * critic + 2 * 2 * critic
    backward = (actor + 256 * 256) + 2 * (critic + 256 * 256) + 2 * critic
    assert counter.total == 128 * (forward + backward)


def test_scan(monkeypatch):
    monkeypatch.setattr(scan, "_SHAPES", ((2, 20, 3),))
    rows = list(bench.BENCHES["scan"]())
    assert [(row["case"], list(row["peers"])) for row in rows] == [
        ("linear scan 2x20x3", ["autograd loop"]), ("S5 layer 128 wide, 2x20", ["nn.GRU"])]
    for row in rows:
        assert row["ours/peer"] == row["ours"] / next(iter(row["peers"].values()))
    assert rows[0]["ours/floor"] == rows[0]["ours"] / rows[0]["floor"]


def test_the_loop_beside_the_scan_computes_the_same():
    generator = torch.Generator().manual_seed(0)
    a, initial = (torch.randn(*shape, generator=generator) for shape in ((3,), (2, 3)))
    b, first = torch.randn(2, 20, 3, generator=generator), torch.rand(2, 20) < 0.2
    assert torch.allclose(scan._loop(a, b, initial, first), linear_scan(a, b, initial, first))


def test_memory(monkeypatch):
    monkeypatch.setattr(memory, "_TURNS", 1)
    monkeypatch.setattr(memory, "_LENGTH", 4)
    rows = list(bench.BENCHES["memory"]())
    assert [row["case"] for row in rows] == [
        f"{name} {what}" for name in memories.names() for what in ("step", "training pass")]
    assert all(row["ours"] > 0 for row in rows)


def one_turn(monkeypatch, module) -> None:
    monkeypatch.setattr(module, "take_turns",
                        lambda *sides, turns, calls: take_turns(*sides, turns=1, calls=1))


def test_planner(monkeypatch):
    one_turn(monkeypatch, planner)
    monkeypatch.setattr(planner, "_PUBLISHED", {"cartpole-0.6": (
        (8, 8), {"horizon": 5, "population": 50, "elites": 5})})
    monkeypatch.setattr(planner, "_EARNED", {"car-1.0": 1})
    rows = list(bench.BENCHES["planner"]())
    assert [(row["case"], row["unit"], *row["peers"]) for row in rows] == [
        ("cartpole-0.6: a plan", "s", "CEM"), ("cartpole-0.6: a plan", "evaluations", "CEM"),
        ("cartpole-0.6: a plan of MPPI", "s", "pytorch_mppi"),
        ("car-1.0: the simulator as model", "return", "CEM")]
    assert rows[0]["ours/floor"] == rows[0]["ours"] / rows[0]["floor"]
    assert rows[1]["peers"]["CEM"] == 6 * 50 * 5


def test_hypernetwork(monkeypatch):
    one_turn(monkeypatch, hypernetwork)
    monkeypatch.setattr(hypernetwork, "_STORED", 10)
    rows = list(bench.BENCHES["hypernetwork"]())
    assert [next(iter(row["peers"])) for row in rows] == [
        "a task at a time", "10 old tasks", "10 old tasks", "in one"]
    assert all(row["ours"] > 0 for row in rows)


def test_the_regulariser_a_task_at_a_time_is_that_of_all(monkeypatch):
    """Of targets that are 0.01 off what is given now."""
    found = {}
    monkeypatch.setattr(hypernetwork, "_STORED", 10)
    agent = hypernetwork._agent(3)
    run = hypernetwork._task_by_task(agent, 3)
    monkeypatch.setattr(torch.autograd, "grad", lambda loss, of: found.update(loss=loss.item()))
    run()
    part = agent.parts["model"]
    (h,) = (m for m in part.module.modules() if isinstance(m, Hypernetwork))
    ahead = {name: torch.empty_like(p) for name, p in h.shared_parameters().items()}
    with torch.no_grad():
        for name, parameter in h.shared_parameters().items():
            part.optimizer.ahead(parameter, ahead[name])
        off = functional_call(h, ahead, (h.heads([0, 1, 2]),)) - h(h.heads([0, 1, 2])) - 0.01
    assert found["loss"] == pytest.approx(0.05 / 3 * off.square().sum().item(), rel=1e-3)


def test_worldmodel(monkeypatch):
    monkeypatch.setattr(worldmodel, "_SHAPES", ((2, 8), (1, 16)))
    one_turn(monkeypatch, worldmodel)
    rows = list(bench.BENCHES["worldmodel"]())
    assert [row["case"] for row in rows] == ["update, 2x8", "update, 1x16", "acting"]
    assert all(row["ours"] > 0 for row in rows)


def test_modulation(monkeypatch):
    for name, value in {"_TURNS": 1, "_STEPS": 1, "_BATCH": 12}.items():
        monkeypatch.setattr(modulation, name, value)
    rows = list(bench.BENCHES["modulation"]())
    assert [row["case"] for row in rows] == [
        "acting, merged", "acting, a slot", "update, a slot", "update, mixed"]
    assert all(row["ours"] > 0 for row in rows)


def test_afm(monkeypatch):
    monkeypatch.setattr(afm, "_CALLS", 2)
    rows = list(bench.BENCHES["afm"]())
    assert [(row["case"], *row["peers"]) for row in rows] == [
        *((f"a correction, {p}", peer) for p in ("p50", "p99")
          for peer in ("regressor", "least squares", "plan")),
        ("a correction, p99", "target")]
    assert all(row["ours"] > 0 for row in rows)


def test_the_peer_of_the_worldmodel_is_measured_where_it_is_on_the_path(monkeypatch):
    """A stand-in for its folder: what it is given is what it reads, and it computes on the CPU."""
    taken = []

    class MLP:
        def __init__(self, name=None, device="cuda"):
            self.device = device

    class WorldModel:
        def __init__(self, spaces, actions, step, config):
            self.spaces, self.config = spaces, config
            assert MLP().device == "cpu"

        def _train(self, data):
            assert data["obs"].shape[-1:] == self.spaces["obs"].shape
            assert data["action"].shape[-1] == self.config.num_actions
            assert data["reward"].shape == (*data["is_first"].shape, 1)
            taken.append(data["is_terminal"].shape)

    monkeypatch.setitem(sys.modules, "models", SimpleNamespace(
        WorldModel=WorldModel, networks=SimpleNamespace(MLP=MLP)))
    monkeypatch.setattr(worldmodel, "_SHAPES", ((2, 8),))
    one_turn(monkeypatch, worldmodel)
    rows = list(bench.BENCHES["worldmodel"]())
    assert [list(row["peers"]) for row in rows] == [
        ["GRU, step by step"], ["dreamerv3-torch"], ["GRU, step by step"]]
    assert set(taken) == {(2, 8)}
