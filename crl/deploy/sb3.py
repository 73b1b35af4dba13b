"""Policies of Stable-Baselines3: of agents here, and from the .zip that ``model.save()`` wrote.

Opening such a file runs what is pickled in it, so nothing but the exporter does it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stable_baselines3.common.save_util import load_from_zip_file
from torch import Tensor

from crl.agents.sb3_policy import SB3Policy, cpu_copy, spec_of
from crl.config import require
from crl.deploy.steps import PolicyStep
from crl.errors import UserError
from crl.nn.distributions import one_of
from crl.stream import TaskStream


class SB3Step(PolicyStep):
    """Of a policy of PPO, A2C, TRPO, SAC, TQC, CrossQ, TD3, DDPG, DQN, QR-DQN, recurrent PPO …

    Args:
        policy: The policy.

    Raises:
        UserError: It is of another kind.
    """

    def __init__(self, policy: SB3Policy) -> None:
        require(_layers(policy.policy) is not None,
                f"a {type(policy.policy).__name__} of Stable-Baselines3 cannot be exported; those "
                "of PPO, A2C, TRPO, SAC, TQC, CrossQ, TD3, DDPG, DQN, QR-DQN and RecurrentPPO can")
        super().__init__(policy.spec, dict(zip(("hidden", "cell"), policy.spec.state_shapes,
                                               strict=False)))
        self.policy, self._layers = policy.policy, _layers(policy.policy)

    def decide(self, observation: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        policy: Any = self.policy
        if self._layers == "q_net":
            return (one_of(policy.q_net(observation), None),)
        if self._layers == "quantile_net":
            return (one_of(policy.quantile_net(observation).mean(1), None),)
        if self._layers == "actor":
            actor = policy.actor
            # SAC's and its relatives' give a distribution; TD3's and DDPG's, the action.
            return (self.to_env(actor.get_action_dist_params(observation)[0].tanh()
                                if hasattr(actor, "get_action_dist_params")
                                else actor(observation)),)
        features = policy.extract_features(observation, policy.pi_features_extractor)
        after: tuple[Tensor, ...] = ()
        if state:
            before = tuple(part.transpose(0, 1) for part in state)  # it has layers first
            features, after = policy.lstm_actor(features.unsqueeze(0), before)
            features = features.squeeze(0)
        out = policy.action_net(policy.mlp_extractor.forward_actor(features))
        if self.spec.discrete:
            out = one_of(out, None)
        elif policy.squash_output:
            out = self.to_env(out.tanh())
        return (out, *(part.transpose(0, 1) for part in after))


def _layers(policy: Any) -> str | None:
    """What a policy's actions come from; None: nothing that is known here."""
    known = ("q_net", "quantile_net", "mlp_extractor", "actor")
    return next((name for name in known if hasattr(policy, name)), None)


def load_policy(path: Path, stream: TaskStream) -> SB3Policy:
    """The policy in a .zip, for the first task of a stream.

    Raises:
        UserError: It is no such file, or for other spaces.
    """
    try:
        data, weights, _ = load_from_zip_file(path, device="cpu")
        policy = data["policy_class"](data["observation_space"], data["action_space"],
                                      lambda _: 0.0, **data["policy_kwargs"])
        policy.load_state_dict(weights["policy"])
    except Exception as error:  # whatever is pickled in it raises
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{path} cannot be loaded as a model of Stable-Baselines3: {reason}"
                        ) from None
    seen, done = stream.observation_space, stream.action_space
    require(type(policy.observation_space) is type(seen)
            and policy.observation_space.shape == seen.shape and policy.action_space == done,
            f"{path} is for observations {policy.observation_space} and actions "
            f"{policy.action_space}, task {stream[0].name!r} has {seen} and {done}; give --robot "
            "the task that it was trained on")
    return SB3Policy(spec_of(stream[0].name, stream, policy), cpu_copy(policy))
