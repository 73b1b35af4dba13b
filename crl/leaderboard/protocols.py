"""What two results must share to stand in one table: protocols, as plain data.

A protocol that changes in anything a score depends on gets a new version, and a line in
docs/leaderboard.md about what changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from crl import config
from crl.envs.continual_world import CW10
from crl.errors import UserError, unknown

TOLD = {
    "task": "when a task begins and which it is, in training and in evaluations",
    "domain": "neither when a task begins nor which it is evaluated on: one policy must do for all",
    "class": "when a task begins, in training; in evaluations it must find out which it is",
}
"""What an agent may know, for task-, domain- and class-incremental learning."""


@dataclass(frozen=True)
class Protocol:
    """What a score depends on besides the agent.

    Attributes:
        name, version: Together they stand on every table.
        stream: The name of the stream, and options of it.
        fixed: The stream's own protocol, as run.json has it: a stream that changes no longer fits.
        train: Settings of the loop: when and how policies are evaluated.
        seeds: An entry has seeds 0 … n − 1 without a gap; n is at least this.
        told: What an agent may know, a key of :data:`TOLD`.
        about: What it is for, and why it is as it is.
        scale: The returns of each task that count as 0 and as 1; none: the score is success.
    """

    name: str
    version: int
    stream: dict[str, Any]
    fixed: str
    train: dict[str, Any]
    seeds: int
    told: Literal["task", "domain", "class"]
    about: str
    scale: tuple[tuple[float, float], ...] = field(default=())

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} v{self.version}"

    @property
    def score(self) -> str:
        """What a score is, in a word or two."""
        return "return, scaled" if self.scale else "success"

    def apply_to(self, launch: dict[str, Any]) -> None:
        """Has a launch follow the protocol."""
        launch["stream"] = dict(self.stream)
        launch["train"] = {**launch["train"], **self.train}

    def require_followed(self, launch: dict[str, Any]) -> None:
        """Raises ``UserError`` for a launch that sets anything that the protocol settles."""
        for section, settled in (("stream", self.stream), ("train", self.train)):
            for name, value in launch[section].items():
                config.require(
                    settled.get(name, value if section == "train" else None) == value,
                    f"protocol {self.name!r} settles {section}.{name}; leave --set "
                    f"{section}.{name} out, or --protocol")


def get(name: str) -> Protocol:
    """The protocol of a name; ``UserError`` if there is none."""
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS, "type 'crl list protocols'")
    return PROTOCOLS[name]


def protocol_of(info: dict[str, Any]) -> Protocol:
    """The protocol that a run follows, from its run.json.

    Raises:
        UserError: It follows none, or is evaluated otherwise than its stream's protocol says.
    """
    found = [p for p in PROTOCOLS.values() if p.fixed == info["protocol"]]
    if not found:
        raise UserError(f"it was trained on {info['protocol']!r}, which is of no protocol; type "
                        "'crl list protocols', and train with --protocol")
    require_schedule(info, found[0])
    return found[0]


def require_schedule(info: dict[str, Any], protocol: Protocol) -> None:
    """Raises ``UserError`` unless a run was evaluated when and how the protocol says."""
    given = dict(info["config"]["train"])
    if given.get("eval_every") is None:  # ten evaluations a task
        given["eval_every"] = max(1, info["tasks"][0]["steps"] // 10)
    for name, value in protocol.train.items():
        if given.get(name) != value:
            raise UserError(f"its train.{name} is {given.get(name)!r}, and protocol "
                            f"{protocol.name!r} says {value!r}; train with --protocol "
                            f"{protocol.name}")


def _schedule(every: int, episodes: int, *, tasks: str = "all", deterministic: bool = True
              ) -> dict[str, Any]:
    return {"eval_every": every, "eval_episodes": episodes, "eval_tasks": tasks,
            "eval_deterministic": deterministic}


_META_WORLD = "metaworld-3.1.1"
_PROTOCOLS = (
    Protocol(
        "arm4", 1, {"name": "arm4"}, "arm4-v1:steps=5000:horizon=default", _schedule(500, 5),
        seeds=5, told="task",
        about="Four wirings of a two-link arm, half a minute a run: to try a method on, and to "
              "test the leaderboard itself. It says little about robots."),
    Protocol(
        "laptop-3", 1, {"name": "quick3"},
        f"quick3-v1:{_META_WORLD}:steps=40000:horizon=default", _schedule(4_000, 10),
        seeds=5, told="task",
        about="Three Meta-World tasks that a good agent learns, four to five minutes a run on one "
              "core: the first thing to measure."),
    # A training step of SAC with its defaults costs 1.6 ms of a core (results/settings, ten tasks)
    # and one of an evaluation 0.24 ms (results/quick3). With ten evaluations a task of ten
    # episodes on ten tasks, that is 485 s of evaluation and 16 ms for each step a task: 400 000
    # take fine-tuning 6 900 s and cloning, the dearest of quick3, 8 200 s. Fewer would leave
    # push, push-wall and stick-pull unlearned, which succeed at 220 000 in half the episodes or
    # not at all.
    Protocol(
        "laptop-10", 1, {"name": "cw10", "steps_per_task": 400_000},
        f"cw10-v1:{_META_WORLD}:steps=400000:horizon=default", _schedule(40_000, 10),
        seeds=3, told="task",
        about="Continual World's ten tasks at two fifths of its budget: about two hours a run on "
              "one core."),
    Protocol(
        "cw10", 1, {"name": "cw10"}, f"cw10-v1:{_META_WORLD}:steps=1000000:horizon=default",
        _schedule(20_000, 10, deterministic=False), seeds=5, told="task",
        about="Continual World's ten tasks at the published budget and schedule (Wołczyk et al. "
              "2021), on Meta-World v3: not comparable with the published v1 scores."),
    Protocol(
        "cw20", 1, {"name": "cw20"}, f"cw20-v1:{_META_WORLD}:steps=1000000:horizon=default",
        _schedule(20_000, 10, deterministic=False), seeds=5, told="task",
        about="The ten tasks twice, the second pass with heads of its own; otherwise as cw10."),
    Protocol(
        "memory-3", 1, {"name": "memory3", "steps_per_task": 30_000},
        "memory3-v1:steps=30000:horizon=default", _schedule(3_000, 20), seeds=3, told="task",
        about="Three kinds of memory, one after another. 0 is what guessing earns, 1 the best.",
        scale=((0.0, 1.0), (-0.5, 1.0), (0.0, 1.0))),
    Protocol(
        "hcrl-pusher", 1, {"name": "hcrl-pusher", "steps_per_task": 3_000},
        "hcrl-pusher-v1:steps=3000:horizon=default", _schedule(3_000, 4), seeds=3, told="task",
        about="Five pushers for agents that plan with a learned model (Huang et al. 2021). 1 is a "
              "return of 300, of which a solved task is worth 250 to 295.",
        scale=((0.0, 300.0),) * 5),
    Protocol(
        "ugv-slip", 1, {"name": "ugv-slip", "boundaries": "hidden"},
        "ugv-slip-v1:steps=10000:horizon=default:boundaries=hidden", _schedule(2_000, 5), seeds=5,
        told="domain",
        about="A wheeled robot whose wheels come to slip, one and then the other, then on ice."),
    Protocol(
        "quad-wind", 1, {"name": "quad-wind", "boundaries": "hidden"},
        "quad-wind-v1:steps=50000:horizon=default:boundaries=hidden", _schedule(10_000, 5),
        seeds=5, told="domain", about="A quadrotor in calm air, a breeze, a crosswind, in gusts."),
    Protocol(
        "push-v3-dynamics", 1,
        {"name": "push-v3-dynamics", "steps_per_task": 400_000, "boundaries": "hidden"},
        "push-v3-dynamics-v1:steps=400000:horizon=default:boundaries=hidden",
        _schedule(40_000, 10), seeds=3, told="domain",
        about="Meta-World's push while friction, damping, strength and an axis change."),
    Protocol(
        "l2m-10", 1, {"name": ",".join(CW10), "steps_per_task": 400},
        f"tasks-v1,{','.join(CW10)}:steps=400:horizon=default",
        _schedule(400, 5, tasks="seen"), seeds=3, told="class",
        about="Continual World's ten tasks from recorded episodes alone ('crl data --episodes 40 "
              "--noise 0.3'), for a policy pre-trained on the forty others; a step is a gradient "
              "step."),
)
PROTOCOLS = {protocol.name: protocol for protocol in _PROTOCOLS}
