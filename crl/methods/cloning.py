"""States of finished tasks with the outputs a policy gave there, for methods that clone it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crl.methods.parts import Gaussian, Parameters, Part
from crl.replay import Samples

StoredOutputs = dict[str, Tensor]
"""What a policy sees of N samples, and ``mean`` and ``std`` [N, …, outputs]; or empty."""


def outputs_at(part: Part, samples: Samples, parameters: Parameters | None = None) -> Gaussian:
    """The Gaussian outputs of a part."""
    outputs = part.outputs(samples, parameters)
    assert isinstance(outputs, Gaussian)
    return outputs


def store(stored: StoredOutputs, part: Part, batch: Samples) -> StoredOutputs:
    """What is stored, and what the part now gives on a batch."""
    with torch.no_grad():
        outputs = outputs_at(part, batch)
    new = {**batch.what_is_seen(), "mean": outputs.mean, "std": outputs.std}
    return {name: torch.cat((stored[name], column)) if stored else column.clone()
            for name, column in new.items()}


def draw(stored: StoredOutputs, count: int, rng: np.random.Generator) -> StoredOutputs:
    """Rows of what is stored, uniformly with replacement."""
    obs = stored["obs"]
    rows = torch.from_numpy(rng.integers(len(obs), size=count)).to(obs.device)
    return {name: column[rows] for name, column in stored.items()}
