"""Other people's draws from global generators, kept apart from everybody else's."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from crl.checkpoint import Tree
from crl.nn import state as trees


class GlobalDraws:
    """Within it, NumPy's and torch's global generators are in states that one owner has alone.

    ::

        with draws:          # np.random and torch draw from the owner's generators …
            model.train()    # … and outside from where they were

    Args:
        seed: Of the owner's generators.
        device: The device whose generator torch draws from, besides the CPU's.
    """

    def __init__(self, seed: int, device: str = "cpu") -> None:
        self._cuda = device if torch.device(device).type == "cuda" else None
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Begins the owner's generators anew."""
        # They are what np.random.seed and torch.manual_seed would make of the global ones.
        self._inside: Tree = {
            "numpy": np.random.RandomState(seed).get_state(legacy=False),
            "torch": trees.generator_to_tree(torch.Generator().manual_seed(seed)),
            "cuda": (trees.generator_to_tree(torch.Generator(self._cuda).manual_seed(seed))
                     if self._cuda else None)}

    def __enter__(self) -> None:
        self._outside = self._read()
        self._write(self._inside)

    def __exit__(self, *error: object) -> None:
        self._inside = self._read()
        self._write(self._outside)

    def state_dict(self) -> Tree:
        """The states of the owner's generators."""
        return self._inside

    def load_state_dict(self, tree: Tree) -> None:
        """Puts back what :meth:`state_dict` gave."""
        self._inside = tree

    def _read(self) -> Tree:
        return {"numpy": np.random.get_state(legacy=False),  # noqa: NPY002
                "torch": torch.get_rng_state().numpy().copy(),
                "cuda": (torch.cuda.get_rng_state(self._cuda).numpy().copy() if self._cuda
                         else None)}

    def _write(self, tree: Tree) -> None:
        numpy: Any = tree["numpy"]
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(torch.from_numpy(np.array(tree["torch"])))
        if self._cuda:
            torch.cuda.set_rng_state(torch.from_numpy(np.array(tree["cuda"])), self._cuda)
