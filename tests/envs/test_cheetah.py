"""The cheetahs: against Gymnasium's own HalfCheetah-v5, given its model's file edited as text."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import gymnasium
import gymnasium.envs.mujoco
import numpy as np
import pytest

from crl.envs.cheetah import CheetahEnv

FILE = Path(gymnasium.envs.mujoco.__file__).parent / "assets" / "half_cheetah.xml"
LARGER = {"none": set(), "torso": {"torso"}, "thigh": {"bthigh", "fthigh"},
          "shin": {"bshin", "fshin"}, "foot": {"bfoot", "ffoot"}}


def random_actions(*shape: int, seed: int = 0):
    return np.random.default_rng(seed).uniform(-1, 1, (*shape, 6)).astype(np.float32)


@pytest.fixture(params=LARGER)
def part(request):
    return request.param


@pytest.fixture
def reference(part, tmp_path):
    tree = ElementTree.parse(FILE)
    for geom in tree.iter("geom"):
        if geom.get("name") in LARGER[part]:
            geom.set("size", " ".join(str(1.25 * float(x)) for x in geom.get("size").split()))
    tree.write(tmp_path / "cheetah.xml")
    return gymnasium.make("HalfCheetah-v5", xml_file=str(tmp_path / "cheetah.xml")).unwrapped


def test_it_is_half_cheetah_v5_with_other_sizes(part, reference):
    env = CheetahEnv(part)
    for seed in range(3):
        obs, _ = env.reset(seed=seed)
        np.testing.assert_allclose(obs, [0, *reference.reset(seed=seed)[0]], atol=1e-6)
        for action in random_actions(20, seed=seed):
            obs, reward, *_ = env.step(action)
            expected, expected_reward, _, _, info = reference.step(action)
            np.testing.assert_allclose(obs[0], info["x_velocity"], atol=1e-5)
            np.testing.assert_allclose(obs[1:], expected, rtol=1e-5, atol=1e-5)
            assert reward == pytest.approx(expected_reward, abs=1e-5)


def test_the_parts_are_larger_and_all_weigh_as_much(part, reference):
    model, base = CheetahEnv(part).model, CheetahEnv("none").model
    larger = {base.geom(i).name for i in range(base.ngeom)
              if model.geom_size[i, 0] == pytest.approx(1.25 * base.geom_size[i, 0])}
    assert larger == LARGER[part]
    assert model.body_mass.sum() == pytest.approx(14)
    for name in ("geom_size", "body_mass", "body_inertia", "geom_pos", "body_pos"):
        np.testing.assert_allclose(getattr(model, name), getattr(reference.model, name),
                                   rtol=1e-9, atol=1e-12)


def test_tasks_differ():
    paths = []
    for part in LARGER:
        env = CheetahEnv(part)
        env.reset(seed=0)
        paths.append([env.step(action)[0] for action in random_actions(20)])
    for one, other in itertools.combinations(np.array(paths), 2):
        assert np.abs(one - other).max() > 0.1
