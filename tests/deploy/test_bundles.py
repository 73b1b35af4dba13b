"""What is exported does what the policy does, is the same every time, and says what it is."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from policies import KINDS, RATE, corner_stream, make, policy_of
from safetensors.numpy import load_file
from support import listing

import crl
from crl.cli import main
from crl.deploy import bundle
from crl.deploy.bundle import Options, export_policy
from crl.deploy.runtime import load

HERE = Path(__file__).parent
# A robot's side of the contract: made of what manifest.schema.json says, without crl.
CLIENT = """
import hashlib, json, sys
import numpy as np
import onnxruntime

folder = sys.argv[1]
manifest = json.load(open(f"{folder}/manifest.json"))
for name, file in manifest["files"].items():
    assert hashlib.sha256(open(f"{folder}/{name}", "rb").read()).hexdigest() == file["sha256"]
session = onnxruntime.InferenceSession(f"{folder}/policy.onnx")
outputs = ["action", *(array["output"] for array in manifest["state"])]
golden = np.load(f"{folder}/golden.npz", allow_pickle=False)
error = 0.0
for observation, first, action in zip(golden["observation"], golden["first"], golden["action"]):
    if first:
        state = {array["input"]: np.full([1, *array["shape"]], array["initial"], np.float32)
                 for array in manifest["state"]}
    mine, *after = session.run(outputs, {"observation": observation[None], **state})
    state = {array["input"]: value for array, value in zip(manifest["state"], after)}
    error = max(error, float(np.abs(mine[0] - action).max()))
