"""The runtime stands on its own, and opens nothing that is not what it was."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crl.deploy.files import read_files
from crl.deploy.manifest import BundleError, read_manifest, schema
from crl.deploy.runtime import load, load_all

HERE = Path(__file__).parent
ATTACKS = int(os.environ.get("CRL_ATTACKS", "390"))


def test_it_imports_numpy_and_onnxruntime_and_nothing_else(gru_bundle, tmp_path):
    """While it opens a bundle, steps and guards; and the folder alone is enough for it."""
    package = tmp_path / "crl" / "deploy"
    package.mkdir(parents=True)
    (tmp_path / "crl" / "__init__.py").touch()
    source = Path(sys.modules["crl.deploy.runtime"].__file__).parent
    for name in ("runtime.py", "guard.py", "files.py", "graph.py", "manifest.py",
                 "signature.py", "manifest.schema.json"):
        shutil.copy(source / name, package)
    code = """if True:
        import sys
        from crl.deploy.runtime import load
        from crl.deploy.guard import Guard
        policy = load(sys.argv[1])
        guard = Guard(policy.manifest)
        observation = [0.0] * len(policy.manifest["observation"]["terms"])
        print(guard.command(policy.step(observation) if guard.admits(observation) else None))
        tops = {name.partition(".")[0] for name in sys.modules}
        print(sorted(tops & {"torch", "ray", "gymnasium", "mujoco", "safetensors", "onnx", "rich",
                             "stable_baselines3", "pickle5", "matplotlib", "metaworld"}))
        print(sorted(name for name in sys.modules if name.startswith("crl.")))
    """
    for path in (str(tmp_path), str(source.parents[1])):
        done = subprocess.run([sys.executable, "-c", code, str(gru_bundle)], check=True, text=True,
                              capture_output=True, env={**os.environ, "PYTHONPATH": path},
                              cwd=tmp_path / "crl")
        action, heavy, ours = done.stdout.splitlines()
        assert action.startswith("[")
        assert heavy == "[]"
        assert ours == str([f"crl.deploy{name}" for name in (
            "", ".files", ".graph", ".guard", ".manifest", ".runtime", ".signature")])


def test_thousands_of_hostile_bundles_are_refused(sac_bundle):
    """In a process that has little memory; CRL_ATTACKS=5200 for more of them."""
    done = subprocess.run([sys.executable, str(HERE / "hostile.py"), str(sac_bundle), str(ATTACKS),
                           "0"], capture_output=True, text=True, check=True)
    outcomes = json.loads(done.stdout)
    wild = outcomes.pop("wild_graph")
    assert set(wild) <= {"refused", "opened"}
    assert wild["refused"] > 0
    assert len(outcomes) == 12
    assert all(set(counts) == {"refused"} for counts in outcomes.values()), done.stderr
    assert sum(counts["refused"] for counts in outcomes.values()) > 0.9 * ATTACKS


def test_a_bundle_can_be_pinned(sac_bundle, gru_bundle):
    digest = (sac_bundle / "manifest.sha256").read_text()[:64]
    assert load(sac_bundle, digest=digest).manifest["task"] == "corner-1"
    with pytest.raises(BundleError, match="not the one that was exported"):
        load(gru_bundle, digest=digest)


def test_folders_of_bundles(sac_bundle, gru_bundle, choice_bundle, tmp_path):
    assert list(load_all(sac_bundle)) == ["corner-1"]
    for name, folder in (("a", sac_bundle), ("b", choice_bundle)):
        shutil.copytree(folder, tmp_path / name)
    assert list(load_all(tmp_path)) == ["corner-1", "turns"]
    shutil.copytree(gru_bundle, tmp_path / "c")
    with pytest.raises(BundleError, match="two bundles for one task"):
        load_all(tmp_path)
    with pytest.raises(BundleError, match="is no bundle"):
        load_all(tmp_path / "missing")


def test_what_is_no_observation_is_an_error(sac_bundle):
    policy = load(sac_bundle)
    for wrong in (np.zeros(2), np.zeros((1, 3)), 5, "abc", [1, 2, "x"], None):
        with pytest.raises((ValueError, TypeError)):
            policy.step(wrong)
    assert policy.step([0, 0, 0]).dtype == np.float32


def test_two_policies_do_not_share_what_they_remember(gru_bundle):
    one, other = load(gru_bundle), load(gru_bundle)
    first = one.step(np.ones(3))
    one.step(np.ones(3))
    assert np.array_equal(other.step(np.ones(3)), first)


# ---- the manifest ----


def test_the_schema_is_one(gru_bundle):
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(read_files(gru_bundle)[0], schema())
    jsonschema.validate(EXAMPLE, schema())
    read_manifest(json.dumps(EXAMPLE).encode())


def paths(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(
        node, list) else ()
    return [at, *(path for key, value in inner for path in paths(value, (*at, key)))]


Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: type(value) is int))  # 3.0 is none to us


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False)
    | st.text(max_size=5) | st.sampled_from(["initial", "continuous", "0" * 64, 0.5, 1, "a\n"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner,
                                                               max_size=3), max_leaves=4)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_schema_is_followed_as_others_follow_it(data):
    """What jsonschema refuses is refused; what it lets through may only contradict itself."""
    changed = copy.deepcopy(EXAMPLE)
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(paths(changed)[1:]))
        parent = changed
        for key in path[:-1]:
            parent = parent[key]
        if data.draw(st.booleans()):
            parent[path[-1]] = data.draw(JUNK)
        else:
            del parent[path[-1]]
    valid = Validator(schema()).is_valid(changed)
    refusal = ""
    try:
        read_manifest(json.dumps(changed).encode())
    except BundleError as error:
        refusal = str(error)
    assert "\n" not in refusal
    sense = ("bounds", "two terms", "two arrays", "numbers", "safe", "choices")
    assert bool(refusal) != valid or any(words in refusal for words in sense)


EXAMPLE: dict[str, Any] = {
    "schema": "crl-bundle/1", "task": "t", "source": {"agent": "sac", "seed": 0}, "versions": {},
    "observation": {"terms": [{"name": "x", "unit": "m", "low": None, "high": 1.0},
                              {"name": "y", "unit": None, "low": -1, "high": 1}]},
    "action": {"kind": "continuous", "terms": [
        {"name": "a", "unit": "N", "low": -1, "high": 1, "safe": 0, "slew_per_s": None}]},
    "rate_hz": 50, "jitter_s": 0.005,
    "state": [{"input": "m", "output": "n", "shape": [4], "initial": 0, "reset": "initial"}],
    "guard": {"stale_s": 0.05, "hold_steps": 2, "decay_steps": 10},
    "parity": {"steps": 256, "episodes": 3, "largest_error": 1e-7, "tolerance": 1e-5},
    "simulation": None,
    "files": {name: {"sha256": "0" * 64, "bytes": 1} for name in (
        "policy.onnx", "weights.safetensors", "golden.npz", "README.md")},
    "signature": None,
}
