"""Trees of arrays and values: round trips to the last bit, and no instant without a whole one."""

from __future__ import annotations

import json
import math
import os
import pickle
import pickletools
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from support import listing, patch

import crl
from crl import checkpoint
from crl.checkpoint import CheckpointStore, load_tree, replace_file, same_structure, save_tree
from crl.errors import UserError

DTYPES = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
          "float16", "float32", "float64", "complex64"]
ORDERS = ["<", ">"]

plain = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(2**63, 2**200), st.text(),
    st.floats(allow_nan=True, allow_infinity=True),
)
array = st.builds(
    lambda dtype, order, shape, bits: make_array(np.dtype(dtype).newbyteorder(order), shape, bits),
    st.sampled_from(DTYPES), st.sampled_from(ORDERS),
    arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4), st.randoms(),
)
keys = st.text(max_size=5) | st.sampled_from(["a", "a/b", "/", "", "__metadata__", "0:/a", "b/c"])
trees = st.dictionaries(keys, st.recursive(
    plain | array,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12), max_size=4)


def make_array(dtype: np.dtype[Any], shape: tuple[int, ...], random: Any) -> np.ndarray:
    """Any bits at all: NaNs with payloads, negative zeros, subnormal numbers."""
    count = math.prod(shape)
    if dtype.kind == "b":
        return np.array([random.random() < 0.5 for _ in range(count)], bool).reshape(shape)
    content = bytes(random.randrange(256) for _ in range(count * dtype.itemsize))
    return np.frombuffer(content, dtype).reshape(shape)


def bits(number: float) -> bytes:
    return struct.pack("d", number)


def assert_same(a: Any, b: Any) -> None:
    """Equal in type, shape and every bit; a tuple comes back as a list."""
    if isinstance(a, np.ndarray):
        assert isinstance(b, np.ndarray)
        native = a.astype(a.dtype.newbyteorder("="))
        assert (b.dtype, b.shape) == (native.dtype, a.shape)
        assert b.tobytes() == native.tobytes()
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert isinstance(b, list)
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, float) and not math.isnan(a):
        assert type(b) is float
        assert bits(a) == bits(b)
    elif isinstance(a, float):
        assert math.isnan(b)
    else:
        assert type(a) is type(b)
        assert a == b


@settings(max_examples=150, deadline=None)
@given(trees)
def test_round_trip(tree: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save_tree(tree, Path(folder) / "tree")
        loaded = load_tree(Path(folder) / "tree")
        assert os.listdir(folder) == ["tree"]
    assert_same(tree, loaded)
    assert same_structure(tree, loaded)


def test_the_comparison_sees_small_differences() -> None:
    """Control."""
    for a, b in ((0.0, -0.0), (1, True), (1, 1.0), ([1], [1, 2]), (np.zeros(1), np.zeros((1, 1))),
                 (np.float32([0]), np.float64([0])), (np.array([0.0]), np.array([-0.0])),
                 ({"a": 1, "b": 2}, {"b": 2, "a": 1})):
        with pytest.raises(AssertionError):
            assert_same(a, b)


def test_awkward_arrays(tmp_path: Path) -> None:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    tree = {
        "transposed": base.T, "strided": base[::2, ::-1], "fortran": np.asfortranarray(base),
        "scalar": np.array(2.5), "empty": np.empty((0, 3), np.int16), "big": base.astype(">f8"),
        "broadcast": np.broadcast_to(np.float32(1), (2, 2)),
        "views": [base[0], base[0]], "generator": np.random.default_rng(3).bit_generator.state,
    }
    save_tree(tree, tmp_path / "tree")
    loaded = load_tree(tmp_path / "tree")
    assert_same(tree, loaded)
    loaded["transposed"][0, 0] = 5  # what is loaded is the reader's own
    assert base[0, 0] == 0


def test_keys_that_look_like_paths_do_not_collide(tmp_path: Path) -> None:
    tree = {"a/b": np.zeros(1), "a": {"b": np.ones(1)}, "": {"a/b": np.full(1, 2.0)}}
    save_tree(tree, tmp_path / "tree")
    assert_same(tree, load_tree(tmp_path / "tree"))


@pytest.mark.parametrize(
    ("leaf", "hint"),
    [
        ({1, 2}, "cannot hold set at '/x/0'"), (b"bytes", "cannot hold bytes"),
        (object(), "cannot hold object"), (np.float32(1), "cannot hold float32"),
        (np.array(["text"]), "cannot hold an array of <U4"),
        (np.array([object()]), "cannot hold an array of object"),
        (np.zeros(1, np.complex128), "cannot hold an array of complex128"),
        (np.zeros(1, np.longdouble), "cannot hold an array of"),
        (np.zeros(1, "M8[s]"), "cannot hold an array of datetime64"),
        (np.zeros(1, [("a", "f4")]), "cannot hold an array of"),
        ({1: "one"}, "keys of a checkpoint must be strings"),
        ({"__array__": "x"}, "'__array__'"),
        (Path("x"), "cannot hold PosixPath"), (lambda: None, "cannot hold function"),
    ],
)
def test_what_a_checkpoint_cannot_hold(leaf: Any, hint: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError) as error:
        save_tree({"x": [leaf]}, tmp_path / "tree")
    assert hint in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ({"a": np.zeros((2, 3))}, {"a": np.ones((2, 3))}, True),
        ({"a": 1}, {"a": 2.5}, True), ([1, [2]], [3, [4]], True), ((1,), [2], True),
        ({"a": None}, {"a": "x"}, True), ({"a": 2**200}, {"a": 0}, True),
        ({"a": np.zeros((2, 3))}, {"a": np.zeros((3, 2))}, False),
        ({"a": 1}, {"b": 1}, False), ({"a": 1}, {"a": 1, "b": 1}, False), ([1], [1, 2], False),
        ({"a": [1]}, {"a": {"0": 1}}, False), ({"a": np.zeros(1)}, {"a": 0.0}, False),
        ({}, [], False),
    ],
)
def test_same_structure(a: Any, b: Any, same: bool) -> None:
    assert same_structure(a, b) is same
    assert same_structure(b, a) is same