print(json.dumps([len(golden["first"]), int(golden["first"].sum()), error, sorted(sys.modules)]))
"""


@pytest.mark.parametrize("kind", ["sac_bundle", "gru_bundle", "choice_bundle"])
def test_an_independent_client_reproduces_the_golden_steps(kind, request, tmp_path):
    folder = request.getfixturevalue(kind)
    done = subprocess.run([sys.executable, "-c", CLIENT, str(folder)], cwd=tmp_path, check=True,
                          capture_output=True, text=True)
    steps, episodes, error, modules = json.loads(done.stdout)
    assert steps >= 200
    assert episodes > 2
    assert error <= 1e-5
    assert "crl" not in modules
    assert "torch" not in modules


@pytest.mark.parametrize("kind", KINDS)
def test_it_does_what_the_policy_does(kind, request, tmp_path):
    """Through observations that nobody planned for, with episodes that begin anywhere."""
    stream, policy = make(kind)
    made = {"sac": "sac_bundle", "gru": "gru_bundle", "choices": "choice_bundle"}.get(kind)
    deployed = load(request.getfixturevalue(made) if made else export_policy(
        policy, stream[-1], stream, tmp_path / "bundle", {}, RATE))
    assert deployed.manifest["parity"]["largest_error"] <= 1e-5
    rng = np.random.default_rng(0)
    state, half = policy.initial_state(1), (policy.spec.action_high - policy.spec.action_low) / 2
    actions = []
    for t in range(200):
        first = t == 0 or rng.random() < 0.03
        obs = rng.normal(0, 1.5, 3).astype(np.float32)
        action, state = policy.step(obs[None], state, np.array([first]))
        if first:
            deployed.reset()
        actions.append(deployed.step(obs))
        assert np.abs((actions[-1] - action[0]) / half).max() <= 1e-5
    assert np.std(actions, 0).max() > 0  # control: it does not always do the same
    assert bool(deployed.manifest["state"]) == bool(policy.spec.state_shapes and kind != "mlp")


def test_a_memory_that_is_not_reset_is_another_policy(gru_bundle):
    """Control: the test above would notice."""
    deployed = load(gru_bundle)
    obs = np.ones(3, np.float32)
    once = deployed.step(obs)
    again = deployed.step(obs)
    deployed.reset()
    assert np.array_equal(deployed.step(obs), once)
    assert not np.array_equal(again, once)


def test_the_same_policy_is_the_same_bytes(sac_bundle, tmp_path):
    """In another process, with another order of everything that has none."""
    code = ("import sys; sys.path[:0] = sys.argv[1:3]; from pathlib import Path; "
            "from policies import export; export('sac', Path(sys.argv[3]))")
    subprocess.run([sys.executable, "-c", code, str(HERE), str(HERE.parent),
                    str(tmp_path / "again")], check=True, cwd=tmp_path,
                   env={**os.environ, "PYTHONHASHSEED": "7"})
    assert listing(tmp_path / "again") == listing(sac_bundle)


def test_all_files_are_named_and_hashed(sac_bundle):
    manifest = json.loads((sac_bundle / "manifest.json").read_text())
    names = {path.name for path in sac_bundle.iterdir()}
    assert names == {"manifest.json", "manifest.sha256", *manifest["files"]}
    for name, file in manifest["files"].items():
        content = (sac_bundle / name).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (file["sha256"],
                                                                       file["bytes"])
    subprocess.run(["sha256sum", "--check", "--strict", "manifest.sha256"], cwd=sac_bundle,
                   check=True, capture_output=True)


def test_nothing_of_where_it_was_made_is_in_it(sac_bundle):
    for content in filter(None, listing(sac_bundle).values()):
        assert b"/work" not in content
        assert str(Path(crl.__file__).parent).encode() not in content


def test_weights_are_those_that_count(sac_bundle):
    weights = load_file(sac_bundle / "weights.safetensors")
    assert any(name.startswith("actor.heads.items.1.") for name in weights)
    assert not any(name.startswith("actor.heads.items.0.") for name in weights)  # another task's
    assert {"shift", "factor"} <= weights.keys()


def test_terms_rate_and_guard_are_said(arm_bundle):
    manifest = load(arm_bundle).manifest
    assert manifest["observation"]["terms"][4] == {
        "name": "shoulder.speed", "unit": "10 rad/s", "low": None, "high": None}
    assert manifest["action"]["terms"] == [
        {"name": "motor.1", "unit": "9 N m", "low": -1, "high": 1, "safe": 0, "slew_per_s": 1000},
        {"name": "motor.2", "unit": "9 N m", "low": -1, "high": 1, "safe": 0, "slew_per_s": 2000}]
    assert manifest["rate_hz"] == 20
    assert manifest["guard"] == {"stale_s": 0.125, "hold_steps": 2, "decay_steps": 4}
    assert manifest["simulation"]["name"] == "arm-plain"
    card = (arm_bundle / "README.md").read_text()
    for words in ("shoulder.speed", "9 N m", "20 times a second", "arm-plain"):
        assert words in card


def test_a_stream_made_in_code_has_no_simulation(sac_bundle, choice_bundle):
    assert load(sac_bundle).manifest["simulation"] is None
    action = load(choice_bundle).manifest["action"]
    assert action["kind"] == "discrete"
    assert [term["safe"] for term in action["terms"]] == [1, 0, 0]


# ---- what cannot be exported ----


def refused(policy, stream, out, options=RATE):
    with pytest.raises(crl.UserError) as error:
        export_policy(policy, stream[-1], stream, out, {}, options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(tmp_path):
    stream = corner_stream()
    policy, out = policy_of("sac", stream, hidden=(8,)), tmp_path / "new" / "bundle"
    assert "--rate 50" in refused(policy, stream, out, Options())
    assert "safe action" in refused(policy, stream, out, Options(50, (0.0, 5.0)))
    assert "safe action" in refused(policy, stream, out, Options(50, (0.0,)))
    assert "safe action" in refused(policy, stream, out, Options(50, (0.0, float("nan"))))
    assert "in a second" in refused(policy, stream, out, Options(50, None, (1.0, 0.0)))
    assert "exists already" in refused(policy, stream, tmp_path)
    turns, choices = make("choices")
    assert "one of them 1" in refused(choices, turns, out, Options(50, (1.0, 1.0, 0.0)))
    assert "continuous" in refused(choices, turns, out, Options(50, None, (1.0, 1.0, 1.0)))
    car = crl.make_stream("car-1.0")
    planner = crl.make_agent("mpc", car).policy(car[0])
    assert "cannot be exported" in refused(planner, car, out)
    assert listing(tmp_path) == {}


def test_what_goes_wrong_later_leaves_nothing_either(sac_bundle, tmp_path, monkeypatch):
    """Another model than the policy's; a full disk."""
    parts = tuple((sac_bundle / name).read_bytes() for name in ("policy.onnx",
                                                                "weights.safetensors"))
    monkeypatch.setattr(bundle, "convert", lambda step: parts)
    out = tmp_path / "new" / "bundle"
    stream, policy = make("sac")
    other = policy_of("sac", stream, hidden=(8,))
    assert "what it does in PyTorch" in refused(other, stream, out)

    def full(path, content):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(bundle, "write_synced", full)
        assert "No space left" in refused(policy, stream, out)
    assert listing(tmp_path) == {}
    assert export_policy(policy, stream[-1], stream, out, {}, RATE) == out  # control


