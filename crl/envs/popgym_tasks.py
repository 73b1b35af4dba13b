"""POPGym's sixteen tasks in three sizes (Morad et al. 2023), through the extra ``popgym``."""

from __future__ import annotations

import importlib
from typing import Any

from gymnasium.spaces import Box, MultiDiscrete
from gymnasium.wrappers import FlattenObservation

from crl.stream import Env

FAMILIES = {
    "autoencode": "Autoencode", "battleship": "Battleship", "concentration": "Concentration",
    "count-recall": "CountRecall", "higher-lower": "HigherLower",
    "labyrinth-escape": "LabyrinthEscape", "labyrinth-explore": "LabyrinthExplore",
    "mine-sweeper": "MineSweeper", "multiarmed-bandit": "MultiarmedBandit",
    "noisy-position-only-cartpole": "NoisyPositionOnlyCartPole",
    "noisy-position-only-pendulum": "NoisyPositionOnlyPendulum",
    "position-only-cartpole": "PositionOnlyCartPole",
    "position-only-pendulum": "PositionOnlyPendulum", "repeat-first": "RepeatFirst",
    "repeat-previous": "RepeatPrevious", "velocity-only-cartpole": "VelocityOnlyCartPole",
}
POPGYM_TASKS = {f"popgym-{family}-{size}": f"{cls}{size.capitalize()}"
                for family, cls in FAMILIES.items() for size in ("easy", "medium", "hard")}


def make(task: str, render_mode: str | None = None) -> Env:
    """A task of :data:`POPGYM_TASKS`, its observations and actions made flat.

    Raises:
        ImportError: POPGym is not installed.
    """
    try:
        envs, wrappers = (importlib.import_module(f"popgym.{name}") for name in
                          ("envs", "wrappers"))
        cls: Any = getattr(envs, POPGYM_TASKS[task])
    except (ImportError, AttributeError) as error:  # labyrinths are left out without mazelib
        raise ImportError("POPGym is not installed; type: pip install 'crl[memory]'") from error
    env: Env = cls()
    if isinstance(env.action_space, MultiDiscrete):
        env = wrappers.DiscreteAction(env)
    return env if isinstance(env.observation_space, Box) else FlattenObservation(env)

