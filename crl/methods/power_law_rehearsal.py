"""Power-law rehearsal: the longer ago a task ended, the rarer it is rehearsed.

The schedule of Gandhi, Shah, Marupudi & Varma 2024, "Natural Mitigation of Catastrophic
Interference: Continual Learning in Power-Law Learning Environments". How likely something learned
is needed again falls as a power of its age (Anderson & Schooler 1991, "Reflections of the
Environment in Memory"), and so does what people retain of it (Wixted & Ebbesen 1991, "On the Form
of Forgetting").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crl.config import require
from crl.methods.rehearsal import TaskRehearsal


class PowerLawRehearsal(TaskRehearsal):
    """Draws the task of each rehearsed row with probability ∝ age^−α.

    Age counts tasks: 1 for the one that ended last. In the source the power law describes what an
    environment happens to bring up again; here it schedules the rehearsal.
    """

    name = "power-law-rehearsal"
    paper = "Gandhi et al. 2024"

    @dataclass(frozen=True)
    class Config(TaskRehearsal.Config):
        """Settings of :class:`PowerLawRehearsal`.

        Attributes:
            share: How likely each transition of a batch is replaced by one of a finished task.
            samples_per_task: Transitions stored per finished task.
            exponent: α; 0 draws all finished tasks alike.
        """

        exponent: float = 1.0

        def __post_init__(self) -> None:
            super().__post_init__()
            require(self.exponent >= 0, "exponent must not be negative")

    config: Config

    def task_weights(self) -> NDArray[np.float64]:
        ages = np.arange(len(self._memory.tasks), 0, -1.0)
        weights: NDArray[np.float64] = ages ** -self.config.exponent
        return weights
