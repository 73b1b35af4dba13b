"""Meta-World as Gymnasium environments: seeds, spaces, errors, pickles, pictures."""

from __future__ import annotations

import copy
import itertools
import multiprocessing
import pickle
import subprocess
import sys
import warnings

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.utils import reward_utils
from scipy.spatial.transform import Rotation
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import crl.envs  # noqa: F401  (registers the ids)
from crl.envs import metaworld_fast, metaworld_standins
from crl.envs.metaworld import TASKS, MetaworldEnv
from crl.errors import UserError


def episode(env, seed=None, steps=60, vector=None):
    """Observations, rewards and final physics of an episode of fixed random actions."""
    options = None if vector is None else {"task_vector": vector}
    obs, info = env.reset(seed=seed, options=options)
    rng = np.random.default_rng(7)
    out = [obs, info["task_vector"]]
    for _ in range(steps):
        obs, reward, *_ = env.step(rng.uniform(-1, 1, 4).astype(np.float32))
        out += [obs, np.array(reward)]
    base = env.unwrapped
    return [*out, base.data.qpos.copy(), base.data.qvel.copy(), base.data.qacc_warmstart.copy()]


def same(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture(scope="module")
def env():
    env = MetaworldEnv("push-v3")
    yield env
    env.close()


def test_the_fifty_tasks_are_those_of_the_package():
    assert set(TASKS) == set(ALL_V3_ENVIRONMENTS)
    assert len(TASKS) == 50


@pytest.mark.parametrize("task", TASKS)
def test_checkers_have_nothing_to_say(task):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(f"crl/{task}").unwrapped
        check_env(env, skip_render_check=True)
        sb3_check_env(env)
        env.close()


def test_the_checker_does_notice_a_wrong_space(env):
    broken = copy.copy(env)
    broken.observation_space = gymnasium.spaces.Box(-0.01, 0.01, (39,), np.float32)
    with pytest.raises(AssertionError):
        sb3_check_env(broken)


# ---- seeds and history


@pytest.mark.parametrize("task", TASKS)
def test_an_episode_depends_on_the_seed_alone(task):
    used, fresh = MetaworldEnv(task), MetaworldEnv(task)
    for seed in range(12):  # each leaves bodies, notes and warm starts behind
        episode(used, seed, steps=3)
    first = episode(used, 0)
    assert same(first, episode(fresh, 0))
    assert not same(first, episode(fresh, 1))
    # The generator goes on the same way too.
    assert same(episode(used, steps=5), episode(used, steps=5)) is False
    used.reset(seed=3)
    fresh.reset(seed=3)
    assert same(episode(used, steps=5), episode(fresh, steps=5))


@pytest.mark.parametrize("task", TASKS)
def test_restored_settling_is_the_simulated_one(task):
    restoring, simulating = MetaworldEnv(task), MetaworldEnv(task)
    simulating._rules._memory.attempts = 0  # never records, so never restores
    space = restoring.task_vector_space
    low_and_high = zip(space.low, space.high, strict=True)
    corners = [np.array(c) for c in itertools.product(*low_and_high)]
    restored = 0
    for k in range(8 + min(len(corners), 8)):
        options = {} if k < 8 else {"options": {"task_vector": corners[k - 8]}}
        try:
            obs, _ = restoring.reset(seed=k, **options)
        except UserError:
            continue
        np.testing.assert_array_equal(obs, simulating.reset(seed=k, **options)[0])
        for name in ("qpos", "qvel", "qacc_warmstart", "xpos", "geom_xpos"):
            np.testing.assert_array_equal(
                getattr(restoring.data, name), getattr(simulating.data, name), err_msg=name
            )
        sweep = restoring._rules._memory.second
        restored += bool(sweep and sweep.free(restoring.model.body_pos))
    if task in ("push-v3", "window-close-v3", "shelf-place-v3", "hammer-v3"):
        assert restored >= 8  # the shortcut is taken, or this test shows nothing
    if task in metaworld_fast.ROUNDS_IN_LAYOUT:
        assert restored == 0


def test_a_sweep_notices_what_stands_in_the_way():
    env = MetaworldEnv("handle-press-side-v3")
    for seed in range(12):
        env.reset(seed=seed)
    sweep = env._rules._memory.second
    body_pos = env.model.body_pos.copy()
    box = env.model.body("box").id
    body_pos[box] = (-0.35, 0.75, 0.0)
    assert sweep.free(body_pos) == sweep.length
    body_pos[box] = (0.0, 0.65, 0.0)  # under the hand
    assert sweep.free(body_pos) < sweep.length
    body_pos[env.model.body("right_hand").id] += 0.01  # not a body that the vector moves
    assert sweep.free(body_pos) == 0


def test_nothing_but_two_model_fields_moves_in_an_episode():
    # A reset restores these two; any other would carry one episode into the next.
    for task in TASKS:
        env = MetaworldEnv(task)
        fields = [
            name for name in dir(env.model)
            if isinstance(getattr(env.model, name, None), np.ndarray)
        ]
        before = {name: getattr(env.model, name).copy() for name in fields}
        episode(env, 0, steps=3)
        changed = {n for n in fields if before[n].tobytes() != getattr(env.model, n).tobytes()}
        assert changed <= {"body_pos", "site_pos"}, task


def test_task_vector_sets_an_episode_up_again(env):
    drawn = episode(env, 5)
    vector = drawn[1]
    assert env.task_vector_space.contains(vector)
    assert same(drawn, episode(env, 99, vector=vector))
    assert same(drawn, episode(env, vector=vector.tolist()))
    assert not same(drawn, episode(env, vector=vector + 0.01))


def test_the_vector_of_info_is_the_callers_own(env):
    _, info = env.reset(seed=1)
    mine = info["task_vector"].copy()
    info["task_vector"][:] = 0
    given = mine.copy()
    first = episode(env, vector=given)
    given[:] = 0
    assert same(first, episode(env, vector=mine))


def test_vectors_spread_over_their_space(env):
    vectors = np.array([env.reset(seed=s)[1]["task_vector"] for s in range(60)])
    space = env.task_vector_space
    free = space.high > space.low
    assert (vectors >= space.low).all()
    assert (vectors <= space.high).all()
    relative = (vectors - space.low)[:, free] / (space.high - space.low)[free]
    assert (relative.min(0) < 0.15).all()
    assert (relative.max(0) > 0.85).all()
    # Meta-World's own rule for push: the puck starts at least 15 cm from the goal.
    assert (np.linalg.norm(vectors[:, :2] - vectors[:, 3:5], axis=1) >= 0.15).all()


# ---- options and errors


def test_horizon():
    env = MetaworldEnv("window-close-v3", horizon=7)
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(4, np.float32))
    env.reset(seed=0)
    flags = [env.step(np.zeros(4, np.float32))[2:4] for _ in range(7)]
    assert flags == [(False, False)] * 6 + [(False, True)]
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(4, np.float32))
    with pytest.raises(UserError, match="horizon"):
        MetaworldEnv("push-v3", horizon=0)


