"""Data sets: Minari reads what we write, we read what it writes, and damage is noticed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium
import minari
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
from played import CORNER, Toward, same, some_episodes

import crl
from crl.agents.scripted import scripted_policy
from crl.data import collect, read_data
from crl.data.environment import spec_of
from crl.data.minari_store import About, find_data, read_metadata, write_data
from crl.stream import TaskStream

pytestmark = pytest.mark.filterwarnings("ignore:Constant")
FORMATS = ("hdf5", "arrow")
OBS, ACT = Box(-np.inf, np.inf, (3,), np.float32), Box(-1, 1, (2,), np.float32)
ABOUT = About("random numbers", {"seed": 3}, "none-v1", OBS, ACT)


@pytest.fixture
def minari_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def is_one_line(error):
    return len(str(error).splitlines()) == 1 and len(str(error)) < 1000


@pytest.mark.parametrize("data_format", FORMATS)
def test_minaris_own_loader_reads_what_we_write(minari_root, data_format):
    episodes = some_episodes()
    write_data(minari_root, "push-v3", "scripted", episodes, ABOUT, data_format)
    dataset = minari.load_dataset("push-v3/scripted-v0")
    assert list(minari.list_local_datasets()) == ["push-v3/scripted-v0"]
    assert dataset.total_episodes == 7
    assert dataset.total_steps == episodes.steps
    assert (dataset.observation_space, dataset.action_space) == (OBS, ACT)
    metadata = dataset.storage.metadata
    assert metadata["data_format"] == data_format
    assert metadata["algorithm_name"] == "random numbers"
    assert metadata["crl"]["protocol"] == "none-v1"
    assert metadata["crl"]["version"] == crl.__version__
    assert metadata["crl"]["success_once"] == episodes.successful.mean()
    seeds = [m["seed"] for m in dataset.storage.get_episode_metadata(range(7))]
    assert seeds == episodes.seeds.tolist()
    for i, episode in enumerate(dataset):
        one = episodes.select([i])
        assert np.array_equal(episode.observations, one.obs)  # one more than steps
        assert np.array_equal(episode.actions, one.actions)
        assert np.array_equal(episode.rewards, one.rewards)
        assert np.array_equal(episode.terminations, one.terminated)
        assert np.array_equal(episode.truncations, one.truncated)
        assert np.array_equal(episode.infos["success"], [False, *one.success])


@pytest.mark.parametrize("data_format", FORMATS)
def test_what_is_read_is_what_was_written(tmp_path, data_format):
    for seeds in (some_episodes().seeds, np.full(7, -1)):
        episodes = replace(some_episodes(), seeds=seeds)
        folder = write_data(tmp_path, "a.task@2", "replay", episodes, ABOUT, data_format)
        assert folder == tmp_path / "a_task" / "replay-v0"
        assert same(read_data(tmp_path, "a.task"), episodes)
        assert same(read_data(str(tmp_path), "a.task@3", kind="replay"), episodes)
        shutil.rmtree(folder)


@pytest.mark.parametrize("options", [{}, {"observe_reward": True, "horizon": 12}])
def test_the_environment_can_be_made_again_and_plays_the_same(minari_root, options):
    stream = crl.make_stream("push-v3,window-close-v3", **{"horizon": 20, **options})
    task = stream["window-close-v3"]
    policy = scripted_policy(task.name, stream.observation_space)
    episodes = collect(policy, task, episodes=2, noise=0.3)
    env = task.make()
    about = About("", {}, "", env.observation_space, env.action_space, spec_of(stream, task))
    write_data(minari_root, task.name, "scripted", episodes, about)
    dataset = minari.load_dataset("window-close-v3/scripted-v0")
    again = dataset.recover_environment()
    assert again.observation_space == dataset.observation_space == env.observation_space
    for episode, seed in zip(dataset, episodes.seeds.tolist(), strict=True):
        obs, _ = again.reset(seed=seed)
        assert np.array_equal(obs, episode.observations[0])
        for t, action in enumerate(episode.actions):
            obs, reward, _, truncated, _ = again.step(action)
            assert np.array_equal(obs, episode.observations[t + 1])
            assert np.float32(reward) == episode.rewards[t]
        assert truncated


@pytest.mark.parametrize("name", ["slide-0.1", "Pendulum-v1,Pendulum-v1"])
def test_any_name_can_be_made_again(name):
    stream = crl.make_stream(name)
    env = gymnasium.make(spec_of(stream, stream[-1]))
    assert env.unwrapped.action_space == stream.action_space
    assert env.spec.to_json()


def test_a_set_is_never_replaced_nor_half_there(tmp_path, monkeypatch):
    write_data(tmp_path, "push-v3", "scripted", some_episodes(), ABOUT)
    with pytest.raises(crl.UserError, match="cannot write") as caught:
        write_data(tmp_path, "push-v3", "scripted", some_episodes(1), ABOUT)
    assert is_one_line(caught.value)
    assert same(read_data(tmp_path, "push-v3"), some_episodes())

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MinariStorage, "update_metadata", full)
    with pytest.raises(crl.UserError, match="No space left"):
        write_data(tmp_path, "reach-v3", "scripted", some_episodes(), ABOUT)
    assert [p.name for p in tmp_path.iterdir()] == ["push-v3"]
    assert [p.name for p in (tmp_path / "push-v3").iterdir()] == ["scripted-v0"]


# ---- what is not there, or not right ----


def test_missing_sets(tmp_path):
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(crl.UserError, match=f"type 'crl data --stream STREAM --out {root}'"):
            read_data(root, "push-v3")
    for kind in ("scripted", "replay"):
        write_data(tmp_path, "push-v3", kind, some_episodes(), ABOUT)
    with pytest.raises(crl.UserError, match="replay-v0, scripted-v0; say which kind"):
        read_data(tmp_path, "push-v3")
    assert find_data(tmp_path, "push-v3", "replay").name == "replay-v0"
    with pytest.raises(crl.UserError, match="no policy data of task 'push-v3'"):
        read_data(tmp_path, "push-v3", kind="policy")
    (tmp_path / "reach-v3" / "scripted-v0").mkdir(parents=True)
    with pytest.raises(crl.UserError, match="delete it and make it again"):
        read_data(tmp_path, "reach-v3")


def damages(folder: Path):
    """Ways to spoil a set, each with a name."""
    main = next(p for p in sorted(folder.rglob("*")) if p.suffix in (".hdf5", ".arrow"))
    content, meta = main.read_bytes(), folder / "data" / "metadata.json"
    for share in (0.0, 0.1, 0.5, 0.9, 0.999):
        yield f"cut at {share}", main, content[: int(share * len(content))]
    rng = np.random.default_rng(0)
    for k, position in enumerate(rng.integers(len(content), size=25)):
        spoilt = bytearray(content)
        spoilt[position : position + 8] = rng.bytes(8)
        yield f"spoilt {k}", main, bytes(spoilt)
    yield "no data", main, None
    text = meta.read_text()
    for k, other in enumerate(("", "{", "[]", "null", "{}", text[:-20], "\udcff")):
        yield f"text {k}", meta, other.encode(errors="surrogateescape")
    known = json.loads(text)
    for name in ("observation_space", "action_space", "data_format", "total_episodes",
                 "total_steps"):
        yield f"without {name}", meta, json.dumps(
            {k: v for k, v in known.items() if k != name}).encode()
        for value in (None, 5, "x", [], {}, True, "{}", '{"type": "Box"}'):
            yield f"{name} {value}", meta, json.dumps({**known, name: value}).encode()
    for value in (0, 1, 6, 8, -1):
        yield f"{value} episodes", meta, json.dumps({**known, "total_episodes": value}).encode()
    for value in (5, [], {}, None, {"fingerprint": "0" * 32}, *(
            {**known["crl"], key: None} for key in (
                "files", "fingerprint", "settings", "success_once", "mean_return"))):
        yield f"crl {value}", meta, json.dumps({**known, "crl": value}).encode()
    yield "no metadata", meta, None


@pytest.mark.parametrize("data_format", FORMATS)
def test_all_damage_is_noticed(tmp_path, data_format):
    episodes = some_episodes()
    folder = write_data(tmp_path, "push-v3", "scripted", episodes, ABOUT, data_format)
    for name, path, content in list(damages(folder)):
        before = path.read_bytes()
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(crl.UserError) as caught:
            read_data(tmp_path, "push-v3")
        assert is_one_line(caught.value), name
        assert "crl data --stream STREAM --out" in str(caught.value), name
        path.write_bytes(before)
    assert same(read_data(tmp_path, "push-v3"), episodes)


def foreign(root: Path, name: str, observation, action, episode) -> None:
    """A set that somebody else wrote, with Minari's own writer."""
    (root / name).mkdir(parents=True)
    storage = MinariStorage.new(root / name / "data", observation, action)
    storage.update_episodes([EpisodeBuffer(
        rewards=[1.0, 2.0], terminations=[False, True], truncations=[False, False], **episode)])
    storage.update_metadata({"dataset_id": name, "minari_version": minari.__version__})


