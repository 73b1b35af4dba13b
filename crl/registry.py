"""Names that a user types → the objects that they stand for.

Built-in entries are written here as ``"module:object"``, so that listing names imports nothing.
Other packages add theirs through the entry points ``crl.streams``, ``crl.agents``, ``crl.methods``,
``crl.memories`` and ``crl.planners``; a built-in name cannot be taken over.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Any

from crl.errors import UserError, unknown


class Registry:
    """A table of names of one kind.

    Args:
        kind: What the names stand for, in the singular; used in error messages.
        builtin: Name → ``"module:object"``.
        plural: Of ``kind``, if not with an s; names the entry points and what ``crl list`` takes.
    """

    def __init__(self, kind: str, builtin: dict[str, str], plural: str = "") -> None:
        self.kind = kind
        self.plural = plural or f"{kind}s"
        self._targets = dict(builtin)
        self._plugins_read = False

    def _read_plugins(self) -> None:
        if not self._plugins_read:
            self._plugins_read = True
            for point in entry_points(group=f"crl.{self.plural}"):
                self._targets.setdefault(point.name, point.value)

    def names(self) -> list[str]:
        """All names, built-in ones first, in the order of registration."""
        self._read_plugins()
        return list(self._targets)

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def add(self, name: str, target: str) -> None:
        """Registers ``"module:object"`` under a new name, in this process."""
        if name in self:
            raise UserError(f"{self.kind} {name!r} exists already; choose another name")
        self._targets[name] = target

    def load(self, name: str) -> Any:
        """The object that ``name`` stands for; ``UserError`` for a name that does not exist."""
        self._read_plugins()
        if name not in self._targets:
            raise unknown(self.kind, name, self._targets, f"type 'crl list {self.plural}'")
        target = self._targets[name]
        module, _, attribute = target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(f"{self.kind} {name!r} cannot be loaded from {target!r}: "
                            f"{error}") from error


_CW = "crl.envs.continual_world:make_stream"
streams = Registry(
    "stream",
    dict.fromkeys(("arm4", "arm-hidden3", "memory3", "hcrl-cartpole", "hcrl-cheetah", "hcrl-pusher",
                   "hcrl-slide", "hcrl-door", "hcrl-lqr", "unicycle-gains", "ugv-gains", "ugv-slip",
                   "quad-wind", "push-v3-dynamics"), "crl.envs.small_streams:make_stream")
    | dict.fromkeys(("quick3", "cw10", "cw20", *(f"cw-t{i}" for i in range(1, 9))), _CW),
)
agents = Registry(
    "agent",
    {"sac": "crl.agents.sac:SAC", "recurrent-sac": "crl.agents.recurrent_sac:RecurrentSAC",
     "recurrent-ppo": "crl.agents.recurrent_ppo:RecurrentPPO",
     "mpc": "crl.agents.mpc:MPC", "hypercrl": "crl.agents.mpc:HyperCRL",
     "afm": "crl.agents.afm:AFM", "r2i": "crl.agents.r2i:R2I", "l2m": "crl.agents.l2m:L2M"}
    | {f"sb3:{name}": f"crl.agents.sb3:{name}" for name in (
        "SAC", "TD3", "DDPG", "TQC", "CrossQ", "DQN", "QRDQN", "PPO", "A2C", "TRPO",
        "RecurrentPPO")},
)
methods = Registry(
    "method",
    {
        # Regularisers
        "l2": "crl.methods.l2:L2",
        "ewc": "crl.methods.ewc:EWC",
        "mas": "crl.methods.mas:MAS",
        "si": "crl.methods.si:SI",
        "vcl": "crl.methods.vcl:VCL",
        "parseval": "crl.methods.parseval:Parseval",
        "l2-init": "crl.methods.l2_init:L2Init",
        # Rehearsal, projection and cloning
        "perfect-memory": "crl.methods.perfect_memory:PerfectMemory",
        "replay-scheduling": "crl.methods.replay_scheduling:ReplayScheduling",
        "dream-rehearsal": "crl.methods.dream_rehearsal:DreamRehearsal",
        "power-law-rehearsal": "crl.methods.power_law_rehearsal:PowerLawRehearsal",
        "a-gem": "crl.methods.a_gem:AGEM",
        "gem": "crl.methods.gem:GEM",
        "clonex": "crl.methods.clonex:ClonEx",
        "ser": "crl.methods.ser:SER",
        # Structure
        "packnet": "crl.methods.packnet:PackNet",
        "clnp": "crl.methods.clnp:CLNP",
        "input-affine": "crl.methods.input_affine:InputAffine",
        "modulation": "crl.methods.modulation:Modulation",
        "relevance-masks": "crl.methods.relevance_masks:RelevanceMasks",
        "rank-updates": "crl.methods.rank_updates:RankUpdates",
        "half-fine-tuning": "crl.methods.half_fine_tuning:HalfFineTuning",
        # Ensembles and activations
        "ema": "crl.methods.ema:EMA",
        "elephant": "crl.methods.elephant:Elephant",
        # Plasticity
        "redo": "crl.methods.redo:ReDo",
        "continual-backprop": "crl.methods.continual_backprop:ContinualBackprop",
        "shrink-and-perturb": "crl.methods.shrink_perturb:ShrinkPerturb",
        "resets": "crl.methods.resets:Resets",
    },
)
memories = Registry(
    "memory",
    {
        "gru": "crl.memory.gated:GRU",
        "lstm": "crl.memory.gated:LSTM",
        "ffm": "crl.memory.ffm:FFM",
        "s5": "crl.memory.s5:S5",
        "bilinear": "crl.memory.bilinear:Bilinear",
        "rmc": "crl.memory.rmc:RMC",
        "dt-mem": "crl.memory.working:WorkingMemory",
        "hcam": "crl.memory.hcam:HCAM",
        "gtrxl": "crl.memory.gtrxl:GTrXL",
        "trmrl": "crl.memory.trmrl:TrMRL",
        "mlp": "crl.memory.mlp:MLP",
    },
    plural="memories",
)
planners = Registry(
    "planner",
    {"icem": "crl.planners.icem:ICEM", "cem": "crl.planners.cem:CEM",
     "mppi": "crl.planners.mppi:MPPI"},
)