def test_hidden_goal():
    seen, hidden = MetaworldEnv("reach-v3"), MetaworldEnv("reach-v3", partially_observable=True)
    a, b = episode(seen, 0, steps=5), episode(hidden, 0, steps=5)
    for visible, zeroed in zip(a[0::2][:1] + a[2:12:2], b[0::2][:1] + b[2:12:2], strict=True):
        np.testing.assert_array_equal(visible[:36], zeroed[:36])
        assert visible[36:].any()
        assert not zeroed[36:].any()
    np.testing.assert_array_equal(a[0][36:], a[1][3:].astype(np.float32))  # the goal, as drawn


def test_action_beyond_the_range_moves_no_further(env):
    def after(action):
        env.reset(seed=0)
        return env.step(np.array(action, np.float32))[0]

    np.testing.assert_array_equal(after([1, -1, 1, 0]), after([5, -7, 1.5, 0]))
    assert not np.array_equal(after([1, -1, 1, 0]), after([0.5, -1, 1, 0]))


@pytest.mark.parametrize(
    "action",
    [[0, 0, 0], [[0, 0, 0, 0]], [0, 0, 0, np.nan], [np.inf, 0, 0, 0], 1.0, "up", [None] * 4],
)
def test_wrong_actions_are_one_clear_line(env, action):
    env.reset(seed=0)
    with pytest.raises(ValueError, match="4 finite numbers") as error:
        env.step(action)
    assert "\n" not in str(error.value)
    env.step([0, 0, 0, 0])  # a list of numbers is fine, and the episode goes on