def test_sets_of_others(tmp_path):
    obs, act = np.ones((3, 3), np.float32), np.ones((2, 2), np.float32)
    foreign(tmp_path, "flat/expert-v2", OBS, ACT, {"observations": obs, "actions": act})
    episodes = read_data(tmp_path, "flat")
    assert np.array_equal(episodes.obs, obs)
    assert episodes.returns.tolist() == [3.0]
    assert episodes.terminated.tolist() == [False, True]
    assert episodes.seeds.tolist() == [-1]
    assert not episodes.success.any()
    image = np.zeros((3, 32, 32, 3), np.uint8)
    foreign(tmp_path, "image/x-v0", Box(0, 255, (32, 32, 3), np.uint8), ACT,
            {"observations": image, "actions": act})
    foreign(tmp_path, "dict/x-v0", Dict({"a": OBS}), ACT,
            {"observations": {"a": obs}, "actions": act})
    foreign(tmp_path, "choice/x-v0", OBS, Discrete(4),
            {"observations": obs, "actions": np.array([0, 1])})
    foreign(tmp_path, "infinite/x-v0", OBS, ACT,
            {"observations": obs * np.inf, "actions": act})
    foreign(tmp_path, "short/x-v0", OBS, ACT, {"observations": obs[:2], "actions": act})
    for name, hint in {"image": "Box spaces of shape", "dict": "Dict spaces", "choice": "Discrete",
                       "infinite": "not finite", "short": "wrong shapes"}.items():
        with pytest.raises(crl.UserError, match=hint) as caught:
            read_data(tmp_path, name)
        assert is_one_line(caught.value)
        assert "crl data --stream STREAM --out" in str(caught.value)


