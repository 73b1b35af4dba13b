"""A model of a robot from recorded steps, all at once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from crl import seeding
from crl.agents.correction import Predict, prediction
from crl.agents.dynamics import Angles, frozen
from crl.nn.descent import descend
from crl.nn.network import Network
from crl.nn.scaling import Standardizer

_HIDDEN, _MEMBERS, _UPDATES, _BATCH, _RATE = (64, 64), 3, 2_000, 128, 2e-3


def fit_model(obs: Tensor, actions: Tensor, next_obs: Tensor, angles: Angles, seed: int = 0
              ) -> Predict:
    """An ensemble of networks that is trained on squared errors of changes.

    Args:
        obs, next_obs: [N, obs].
        actions: [N, act] in [-1, 1].
        angles: How networks see observations.
        seed: Of weights and of all draws.

    Returns:
        The mean of what its networks predict.
    """
    generator = torch.Generator().manual_seed(seeding.integer(seed, "fitted model"))
    x, change = torch.cat((angles(obs), actions), -1), angles.change(obs, next_obs)
    inputs, changes = Standardizer(1, x.shape[1]), Standardizer(1, change.shape[1])
    inputs.fit(x, 0)
    changes.fit(change, 0)
    x, change = inputs(x, 0), changes(change, 0)
    networks = [Network(x.shape[1], change.shape[1], _HIDDEN, 1, generator, layer_norm=False)
                for _ in range(_MEMBERS)]

    def loss() -> Tensor:
        rows = torch.randint(len(x), (_MEMBERS, _BATCH), generator=generator)
        return torch.stack([F.mse_loss(network(x[row], 0), change[row])
                            for network, row in zip(networks, rows, strict=True)]).sum()

    descend([p for network in networks for p in network.parameters()], loss, _UPDATES, _RATE)
    models = [frozen(network, 0, angles, inputs.of(0), changes.of(0)) for network in networks]
    return prediction(models)