@pytest.mark.parametrize(
    "options",
    [
        {"task_vector": [0.0] * 3},
        {"task_vector": [np.nan] * 6},
        {"task_vector": "left"},
        {"task_vector": [0.0, 0.7, 0.02, 0.0, 0.8, 0.02]},  # goal 10 cm from the puck: rejected
        {"goal": [0.0] * 6},
    ],
)
def test_wrong_reset_options_are_one_clear_line(env, options):
    with pytest.raises(UserError) as error:
        env.reset(seed=0, options=options)
    assert "\n" not in str(error.value)
    env.reset(seed=0)


def test_unknown_names_suggest_known_ones():
    for name in ("push", "push-v2", "psh-v3"):
        with pytest.raises(ValueError, match=r"did you mean.*'push-v3'"):
            MetaworldEnv(name)
    with pytest.raises(UserError, match="corner"):
        MetaworldEnv("push-v3", camera_name="cornr")
    with pytest.raises(UserError, match="rgb_array"):
        MetaworldEnv("push-v3", render_mode="human")


# ---- registration, pickles, pictures


def test_gymnasium_make():
    env = gymnasium.make("crl/push-v3", horizon=3)
    assert isinstance(env.unwrapped, MetaworldEnv)
    names = [type(w).__name__ for w in wrappers(env)]
    assert "TimeLimit" not in names
    env.reset(seed=0)
    assert [env.step(np.zeros(4, np.float32))[3] for _ in range(3)] == [False, False, True]
    assert sum(i.startswith("crl/") and i[4:] in TASKS for i in gymnasium.registry) == 50


def wrappers(env):
    while isinstance(env, gymnasium.Wrapper):
        yield env
        env = env.env


def test_importing_the_registration_is_cheap():
    heavy = {"metaworld", "mujoco", "torch", "scipy"}
    code = f"import sys, crl.envs; print({heavy} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


@pytest.mark.parametrize("task", ["push-v3", "bin-picking-v3", "basketball-v3", "door-open-v3"])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_a_copy_goes_on_where_the_original_is(task, duplicate):
    env = MetaworldEnv(task, horizon=40)
    env.reset(seed=3)
    rng = np.random.default_rng(0)
    for _ in range(25):
        env.step(rng.uniform(-1, 1, 4))
    twin = duplicate(env)
    for action in rng.uniform(-1, 1, (15, 4)):
        a, b = env.step(action), twin.step(action)
        np.testing.assert_array_equal(a[0], b[0])
        assert a[1:] == b[1:]
    assert a[3]
    np.testing.assert_array_equal(env.data.qacc_warmstart, twin.data.qacc_warmstart)
    assert same(episode(env, steps=5), episode(twin, steps=5))  # the generators agree
    assert twin.action_space.sample().shape == (4,)


def test_a_copy_before_the_first_reset():
    twin = pickle.loads(pickle.dumps(MetaworldEnv("push-v3", partially_observable=True)))
    with pytest.raises(ResetNeeded):
        twin.step(np.zeros(4))
    assert not twin.reset(seed=0)[0][36:].any()


def _in_a_fresh_process(env, queue):
    queue.put(episode(env, 11, steps=10))


def test_spawned_processes_agree(env):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_in_a_fresh_process, args=(env, queue))
    process.start()
    result = queue.get(timeout=120)
    process.join(timeout=30)
    assert same(result, episode(env, 11, steps=10))


