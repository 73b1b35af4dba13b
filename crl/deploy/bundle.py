"""Writing bundles: a policy as files that a robot can be trusted with.

::

    manifest.json        everything that whoever runs the policy must know (manifest.schema.json)
    manifest.sha256      its hash; `sha256sum --check manifest.sha256`
    manifest.sig         its ed25519 signature, if somebody signs
    policy.onnx          (observation, state) → (action, next state)
    weights.safetensors  the parameters that it was made of
    golden.npz           what PyTorch did in a few hundred steps
    README.md            the model card
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from crl.agent import Policy, PolicySpec
from crl.agents.distilled import DistillConfig, distill
from crl.agents.refined import RefinedPolicy
from crl.checkpoint import CheckpointStore, write_synced
from crl.config import require
from crl.deploy import files
from crl.deploy.card import model_card
from crl.deploy.golden import play
from crl.deploy.manifest import BundleError, Manifest
from crl.deploy.onnx_model import OPSET, convert
from crl.deploy.steps import step_maker
from crl.envs.terms import Term, terms
from crl.errors import UserError
from crl.run import Run
from crl.stream import Env, Task, TaskStream

try:
    from crl.deploy.runtime import BundlePolicy, load
except ImportError:
    raise UserError("bundles need an extra; type: pip install 'crl[deploy]'") from None

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Watch = Callable[[str, int, int], None]
_PACKAGES = ("crl", "torch", "onnx", "onnxscript", "onnxruntime", "numpy")


class Options(NamedTuple):
    """What only the person at the robot knows, and how to export.

    Attributes:
        rate_hz: Control steps in a second; None: as the simulated robot has it.
        safe: The action to fall back on, [act]; None: 0, or what is nearest to it; choice 0.
        slew_per_s: How far each number of an action may change in a second, [act]; None: no limit.
        sign: Who signs it: a private ed25519 key in PEM; None: nobody.
        distill: How a network is taught what the policy decides, and exported instead; None: the
            policy itself is exported.
    """

    rate_hz: float | None = None
    safe: Sequence[float] | None = None
    slew_per_s: Sequence[float] | None = None
    sign: Path | None = None
    distill: DistillConfig | None = None


_DEFAULTS = Options()


def export_run(run: Run, out: str | Path, task: str | None = None, options: Options = _DEFAULTS,
               watch: Watch = lambda task, done, of: None) -> list[Path]:
    """Writes bundles of the newest policies of a run.

    Args:
        run: The run.
        out: With a task, the bundle; without, a folder that gets a bundle for each.
        task: One task of the run; None: all.
        options: See :class:`Options`.
        watch: Called with a task, and the steps of distilling that are done, and of how many.

    Returns:
        The bundles.

    Raises:
        UserError: As :func:`export_policy`.
    """
    agent, stream, folder = run.agent(), run.stream, Path(out)
    latest = CheckpointStore(run.folder / "checkpoints").latest()
    source = {
        "agent": run.config["agent"]["name"],
        "methods": " ".join(method["name"] for method in run.config["methods"]),
        "seed": run.info["seed"], "protocol": run.info["protocol"],
        "checkpoint": latest.name if latest else None, "commit": run.info.get("commit")}
    if task is not None:
        wanted = {task: folder}
    else:
        wanted = {one.name: folder / one.name.replace("/", "-") for one in stream}
    made = []
    for name, target in wanted.items():
        one = stream[name]
        policy, origin = agent.policy(one), dict(source)
        if options.distill is not None:
            require(not target.exists(), f"{target} exists already; choose another --out")
            corrected = policy if isinstance(policy, RefinedPolicy) else None
            student, taught, learned = distill(corrected.policy if corrected else policy, one,
                                               options.distill, run.info["seed"],
                                               partial(watch, name))
            policy = RefinedPolicy(student, corrected.correction) if corrected else student
            origin["distilled"] = (
                f"{options.distill.steps} steps; in {options.distill.episodes} episodes it earns "
                f"{learned:.4g} on average, what taught it {taught:.4g}")
        made.append(export_policy(policy, one, stream, target, origin, options))
    return made


def export_zip(path: Path, stream: TaskStream, out: Path, options: Options = _DEFAULTS) -> Path:
    """Writes a bundle of a model that Stable-Baselines3 saved.

    Opening such a file runs what is pickled in it: give only files of people whom you trust.

    Args:
        path: The .zip.
        stream: Its first task is what the model was trained on.
        out, options: As of :func:`export_policy`.

    Raises:
        UserError: As :func:`export_policy`; or the model cannot be loaded, or fits no such task.
    """
    from crl.deploy.sb3 import load_policy

    policy = load_policy(path, stream)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    source = {"agent": f"Stable-Baselines3, {type(policy.policy).__name__}", "zip_sha256": digest}
    return export_policy(policy, stream[0], stream, out, source, options)


def export_policy(policy: Policy, task: Task, stream: TaskStream, out: Path,
                  source: dict[str, Any], options: Options = _DEFAULTS) -> Path:
    """Writes a bundle, makes the runtime open it, and only then gives it its name.

    Args:
        policy: The policy.
        task: What it is for; its environment is played in.
        stream: That of the task.
        out: The bundle; must not exist.
        source: Where the policy comes from, plain values.
        options: See :class:`Options`.

    Returns:
        ``out``.

    Raises:
        UserError: The policy cannot be exported, does not do in ONNX Runtime what it does in
            PyTorch, or ``out`` exists or cannot be written. Nothing half-written is left.
    """
    require(not out.exists(), f"{out} exists already; choose another --out")
    maker, key = step_maker(policy), _private_key(options.sign) if options.sign else None
    env = stream.make(task)
    try:
        rate = options.rate_hz or control_rate(env, task.name)
        manifest = {"schema": "crl-bundle/1", "task": task.name, "source": source,
                    "versions": {**{name: version(name) for name in _PACKAGES},
                                 "opset": str(OPSET)},
                    **_interface(policy.spec, *terms(env, task.name), options),
                    **_timing(rate, policy.spec.discrete)}
        golden, states = play(policy, env)
    finally:
        env.close()
    step = maker(states)
    model, weights = convert(step)
    manifest |= {
        "state": [{"input": name, "output": f"next_{name}", "shape": list(shape), "initial": 0.0,
                   "reset": "initial"} for name, shape in step.state.items()],
        "parity": {"steps": len(golden.first), "episodes": int(golden.first.sum()),
                   "largest_error": 0.0, "tolerance": step.tolerance},
        "simulation": stream.options, "signature": key and {
            "algorithm": "ed25519", "public_key": key.public_key().public_bytes_raw().hex()}}
    try:
        manifest["parity"]["largest_error"] = BundlePolicy(model, manifest).prove(golden)
    except BundleError as error:
        raise UserError(f"the policy of {task.name!r} does not do in ONNX Runtime what it does in "
                        f"PyTorch: {error}") from None
    contents = {files.POLICY: model, files.WEIGHTS: weights,
                files.GOLDEN: files.write_golden(golden),
                files.CARD: model_card(manifest).encode()}
    manifest["files"] = {name: {"sha256": hashlib.sha256(content).hexdigest(),
                                "bytes": len(content)} for name, content in contents.items()}
    _write(out, manifest, contents, key)
    return out


def control_rate(env: Env, name: str) -> float:
    """Control steps in a second of a simulated robot's time."""
    step = getattr(env.unwrapped, "dt", None)
    rate = 1 / step if step else env.metadata.get("render_fps")
    if not rate:
        raise UserError(f"task {name!r} does not say how long a step is; add --rate, in steps a "
                        "second, such as --rate 50")
    return round(float(rate), 6)