# ---- atomic ----

OLD = {"step": 1, "weights": np.zeros(4)}
NEW = {"step": 2, "weights": np.ones(4), "more": [1, 2]}


class Crash(BaseException):
    """The process is gone: unlike SIGKILL, but like Ctrl-C, clean-up code still runs."""


def crash(when: str, call: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    calls = 0

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call and when == "before":
                raise Crash
            if calls == call and when == "half":
                path, content = arguments
                path.write_bytes(content[: len(content) // 2])
                raise Crash
            result = original(*arguments, **options)
            if calls == call and when == "after":
                raise Crash
            return result
        return wrapped
    return wrap


STAGES = [
    *[("crl.checkpoint:write_synced", when, n, False)
      for n in range(1, 5) for when in ("before", "half", "after")],
    ("pathlib:Path.mkdir", "after", 2, False), ("os:rename", "before", 1, False),
    ("os:rename", "after", 1, False), ("os:replace", "before", 1, False),
    ("os:replace", "after", 1, True), ("shutil:rmtree", "before", 2, True),
    ("shutil:rmtree", "after", 2, True),
]


@pytest.mark.parametrize(("target", "when", "call", "new"), STAGES)
def test_a_crash_at_any_stage_leaves_the_old_or_the_new(
    target: str, when: str, call: int, new: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path / "store")
    store.save(OLD, "old")
    for module, name in ((checkpoint, "write_synced"), (os, "rename"), (os, "replace"),
                         (shutil, "rmtree"), (Path, "mkdir")):
        monkeypatch.setattr(module, name, getattr(module, name))  # put back in the end
    patch(target, crash(when, call))
    with pytest.raises(Crash):
        store.save(NEW, "new")
    monkeypatch.undo()
    latest = CheckpointStore(tmp_path / "store").latest()
    assert latest is not None
    assert_same(NEW if new else OLD, load_tree(latest))
    store.save(NEW, "newer")
    assert sorted(p.name for p in (tmp_path / "store").iterdir()) == ["latest", "newer"]
    assert_same(NEW, load_tree(tmp_path / "store" / "newer"))


def test_saving_keeps_the_newest_only(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "store")
    assert store.latest() is None
    for number in range(3):
        store.save({"step": number}, str(number))
        assert store.latest() == tmp_path / "store" / str(number)
        assert sorted(listing(tmp_path / "store")) == [
            f"{number}", f"{number}/arrays.safetensors", f"{number}/done", f"{number}/tree.json",
            "latest"]


def test_the_newest_is_never_replaced_in_place(tmp_path: Path) -> None:
    """There is no way to do that in one step, so it is refused."""
    store = CheckpointStore(tmp_path / "store")
    store.save(OLD, "same")
    with pytest.raises(ValueError, match="give another name"):
        store.save(NEW, "same")
    assert_same(OLD, load_tree(tmp_path / "store" / "same"))


def test_replacing_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")
    for target, name in ((checkpoint, "write_synced"), (os, "replace")):
        monkeypatch.setattr(target, name, crash("before", 1)(getattr(target, name)))
        with pytest.raises(Crash):
            replace_file(path, b"new")
        monkeypatch.undo()
        assert listing(tmp_path) == {"file": b"old"}
    replace_file(path, b"new")
    assert listing(tmp_path) == {"file": b"new"}


def test_a_write_is_on_the_disk_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file is synced before the rename that makes it count, and removal comes last."""
    events: list[str] = []

    def note(event: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*arguments: Any, **options: Any) -> Any:
                target = arguments[0]
                if isinstance(target, int):
                    target = Path(os.readlink(f"/proc/self/fd/{target}"))
                events.append(f"{event} {Path(target).name}")
                return original(*arguments, **options)
            return wrapped
        return wrap

    store = CheckpointStore(tmp_path / "store")
    store.save(OLD, "old")
    for module, name in ((os, "fsync"), (os, "rename"), (os, "replace"), (shutil, "rmtree")):
        monkeypatch.setattr(module, name, note(name)(getattr(module, name)))
    store.save(NEW, "new")
    assert [e for e in events if e != "rmtree .new.unfinished"] == [
        "fsync tree.json", "fsync arrays.safetensors", "fsync done", "rename .new.unfinished",
        "fsync .latest.unfinished", "replace .latest.unfinished", "rmtree old"]


# ---- damaged ----


@pytest.mark.parametrize("name", ["tree.json", "arrays.safetensors", "done"])
@settings(max_examples=40, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_every_flipped_bit_is_seen(name: str, position: float, bit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save_tree(NEW, Path(folder) / "tree")
        path = Path(folder) / "tree" / name
        content = bytearray(path.read_bytes())
        content[int(position * len(content))] ^= 1 << bit
        path.write_bytes(content)
        with pytest.raises(UserError) as error:
            load_tree(Path(folder) / "tree")
        assert "\n" not in str(error.value)


def rehashed(folder: Path, tree: bytes, arrays: bytes | None = None) -> None:
    """A checkpoint written by another program: anything in it, with the right hashes."""
    import hashlib

    (folder / "tree.json").write_bytes(tree)
    if arrays is not None:
        (folder / "arrays.safetensors").write_bytes(arrays)
    (folder / "done").write_text(json.dumps({
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("tree.json", "arrays.safetensors")}))


@pytest.mark.parametrize(
    ("tree", "arrays"),
    [
        (b"[]", None), (b"5", None), (b"", None), (b"{", None), (b"\xff", None),
        (b'{"a": {"__array__": "missing"}}', None), (b'{"a": {"__array__": 5}}', None),
        (b'{"a": {"__array__": ["x"]}}', None), (b"[" * 100_000, None),
        (b"{}", b""), (b"{}", b"garbage"), (b"{}", b"\xff" * 64),
        (b"{}", pickle.dumps({"weights": 1})),
    ],
)
def test_what_another_program_wrote_is_refused(
    tree: bytes, arrays: bytes | None, tmp_path: Path
) -> None:
    save_tree(OLD, tmp_path / "tree")
    rehashed(tmp_path / "tree", tree, arrays)
    with pytest.raises(UserError, match="cannot be read as a checkpoint") as error:
        load_tree(tmp_path / "tree")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"a/b", b"../other", b"/etc", b"\xff\xfe"])
def test_latest_names_one_checkpoint(content: bytes, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    (tmp_path / "latest").write_bytes(content)
    with pytest.raises(UserError, match="latest") as error:
        store.latest()
    assert "\n" not in str(error.value)


def test_latest_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    with pytest.raises(UserError, match="latest cannot be read: Is a directory"):
        CheckpointStore(tmp_path).latest()


# ---- no pickle ----


def test_no_pickle(tmp_path: Path) -> None:
    """No file of a run is a pickle or holds one, and no module of ours can read one."""
    from toy import corners

    stream = corners(2, 50)
    agent = crl.make_agent("sac", stream, hidden=(8,))
    run = crl.train(agent, stream, ["packnet"], out=tmp_path / "run", eval_episodes=1)
    files = [p for p in run.folder.rglob("*") if p.is_file()]
    assert len(files) >= 7
    for path in files:
        assert not is_pickle(path.read_bytes()), path
        assert path.suffix not in (".pkl", ".pickle", ".pt", ".pth", ".npy"), path
    assert is_pickle(pickle.dumps([1]))  # control
    for path in Path(crl.__file__).parent.rglob("*.py"):
        words = path.read_text()
        for reader in ("import pickle", "torch.load(", "torch.save(", "allow_pickle=True",
                       "joblib", "cloudpickle"):
            assert reader not in words, (path, reader)


def is_pickle(content: bytes) -> bool:
    try:
        operations = [op.name for op, _, _ in pickletools.genops(content)]
    except Exception:
        return False
    return operations[-1:] == ["STOP"]