@pytest.mark.parametrize("camera", ["corner", "corner2", "corner3", "corner4", "behindGripper"])
def test_pictures(camera):
    env = MetaworldEnv("push-v3", render_mode="rgb_array", camera_name=camera, width=64, height=48)
    env.reset(seed=0)
    try:
        picture = env.render()
    except UserError as error:
        pytest.skip(str(error))
    assert picture.shape == (48, 64, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 10
    # Right way up: what rises in the scene rises in the picture.
    puck = env.model.geom("objGeom").id
    env.model.geom_rgba[:] = (0, 0, 0, 1)
    env.model.geom_matid[:] = -1
    env.model.geom_rgba[puck] = (1, 0, 0, 1)
    rows = []
    for height in (0.1, 0.5):
        env.data.qpos[9:12] = (0.2, 0.7, height)
        mujoco.mj_forward(env.model, env.data)
        red = env.render().astype(int)
        rows.append(np.argwhere(red[..., 0] > red[..., 1] + 40).mean(axis=0)[0])
    assert rows[1] < rows[0]
    assert env.metadata["render_fps"] == round(1 / (5 * env.model.opt.timestep))
    env.close()
    env.step(np.zeros(4, np.float32))
    assert MetaworldEnv("push-v3").render() is None


def test_without_a_display_drawing_is_refused_and_does_not_abort(monkeypatch):
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    env = MetaworldEnv("push-v3", render_mode="rgb_array")
    env.reset(seed=0)
    for _ in range(2):  # MuJoCo's own second attempt aborted the process
        with pytest.raises(UserError, match=r"there is no display; .* MUJOCO_GL=egl"):
            env.render()


# ---- stand-ins


def test_quaternion_is_scipys():
    rng = np.random.default_rng(0)
    turns = Rotation.random(300, random_state=rng)
    axes = Rotation.from_rotvec(np.pi * np.vstack([np.eye(3), -np.eye(3), np.zeros((1, 3))]))
    for turn in [*turns, *axes]:
        matrix = turn.as_matrix()
        expected = Rotation.from_matrix(matrix).as_quat()
        np.testing.assert_allclose(
            metaworld_standins.quaternion(matrix), expected, rtol=0, atol=1e-15
        )


def test_tolerance_is_meta_worlds():
    rng = np.random.default_rng(0)
    for _ in range(500):
        low, width, margin, x = rng.uniform(0, 1, 4)
        x = np.float64(3 * x - 1)
        bounds = (low, low + width)
        margin = rng.choice([0.0, margin])
        for sigmoid in ("gaussian", "long_tail", "hyperbolic", "linear"):
            ours = metaworld_standins.tolerance(x, bounds, margin, sigmoid)
            stock = reward_utils.tolerance(x, bounds, margin, sigmoid)
            assert ours == pytest.approx(stock, abs=1e-14, rel=0)
            assert type(ours) is float  # NumPy rounds float32 x float and x float64 differently
    for wrong in ({"margin": -0.1}, {"bounds": (1.0, 0.0)}):
        with pytest.raises(ValueError, match=r"margin|bound"):
            metaworld_standins.tolerance(0.5, **wrong)


def test_contact_is_stocks():
    stock = ALL_V3_ENVIRONMENTS["pick-place-v3"]()
    ours = metaworld_fast.fast_class("pick-place-v3")(False)
    vector = np.array([0.0, 0.65, 0.02, 0.05, 0.85, 0.2])
    ours.start_episode(vector, None)
    ours.data = ours.real
    puck = ours.model.geom("objGeom").id
    stock.model, stock.data = ours.model, ours.real
    touching = []
    for height in (None, *np.linspace(0.02, 0.1, 9)):
        if height is not None:  # the puck between the fingertips, and the fingers closing
            ours.real.qpos[9:12] = (*ours.tcp_center[:2], height)
            ours.real.mocap_pos[0, 2] = max(0.05, height)
            ours.real.ctrl[:] = (1, -1)
            mujoco.mj_step(ours.model, ours.real, nstep=60)
        touching.append(ours.touching_object(puck))
        assert touching[-1] == stock.touching_object(puck)
    assert touching[0] is False
    assert True in touching


def test_meta_world_itself_is_not_patched():
    MetaworldEnv("push-v3").reset(seed=0)
    module = sys.modules["metaworld.envs.sawyer_push_v3"]
    assert module.np is np
    assert module.reward_utils is reward_utils
    assert module.Rotation is Rotation