def _interface(spec: PolicySpec, observation: list[Term], action: list[Term], options: Options
               ) -> dict[str, Any]:
    """``observation`` and ``action`` of a manifest; errors of the options."""
    low, high, discrete = spec.action_low, spec.action_high, spec.discrete
    usual = np.eye(1, len(low))[0] if discrete else np.clip(0, low, high)
    safe = np.asarray(usual if options.safe is None else options.safe, np.float32)
    require(safe.shape == low.shape and bool(((low <= safe) & (safe <= high)).all())
            and (not discrete or sorted(safe)[-2:] == [0, 1]),
            f"a safe action is {len(low)} numbers within the action's bounds"
            f"{', one of them 1 and the others 0' if discrete else ''}; got {options.safe}")
    slew = options.slew_per_s or (None,) * len(low)
    require(len(slew) == len(low) and all(s is None or (not discrete and 0 < s < np.inf)
                                          for s in slew),
            f"how far a continuous action may change in a second is {len(low)} numbers above 0, "
            f"got {options.slew_per_s}")
    return {
        "observation": {"terms": [
            {**term._asdict(), "low": _number(a), "high": _number(b)} for term, a, b in
            zip(observation, spec.observation_low, spec.observation_high, strict=True)]},
        "action": {"kind": "discrete" if discrete else "continuous", "terms": [
            {**term._asdict(), "low": _number(a), "high": _number(b), "safe": _number(s),
             "slew_per_s": change} for term, a, b, s, change in
            zip(action, low, high, safe, slew, strict=True)]}}


def _timing(rate: float, discrete: bool) -> dict[str, Any]:
    """What a manifest says of time; choices cannot be moved between."""
    return {"rate_hz": rate, "jitter_s": round(0.25 / rate, 9),
            "guard": {"stale_s": round(2.5 / rate, 9), "hold_steps": 2,
                      "decay_steps": 0 if discrete else max(1, round(0.2 * rate))}}


def _number(value: np.float32) -> float | None:
    """As short as it can be written and be the same float32; None of what is infinite."""
    return float(str(value)) if np.isfinite(value) else None


def _private_key(path: Path) -> Ed25519PrivateKey:
    """The ed25519 key in a PEM file without a password; ``UserError`` if there is none."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a password
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise UserError(f"{path} is no private ed25519 key; type: openssl genpkey -algorithm "
                        f"ed25519 -out {path}")
    return key


def _write(out: Path, manifest: Manifest, contents: dict[str, bytes],
           key: Ed25519PrivateKey | None) -> None:
    content = (json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    unfinished = out.with_name(f".{out.name}.unfinished")
    try:
        made = [folder for folder in out.parents if not folder.exists()]
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        signed = {files.SIGNATURE: key.sign(content)} if key else {}
        for name, part in {**contents, files.MANIFEST: content,
                           files.SEAL: files.seal(content), **signed}.items():
            write_synced(unfinished / name, part)
        load(unfinished)
        unfinished.rename(out)
    except (OSError, BundleError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write {out}: {reason}") from None
