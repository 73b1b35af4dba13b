"""Bundles that are damaged, or made to harm: thousands of them, opened one after another.

    python tests/deploy/hostile.py BUNDLE COUNT SEED

opens so many and prints what came of each kind. It needs NumPy, onnx and crl.deploy alone, and
gives itself so little memory that whatever takes more ends it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import resource
import shutil
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from crl.deploy.runtime import BundleError, load

Rng = random.Random
MEMORY = 2**31  # bytes of address space, of which the libraries take a part
MARKER = "code-was-run"
PARTS = ("policy.onnx", "weights.safetensors", "golden.npz", "README.md")
OTHERS = ("manifest.json", "manifest.sha256")


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, (MARKER,)


def seal(folder: Path, manifest: Any = None) -> None:
    """Makes all hashes right again, as an attacker would."""
    if manifest is None:
        manifest = json.loads((folder / "manifest.json").read_text())
        for name in PARTS:
            content = (folder / name).read_bytes()
            manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(),
                                       "bytes": len(content)}
    content = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    (folder / "manifest.sha256").write_text(f"{digest}  manifest.json\n")


# ---- damage, which the hashes tell ----


def flip_bits(folder: Path, rng: Rng) -> None:
    path = folder / rng.choice(PARTS + OTHERS)
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 1, 5))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def truncate(folder: Path, rng: Rng) -> None:
    path = folder / rng.choice(PARTS + OTHERS)
    path.write_bytes(path.read_bytes()[:rng.randrange(path.stat().st_size)])


def append(folder: Path, rng: Rng) -> None:
    path = folder / rng.choice(PARTS + OTHERS)
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.choice((1, 10_000))))


def remove(folder: Path, rng: Rng) -> None:
    (folder / rng.choice(PARTS + OTHERS)).unlink()


def swap(folder: Path, rng: Rng) -> None:
    one, other = (folder / name for name in rng.sample(PARTS + OTHERS, 2))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def link_outside(folder: Path, rng: Rng) -> None:
    path = folder / rng.choice(PARTS + OTHERS)
    target = folder.parent / "outside"
    shutil.copy(path, target)  # the same content, so that hashes fit
    path.unlink()
    path.symlink_to(rng.choice((target, Path("../outside"))))


def no_file(folder: Path, rng: Rng) -> None:
    path = folder / rng.choice(PARTS + OTHERS)
    path.unlink()
    rng.choice((path.mkdir, lambda: os.mkfifo(path)))()


# ---- attacks, all of whose hashes are right ----


def hostile_json(folder: Path, rng: Rng) -> None:
    seal(folder, rng.choice((
        b"[" * 500_000, b'{"a":' * 100_000, b"", b"null", b"[]", b"\xff\xfe", b'{"schema": NaN}',
        b'{"schema": "crl-bundle/1", "schema": "crl-bundle/1"}', b"9" * 100_000,
        b'{"' + b"x" * 10**6 + b'": 1}', b"[" + b"0," * 10**6 + b"0]", b'"' + b"\\u0000" * 10**5,
        b'{"schema": 1e999}', b" " * 2**25, pickle.dumps(Bomb()))))


def edited_manifest(folder: Path, rng: Rng) -> None:
    """A value somewhere in the manifest becomes another that must not stand there."""
    manifest = json.loads((folder / "manifest.json").read_text())
    terms = manifest["observation"]["terms"] + manifest["action"]["terms"]
    files, far = manifest["files"], {"sha256": "0" * 64, "bytes": 10}
    rng.choice((
        lambda: files.update({"../../etc/passwd": far}), lambda: files.update({"/etc/passwd": far}),
        lambda: files.update({"a\0b": far}), lambda: files.update({"..\\x": far}),
        lambda: files.pop("policy.onnx"), lambda: files["policy.onnx"].update(bytes=2**60),
        lambda: files["policy.onnx"].update(bytes=-1), lambda: files["golden.npz"].update(bytes=3),
        lambda: files["policy.onnx"].update(sha256="../" * 21 + "a"),
        lambda: files["policy.onnx"].update(path="/etc/passwd"),
        lambda: manifest.update(schema="crl-bundle/2"), lambda: manifest.update(schema=1),
        lambda: manifest.update(extra=1), lambda: manifest.pop("rate_hz"),
        lambda: manifest.update(rate_hz=rng.choice((0, -1, 1e300, "50", None, True, [50]))),
        lambda: manifest.update(task=rng.choice(("", "x" * 10**5, "a\x1b[2J", 5, "a\n"))),
        lambda: manifest.update(signature=rng.choice((
            "00", {}, {"algorithm": "none", "public_key": "0" * 64},
            {"algorithm": "ed25519", "public_key": "../../etc/passwd"}))),
        lambda: manifest.update(simulation=[1]),
        lambda: manifest.update(simulation={"name": {"a": "b"}}),
        lambda: manifest.update(state=[{
            "input": "a", "output": "b", "shape": rng.choice(([2**24, 2**24], [2**24 + 1], [-1],
                                                              [0], [1] * 100, [1.5], "x", [])),
            "initial": 0.0, "reset": "initial"}]),
        lambda: manifest.update(state=[{"input": "observation", "output": "b", "shape": [1],
                                        "initial": 0.0, "reset": "initial"}]),
        lambda: manifest["parity"].update(tolerance=rng.choice((1e6, 0, -1))),
        lambda: manifest["parity"].update(steps=rng.choice((10**12, 0, 257, 256.5))),
        lambda: manifest["guard"].update(hold_steps=rng.choice((-1, 10**9, 0.5))),
        lambda: manifest["guard"].update(stale_s=rng.choice((0, -1, 1e9))),
        lambda: rng.choice(terms).update(low=5, high=rng.choice((4, -5))),
        lambda: rng.choice(terms).update(name=terms[0]["name"]) or terms[1].update(
            name=terms[0]["name"]),
        lambda: rng.choice(terms).update(unit="m" * 1000),
        lambda: manifest["action"]["terms"][0].update(safe=1e20),
        lambda: manifest["action"]["terms"].append(dict(manifest["action"]["terms"][0], name="z")),
        lambda: manifest["observation"]["terms"].pop(),
        lambda: manifest["observation"].update(terms=[]),
    ))()
    seal(folder, manifest)


def pickle_in_disguise(folder: Path, rng: Rng) -> None:
    kind = rng.randrange(5)
    if kind == 4:
        (folder / "weights.safetensors").write_bytes(rng.choice((
            pickle.dumps(Bomb()), b"PK\x03\x04" + bytes(30), bytes(8), b"\xff" * 8 + b"{}",
            b"\x02" + bytes(7) + b"[]", b"\x09" + bytes(7) + b'{"a": {}}')))
    elif kind == 0:
        (folder / "policy.onnx").write_bytes(pickle.dumps(Bomb()))
    elif kind == 1:
        (folder / "golden.npz").write_bytes(pickle.dumps(Bomb()))
    else:
        entry = {"observation": np.array([Bomb()], object)} if kind == 2 else {}
        rewrite_golden(folder, entry, {"action": pickle.dumps(Bomb())} if kind == 3 else {})
    seal(folder)


def rewrite_golden(folder: Path, arrays: dict[str, Any] | None = None,
                   raw: dict[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED
                   ) -> None:
    """golden.npz with other arrays, or other bytes, in the place of its own."""
    with np.load(folder / "golden.npz") as found:
        own = dict(found)
    with zipfile.ZipFile(folder / "golden.npz", "w", compression) as archive:
        for name, array in {**own, **(arrays or {})}.items():
            stream = io.BytesIO()
            np.lib.format.write_array(stream, np.asarray(array))
            archive.writestr(f"{name}.npy", (raw or {}).get(name, stream.getvalue()))


def hostile_golden(folder: Path, rng: Rng) -> None:
    header = io.BytesIO()
    shape = rng.choice(((10**12, 3), (2**62, 2**62), (256, 10**9), (-1, 3)))
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False,
                                                  "shape": shape})
    with np.load(folder / "golden.npz") as found:
        own = dict(found)
    wrong = rng.choice((
        {"observation": own["observation"].astype(np.float64)}, {"first": own["first"].astype(int)},
        {"action": own["action"].astype("S3")}, {"action": own["action"][:-1]},
        {"observation": own["observation"].T.copy()}, {"action": own["action"] + 0.5},
        {"observation": np.full_like(own["observation"], np.nan)},
        {"first": np.zeros_like(own["first"])},
        {"action": np.full_like(own["action"], np.inf)}))
    kind = rng.randrange(5)
    if kind == 0:
        rewrite_golden(folder, raw={"observation": header.getvalue()})
    elif kind == 1:  # a bomb: small in the file, large when it is read
        rewrite_golden(folder, raw={"observation": bytes(50_000_000)},
                       compression=zipfile.ZIP_DEFLATED)
    elif kind == 2:
        rewrite_golden(folder, {"../outside": np.zeros(3)})
    elif kind == 3:  # it says that it is larger than the file
        content = bytearray((folder / "golden.npz").read_bytes())
        for at in [i for i in range(len(content) - 46) if content[i:i + 4] == b"PK\x01\x02"]:
            content[at + 20:at + 28] = (2**32 - 2).to_bytes(4, "little") * 2
        (folder / "golden.npz").write_bytes(content)
    else:
        rewrite_golden(folder, wrong)
    seal(folder)


def hostile_graph(folder: Path, rng: Rng) -> None:
    """A model that takes too much, reads what it must not, or is something else."""
    path = folder / "policy.onnx"
    model = onnx.load_from_string(path.read_bytes())
    graph = model.graph
    size = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    small = numpy_helper.from_array(np.ones(1, np.float32), "small")
    column = numpy_helper.from_array(np.ones((60_000, 1), np.float32), "column")

    def only(nodes: list[Any], tensors: list[Any]) -> None:
        del graph.node[:], graph.initializer[:]
        graph.node.extend(nodes)
        graph.initializer.extend(tensors)

    def reduced(name: str) -> list[Any]:
        """An action made of a tensor, so that it must be computed."""
        return [helper.make_node("ReduceMax", [name], ["least"], keepdims=0),
                helper.make_node("Slice", ["observation", "from", "to", "axis"], ["few"]),
                helper.make_node("Add", ["few", "least"], ["action"])]

    ends = [numpy_helper.from_array(np.int64([v]), n) for v, n in
            ((0, "from"), (size, "to"), (1, "axis"))]
    large = numpy_helper.from_array(np.int64([4_000_000_000]), "shape")
    external = onnx.TensorProto(name="small", data_type=TensorProto.FLOAT, dims=[1],
                                data_location=TensorProto.EXTERNAL)
    external.external_data.add(key="location", value=rng.choice((
        "../../../../etc/passwd", "/etc/passwd", "weights.safetensors")))
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["goes"])], "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("go", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("goes", TensorProto.BOOL, [])])
    changes: tuple[Callable[[], object], ...] = (
        lambda: only([helper.make_node("Expand", ["small", "shape"], ["much"]), *reduced("much")],
                     [small, large, *ends]),
        lambda: only([helper.make_node("Transpose", ["column"], ["row"]),
                      helper.make_node("MatMul", ["column", "row"], ["much"]), *reduced("much")],
                     [column, *ends]),
        lambda: only([helper.make_node("Tile", ["small", "shape"], ["much"]), *reduced("much")],
                     [small, large, *ends]),
        lambda: only([*reduced("small")], [external, *ends]),
        lambda: graph.initializer.append(external),
        lambda: graph.node.append(helper.make_node("Loop", ["", ""], ["x"], body=body)),
        lambda: graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["x"])),
        lambda: graph.node.append(helper.make_node("Gelu", ["action"], ["x"], domain="evil")),
        lambda: graph.node.append(helper.make_node("PyOp", ["action"], ["x"], domain="evil")),
        lambda: model.functions.add(name="f", domain="evil"),
        lambda: graph.sparse_initializer.add(),
        lambda: graph.node.pop(), lambda: graph.node.append(graph.node[0]),
        lambda: graph.output.pop(), lambda: graph.input.pop(),
        lambda: graph.input[0].type.tensor_type.shape.dim[1].__setattr__("dim_value", 2**40),
        lambda: graph.input[0].type.tensor_type.__setattr__("elem_type", TensorProto.DOUBLE),
        lambda: graph.output[0].__setattr__("name", "other"),
        lambda: graph.initializer[0].dims.__setitem__(slice(None), [2**40, 2**40]),
        lambda: graph.initializer[0].dims.__setitem__(slice(None), [-1]),
        lambda: graph.initializer[0].__setattr__("data_type", TensorProto.STRING),
        lambda: graph.initializer[0].__setattr__("raw_data", b""),
        lambda: model.opset_import[0].__setattr__("version", rng.choice((0, 10**9))),
        lambda: model.ClearField("graph"),
    )
    rng.choice(changes)()
    path.write_bytes(model.SerializeToString())
    seal(folder)


def wild_graph(folder: Path, rng: Rng) -> None:
    """Bits of the model that are others, all hashes being right: perhaps it still does the same."""
    path = folder / "policy.onnx"
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 3, 20))):
        content[rng.randrange(len(content))] = rng.randrange(256)
    path.write_bytes(content)
    seal(folder)


REFUSED = (flip_bits, truncate, append, remove, swap, link_outside, no_file, hostile_json,
           edited_manifest, pickle_in_disguise, hostile_golden, hostile_graph)
"""What none may be opened of."""


def attack(bundle: Path, count: int, seed: int) -> dict[str, dict[str, int]]:
    """Opens so many; by kind, how many were refused, and how many do what the golden steps say."""
    outcomes: dict[str, Counter[str]] = {}
    descriptors = len(os.listdir("/proc/self/fd"))
    with tempfile.TemporaryDirectory() as root:
        os.chdir(root)
        for number in range(count):
            rng = random.Random(f"{seed} {number}")
            change = (*REFUSED, wild_graph)[number % (len(REFUSED) + 1)]
            folder = Path(root) / "bundle"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(bundle, folder)
            before = {p.name: p.read_bytes() for p in folder.iterdir()}
            change(folder, rng)
            if {p.name: p.is_file() and not p.is_symlink() and p.read_bytes()
                    for p in folder.iterdir()} == before:
                continue  # it has changed nothing
            outcome = "refused"
            try:
                load(folder)
                outcome = "opened"
            except BundleError as error:
                if "\n" in str(error) or not 10 < len(str(error)) < 1000:
                    outcome = f"refused with {str(error)!r}"
            if Path(MARKER).exists():
                outcome = "code was run"
            if outcome != "refused" and change is not wild_graph:
                print(f"{change.__name__} {seed} {number}: {outcome}", file=sys.stderr)
            outcomes.setdefault(change.__name__, Counter())[outcome] += 1
        left_open = len(os.listdir("/proc/self/fd")) - descriptors
    if left_open > 0:
        outcomes["files"] = Counter({"left open": left_open})
    return {kind: dict(counts) for kind, counts in outcomes.items()}


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    print(json.dumps(attack(Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3]))))
