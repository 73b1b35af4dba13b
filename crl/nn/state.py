"""Torch objects ↔ trees of NumPy arrays (see ``crl.checkpoint``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crl.checkpoint import Tree


def tensors_to_tree(tensors: Mapping[str, Tensor]) -> Tree:
    """Copies of named tensors as arrays."""
    return {name: _to_numpy(tensor) for name, tensor in tensors.items()}


def to_tensor(values: np.ndarray[Any, Any]) -> Tensor:
    """A float32 copy of an array in memory that torch allocated.

    It is always aligned alike, so that matrix products of equal numbers are equal to the last bit
    in every process (a resumed run depends on it); an array's own memory need not be.
    """
    out = torch.empty(values.shape)
    out.numpy()[:] = values
    return out


def tree_to_tensors(tree: Tree, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """Named arrays as tensors in memory of torch's own (aligned, writable)."""
    return {name: torch.from_numpy(np.array(a)).clone().to(device) for name, a in tree.items()}


def load_parameters(module: nn.Module, tree: Tree) -> None:
    """Copies named arrays into a module's parameters, in place."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.from_numpy(np.array(tree[name])))


def optimizer_to_tree(optimizer: torch.optim.Optimizer) -> Tree:
    """An optimiser's moments and step counts; settings are the configuration's business."""
    return {
        str(index): {k: _to_numpy(v) if isinstance(v, Tensor) else v for k, v in moments.items()}
        for index, moments in optimizer.state_dict()["state"].items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tree: Tree) -> None:
    """Puts back what :func:`optimizer_to_tree` gave."""
    state = {
        int(index): {k: torch.from_numpy(np.array(v)).clone() if isinstance(v, np.ndarray) else v
                     for k, v in moments.items()}
        for index, moments in tree.items()
    }
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def generator_to_tree(generator: torch.Generator) -> np.ndarray[Any, Any]:
    """A torch generator's state as an array of bytes."""
    state: np.ndarray[Any, Any] = generator.get_state().numpy().copy()
    return state


def load_generator(generator: torch.Generator, state: np.ndarray[Any, Any]) -> None:
    """Puts a torch generator back to a state given by :func:`generator_to_tree`."""
    generator.set_state(torch.from_numpy(np.array(state)))


def _to_numpy(tensor: Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = tensor.detach().cpu().numpy().copy()
    return array


def copy_parameters(source: nn.Module, target: nn.Module) -> None:
    """Copies parameters between two modules of one shape, in place."""
    with torch.no_grad():
        for new, old in zip(source.parameters(), target.parameters(), strict=True):
            old.copy_(new)


@contextmanager
def exchanged(module: nn.Module, parameters: Mapping[str, Tensor]) -> Iterator[None]:
    """Within it a module has other parameters, by name; those not named stay."""
    own = {name: p.detach().clone() for name, p in module.named_parameters() if name in parameters}
    put_parameters(module, parameters)
    try:
        yield
    finally:
        put_parameters(module, own)


def put_parameters(module: nn.Module, parameters: Mapping[str, Tensor]) -> None:
    """Copies tensors into the parameters of these names, in place."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            if name in parameters:
                p.copy_(parameters[name])
