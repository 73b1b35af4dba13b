"""Run: half a cheetah, one of whose body parts is larger in each task."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import gymnasium.envs.mujoco
import mujoco
import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from crl.envs.sensed import SensedEnv
from crl.task_spec import TaskSpec

LARGER = 1.25  # times

_MODEL = Path(gymnasium.envs.mujoco.__file__).parent / "assets" / "half_cheetah.xml"
_GEOMS = {"none": (), "torso": ("torso",), "thigh": ("bthigh", "fthigh"),
          "shin": ("bshin", "fshin"), "foot": ("bfoot", "ffoot")}
_GREY, _ORANGE = (0.25, 0.35, 0.5, 1), (0.85, 0.45, 0.15, 1)


class CheetahEnv(SensedEnv):
    """Gymnasium's HalfCheetah-v5, to run forward as fast as it can.

    Observation, float32 [18]: the forward speed over the step (m/s, 0 at the start), then what
    HalfCheetah-v5 observes: height (m), pitch and six joint angles (rad), and the speeds of these
    and of the way. Action, float32 [6] in [-1, 1]: the torques of the joints, each in units of its
    motor. Reward: the forward speed over the step − 0.1 ‖action‖². A step is 50 ms.

    Args:
        larger: The part, both where there are two, whose geoms' ``size`` is 1.25 times as large.
            A torso is thicker only, the others are longer too. All cheetahs weigh 14 kg.
        horizon, render_mode: As in :class:`SensedEnv`.
    """

    def __init__(self, larger: Literal["none", "torso", "thigh", "shin", "foot"], *,
                 horizon: int = 1000, render_mode: str | None = None) -> None:
        self.larger = larger
        super().__init__(_MODEL, TaskSpec(reward), change=self._change_model,
                         frame_skip=5, horizon=horizon, camera="track", render_mode=render_mode)

    def place(self) -> None:
        self.data.qpos[:] = self.init_qpos + self.np_random.uniform(-0.1, 0.1, self.model.nq)
        self.data.qvel[:] = self.init_qvel + self.np_random.normal(0, 0.1, self.model.nv)

    def observe(self, before: NDArray[Any], after: NDArray[Any]) -> NDArray[Any]:
        speed = (after[..., :1] - before[..., :1]) / self.dt
        return np.concatenate((speed, after[..., 1:]), axis=-1)

    def _change_model(self, spec: Any) -> None:
        for kind in (mujoco.mjtSensor.mjSENS_JOINTPOS, mujoco.mjtSensor.mjSENS_JOINTVEL):
            for joint in spec.joints:
                spec.add_sensor(type=kind, objtype=mujoco.mjtObj.mjOBJ_JOINT, objname=joint.name)
        for geom in spec.geoms:
            if geom.name in _GEOMS[self.larger]:
                geom.size = LARGER * geom.size
                geom.rgba = _ORANGE
            elif geom.name != "floor":
                geom.rgba = _GREY
        _brighten(spec)


def reward(obs: Any, action: Any, next_obs: Any) -> Any:
    """As :class:`CheetahEnv` says; see :data:`crl.task_spec.Reward`."""
    xp = array_namespace(obs)
    return next_obs[..., 0] - 0.1 * xp.sum(action**2, axis=-1)


def _brighten(spec: Any) -> None:
    """The look of the other robots: a light sky and floor, an even light."""
    spec.visual.headlight.ambient, spec.visual.headlight.diffuse = [0.45] * 3, [0.5] * 3
    spec.visual.headlight.specular = [0] * 3
    spec.lights[0].diffuse, spec.lights[0].specular = [0.5] * 3, [0] * 3
    for texture in spec.textures:
        if texture.type == mujoco.mjtTexture.mjTEXTURE_SKYBOX:
            texture.builtin, texture.rgb1 = mujoco.mjtBuiltin.mjBUILTIN_FLAT, [0.97] * 3
    spec.texture("texplane").rgb1, spec.texture("texplane").rgb2 = [0.93] * 3, [0.86] * 3
    spec.material("MatPlane").reflectance = 0
    spec.geom("floor").rgba = (1, 1, 1, 1)
