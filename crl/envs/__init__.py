"""Environments. Importing this registers the tasks as ``crl/push-v3``, ``crl/arm-plain`` …"""

from __future__ import annotations

from gymnasium.envs.registration import register, registry

from crl.envs.arm_tasks import ARM_TASKS, HIDDEN_ARM_TASKS
from crl.envs.dynamic_tasks import DYNAMIC_TASKS, VEHICLES
from crl.envs.hcrl_tasks import HCRL_TASKS
from crl.envs.metaworld_tasks import TASKS

for _name, _arm in ARM_TASKS.items():
    if f"crl/{_name}" not in registry:
        register(id=f"crl/{_name}", entry_point="crl.envs.arm:ArmEnv", kwargs=_arm._asdict(),
                 disable_env_checker=True)
for _name, _changes in HIDDEN_ARM_TASKS.items():
    if f"crl/{_name}" not in registry:
        register(id=f"crl/{_name}", entry_point="crl.envs.hidden_arm:HiddenArmEnv",
                 kwargs={"changes": _changes}, disable_env_checker=True)
for _name, _hcrl in HCRL_TASKS.items():
    if f"crl/{_name}" not in registry:
        register(id=f"crl/{_name}", entry_point=_hcrl.target, kwargs=_hcrl.arguments,
                 disable_env_checker=True)
for _name in DYNAMIC_TASKS:
    if f"crl/{_name}" not in registry:
        register(id=f"crl/{_name}", entry_point="crl.envs.dynamic_tasks:make_task",
                 kwargs={"task": _name}, disable_env_checker=True)
for _name, _target in VEHICLES.items():
    if f"crl/{_name}" not in registry:
        register(id=f"crl/{_name}", entry_point=_target, disable_env_checker=True)
for _task in TASKS:
    if f"crl/{_task}" not in registry:
        # No max_episode_steps: the environment truncates itself, at an option `horizon`. No passive
        # checker: the tests run the full one on all fifty, and it costs as much as the physics.
        register(
            id=f"crl/{_task}",
            entry_point="crl.envs.metaworld:MetaworldEnv",
            kwargs={"task": _task},
            disable_env_checker=True,
        )