# ---- runs, and the command line ----


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> crl.Run:
    stream = crl.make_stream("Pendulum-v1,Pendulum-v1", horizon=20, steps_per_task=40)
    agent = crl.make_agent("sac", stream, hidden=(8,))
    return crl.train(agent, stream, methods=["l2"], out=tmp_path_factory.mktemp("runs") / "run",
                     eval_episodes=1)


def test_a_run_is_exported_task_by_task(run, tmp_path, capsys):
    with pytest.raises(SystemExit) as ending:
        main(["export", str(run.folder), "--out", str(tmp_path / "all")])
    assert ending.value.code == 0
    folders = [Path(line.removeprefix("bundle: ")) for line in capsys.readouterr().out.splitlines()]
    assert folders == [tmp_path / "all" / name for name in run.tasks]
    second = load(folders[1]).manifest
    assert second["source"] == {
        "agent": "sac", "methods": "l2", "seed": 0, "protocol": run.stream.protocol,
        "checkpoint": second["source"]["checkpoint"], "commit": run.info["commit"]}
    assert second["rate_hz"] == 20  # of Pendulum's own dt, not of its frames
    obs = np.float32([0.5, 0.5, 1])
    action = run.policy("Pendulum-v1@2").predict(obs)[0]
    assert np.abs(load(folders[1]).step(obs) - action).max() < 1e-5


def test_a_planner_is_distilled(tmp_path, capsys):
    stream = crl.make_stream("car-1.0", steps_per_task=120)
    quick = {"horizon": 4, "population": 10, "elites": 4, "iterations": 2}
    agent = crl.make_agent("mpc", stream, hidden=(16,), start_steps=50, train_every=50, updates=20,
                           planner_options=quick)
    run = crl.train(agent, stream, out=tmp_path / "run", eval_episodes=1)
    words = ["export", str(run.folder), "--task", "car-1.0", "--out", str(tmp_path / "bundle")]
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "add --distill" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--distill", "200"])
    source = load(tmp_path / "bundle").manifest["source"]
    assert source["agent"] == "mpc"
    assert source["distilled"].startswith("200 steps; in 5 episodes it earns -")


@pytest.mark.parametrize(("words", "hint"), [
    (["--task", "pendulum"], "did you mean 'Pendulum-v1'"),
    (["--robot", "push-v3"], "leave --robot out"),
    (["--rate", "-5"], "a number above 0"),
    (["--rate", "nan"], "a number above 0"),
    (["--safe", "a,b"], "numbers with commas"),
    (["--task", "Pendulum-v1", "--safe", "5"], "safe action"),
])
def test_what_is_typed_wrong(words, hint, run, tmp_path, capsys):
    with pytest.raises(SystemExit) as ending:
        main(["export", str(run.folder), "--out", str(tmp_path / "bundle"), *words])
    assert ending.value.code == 2
    message = capsys.readouterr().err
    assert hint in message
    assert len(message.splitlines()) == 1
    assert listing(tmp_path) == {}
