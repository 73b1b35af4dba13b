"""Simulated robots for bundles: those that a bundle names, or others that it fits."""

from __future__ import annotations

from typing import NamedTuple

from gymnasium.spaces import Box

from crl.config import require
from crl.envs.catalog import make_stream
from crl.envs.terms import terms
from crl.errors import UserError
from crl.stream import Env, Task, TaskStream, space_bounds

try:
    from crl.deploy.runtime import BundleError, BundlePolicy, load_all
except ImportError:
    raise UserError("bundles need an extra; type: pip install 'crl[deploy]'") from None

__all__ = ["BundleError", "Robot", "find_robots", "load_all"]


class Robot(NamedTuple):
    """A simulated robot, and the policy that drives it."""

    task: Task
    stream: TaskStream
    policy: BundlePolicy

    def make(self) -> Env:
        """Its simulation, checked.

        Raises:
            UserError: It does not observe, or does not act by, the terms of the bundle.
        """
        env = self.stream.make(self.task)
        try:
            check_fit(env, self.task.name, self.policy)
        except UserError:
            env.close()
            raise
        return env


def find_robots(policies: dict[str, BundlePolicy], names: list[str]) -> list[Robot]:
    """The robots of these names, each with the policy for it.

    Args:
        policies: By task.
        names: Tasks; with one policy, any that it fits; with several, theirs. Empty: all of them.

    Raises:
        UserError: There is no such task or no policy for it.
    """
    if not names:
        return [_own_robot(policy) for policy in policies.values()]
    robots = []
    for name in names:
        policy = policies.get(name)
        if policy is not None and policy.manifest["simulation"] is not None:
            robots.append(_own_robot(policy))
            continue
        if policy is None and len(policies) > 1:
            raise UserError(f"there is no policy for {name!r}; there are those for "
                            f"{', '.join(policies)}")
        policy = policy or next(iter(policies.values()))
        options = dict(policy.manifest["simulation"] or {})
        for option in ("name", "steps_per_task"):
            options.pop(option, None)
        stream = make_stream(name, **options)
        require(len(stream) == 1, f"{name!r} is {len(stream)} tasks; give --robot one, or several "
                "with commas between them")
        robots.append(Robot(stream[0], stream, policy))
    return robots


def _own_robot(policy: BundlePolicy) -> Robot:
    task, simulation = (policy.manifest[name] for name in ("task", "simulation"))
    require(simulation is not None, f"the robot of task {task!r} was made in code, which a bundle "
            "does not hold; add --robot, one of those that 'crl list tasks' shows")
    stream = make_stream(**simulation)
    return Robot(stream[task], stream, policy)


def check_fit(env: Env, name: str, policy: BundlePolicy) -> None:
    """Raises ``UserError`` unless an environment has the terms of a bundle, in their order."""
    found = dict(zip(("observation", "action"), terms(env, name), strict=True))
    for kind, here in found.items():
        wanted = [(term["name"], term["unit"]) for term in policy.manifest[kind]["terms"]]
        require(len(here) == len(wanted), f"robot {name!r} has {len(here)} terms of {kind}, the "
                f"policy of {policy.manifest['task']!r} {len(wanted)}; give --robot another")
        for mine, theirs in zip(here, wanted, strict=True):
            require(tuple(mine) == theirs, f"robot {name!r} has {mine} in its {kind} where the "
                    f"policy of {policy.manifest['task']!r} has {theirs}; give --robot another")
    space = env.action_space
    bounds = [(term["low"], term["high"]) for term in policy.manifest["action"]["terms"]]
    own = ([(0, 1)] * len(bounds) if not isinstance(space, Box) else
           [(float(str(a)), float(str(b))) for a, b in zip(*space_bounds(space), strict=True)])
    require(own == bounds, f"robot {name!r} has actions within {own}, the policy of "
            f"{policy.manifest['task']!r} gives {bounds}; give --robot another")