def test_a_set_of_another_stream(tmp_path):
    write_data(tmp_path, "corner-0", "scripted", some_episodes(obs=4), ABOUT._replace(
        observation_space=Box(-1, 1, (4,), np.float32)))
    stream = TaskStream([CORNER])
    with pytest.raises(crl.UserError, match=r"\(\(4,\), \(2,\)\), the stream \(\(3,\), \(2,\)\)"):
        read_data(tmp_path, "corner-0", stream)
    shutil.rmtree(tmp_path / "corner-0")
    episodes = collect(Toward(), CORNER, episodes=2)
    write_data(tmp_path, "corner-0", "scripted", episodes, ABOUT)
    assert same(read_data(tmp_path, "corner-0", stream), episodes)


def test_reading_runs_nothing_that_a_set_names(tmp_path, monkeypatch):
    """Minari makes the environment of a set that does not say what its spaces are."""
    folder = write_data(tmp_path, "push-v3", "scripted", some_episodes(), ABOUT)
    (tmp_path / "trap.py").write_text("import pathlib\npathlib.Path('sprung').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    path = folder / "data" / "metadata.json"
    metadata = json.loads(path.read_text())
    del metadata["observation_space"]
    metadata["env_spec"] = gymnasium.envs.registration.EnvSpec("x-v0", "trap:make").to_json()
    path.write_text(json.dumps(metadata))
    with pytest.raises(crl.UserError, match="cannot be read as data"):
        read_data(tmp_path, "push-v3")
    assert not Path("sprung").exists()
    with pytest.raises(AttributeError):
        MinariStorage.read(folder / "data")
    assert Path("sprung").exists()  # the control


def test_metadata_is_checked_without_the_episodes(tmp_path):
    folder = write_data(tmp_path, "push-v3", "scripted", some_episodes(), ABOUT)
    assert read_metadata(folder)["crl"]["settings"] == {"seed": 3}


def test_without_minari_one_line_says_what_to_install(tmp_path):
    code = ("import sys; sys.modules['minari'] = None; from crl.cli import main; "
            "main(['data', '--stream', 'push-v3', '--out', 'x'])")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "crl: error: data sets need an extra; type: pip install 'crl[data]'\n"
    assert list(tmp_path.iterdir()) == []
