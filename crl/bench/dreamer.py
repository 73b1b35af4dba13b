"""A PyTorch DreamerV3 that others use, as a peer: github.com/NM512/dreamerv3-torch.

It is not a package. Its folder must be on the path:

    git clone https://github.com/NM512/dreamerv3-torch
    PYTHONPATH=dreamerv3-torch crl bench worldmodel
"""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Dict

from crl.agents.r2i_config import Size
from crl.chunks import Chunks

NAME = "dreamerv3-torch"


def dreamer_update(size: Size, chunks: Chunks) -> Callable[[], None] | None:
    """An update of its world model with widths of ours; None where it is not on the path.

    Args:
        size: The widths.
        chunks: What to learn from, again and again.
    """
    try:
        models = importlib.import_module("models")
    except ImportError:
        return None
    if not hasattr(models, "WorldModel"):
        return None
    batch, length, obs_size = chunks.obs.shape
    spaces = Dict({"obs": Box(-np.inf, np.inf, (obs_size,)),
                   "image": Box(0, 255, (1, 1, 1))})  # it wants one, and does not look at it
    data = {name: np.asarray(column, np.float32) for name, column in {
        "obs": chunks.obs, "action": chunks.action, "reward": chunks.reward.unsqueeze(-1),
        "is_first": chunks.first, "is_terminal": chunks.ended,
        "image": torch.zeros(batch, length, 1, 1, 1)}.items()}
    perceptron = models.networks.MLP.__init__  # on "cuda" unless told, and the encoder's is not
    perceptron.__defaults__ = tuple("cpu" if value == "cuda" else value
                                    for value in perceptron.__defaults__)
    with _quiet():
        model = models.WorldModel(spaces, None, 0, _config(size, chunks.action.shape[-1]))

    def run() -> None:
        with _quiet():
            model._train(dict(data))

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """It says how many weights it has, and at every update that CUDA's names have changed."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _config(size: Size, actions: int) -> SimpleNamespace:
    """Its own settings for vectors (``dmc_proprio``), with the widths."""
    perceptron: dict[str, Any] = {
        "mlp_keys": "obs", "cnn_keys": "$^", "act": "SiLU", "norm": True, "cnn_depth": 32,
        "kernel_size": 4, "minres": 4, "mlp_layers": len(size.hidden),
        "mlp_units": size.hidden[0]}
    head = {"layers": len(size.hidden), "loss_scale": 1.0}
    return SimpleNamespace(
        precision=32, device="cpu", num_actions=actions, act="SiLU", norm=True,
        units=size.hidden[0], dyn_stoch=size.groups, dyn_discrete=size.classes,
        dyn_deter=size.deter, dyn_hidden=size.width, dyn_rec_depth=1, dyn_mean_act="none",
        dyn_std_act="sigmoid2", dyn_min_std=0.1, unimix_ratio=0.01, initial="learned",
        grad_heads=["decoder", "reward", "cont"],
        encoder={**perceptron, "symlog_inputs": True},
        decoder={**perceptron, "cnn_sigmoid": False, "image_dist": "mse",
                 "vector_dist": "symlog_mse", "outscale": 1.0},
        reward_head={**head, "dist": "symlog_disc", "outscale": 0.0},
        cont_head={**head, "outscale": 1.0},
        dyn_scale=0.5, rep_scale=0.1, kl_free=1.0, discount=0.997, model_lr=1e-4, opt="adam",
        opt_eps=1e-8, grad_clip=1000, weight_decay=0.0)
