"""Tasks that cannot be solved without remembering, and by how much: their correlation horizon ξ.

An event at time tₑ that lasts Δt and is asked for at t_r has ξ = t_r − tₑ − Δt + 1, the number of
observations from the one to the other (Cherepanov et al. 2024, "Unraveling the Complexity of Memory
in RL Agents"). An agent that sees fewer at once must remember.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

Observation = NDArray[np.float32]


class MemoryTask(gymnasium.Env[Observation, Any]):
    """What the tasks share: they draw at the reset what must be remembered, and end by themselves.

    Attributes:
        horizon: Steps of an episode.
        correlation_horizon: ξ.
        chance: Success rate of guessing.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  (Gymnasium's own attribute)
    horizon: int
    correlation_horizon: int
    chance: float

    def __init__(self, observation_size: int, actions: int) -> None:
        self.observation_space = Box(-1, 1, (observation_size,), np.float32)
        self.action_space = Discrete(actions)
        self._time = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None
              ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        self._time = 0
        self._begin()
        return self._observe(), {}

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        reward, over, success = self._act(int(action))
        self._time += 1
        over = over or self._time >= self.horizon
        return self._observe(), reward, over, False, {"success": success}

    def _begin(self) -> None:
        """Draws an episode."""
        raise NotImplementedError

    def _observe(self) -> Observation:
        raise NotImplementedError

    def _act(self, action: int) -> tuple[float, bool, bool]:
        """Reward, whether that ends the episode, and success."""
        raise NotImplementedError


class TMaze(MemoryTask):
    """Passive T-Maze (Ni et al. 2023): a clue at the start says where to turn at the end.

    A corridor of ``length`` cells and a junction. Observations are the way that remains, the clue
    (±1, in the first one only), a flag at the junction, and noise in {−1, 0, 1}. Actions: forward,
    up, back, down. The reward is 1 for the right turn, and −1 / length for every step that leaves
    the agent behind one who always went forward, so that walking itself is easily learned. There is
    time for no more than that: length + 1 steps, of which the last is the turn.
    """

    chance = 0.5

    def __init__(self, length: int) -> None:
        super().__init__(4, 4)
        self.length = length
        self.horizon = self.correlation_horizon = length + 1

    def _begin(self) -> None:
        self._place = 0
        self._clue = int(self.np_random.integers(2)) * 2 - 1

    def _observe(self) -> Observation:
        return np.array([1 - self._place / self.length, self._clue if self._time == 0 else 0,
                         self._place == self.length, self.np_random.integers(-1, 2)], np.float32)

    def _act(self, action: int) -> tuple[float, bool, bool]:
        if self._place == self.length:
            if action in (1, 3):
                right = (action == 1) == (self._clue == 1)
                return float(right), True, right
        elif action in (0, 2):
            self._place = max(0, self._place + 1 - action)
        behind = self._place < min(self._time + 1, self.length)
        return -behind / self.length, False, False


class MemoryLength(MemoryTask):
    """bsuite's memory length (Osband et al. 2020): bits, a wait of ``length`` steps, an answer.

    Observations are the share of time that remains, the number of the bit that is asked for (in the
    last one only) and the bits (±1, in the first one only). The answer is the action on the last
    observation: reward 1 if it is that bit, −1 if not.

    Args:
        length: Steps between the bits and the answer.
        bits: How many are shown.
        actions: How many there are; those above 1 are wrong answers.
    """

    def __init__(self, length: int, bits: int = 1, actions: int = 2) -> None:
        super().__init__(2 + bits, actions)
        self.length, self.bits = length, bits
        self.chance = 1 / actions
        self.horizon = self.correlation_horizon = length + 1

    def _begin(self) -> None:
        self._shown = self.np_random.integers(2, size=self.bits)
        self._query = int(self.np_random.integers(self.bits))

    def _observe(self) -> Observation:
        obs = np.zeros(2 + self.bits, np.float32)
        obs[0] = max(0.0, 1 - self._time / self.length)
        if self._time == self.length:
            obs[1] = self._query
        if self._time == 0:
            obs[2:] = 2 * self._shown - 1
        return obs

    def _act(self, action: int) -> tuple[float, bool, bool]:
        if self._time < self.length:
            return 0.0, False, False
        right = action == self._shown[self._query]
        return 1.0 if right else -1.0, True, bool(right)


class RepeatPrevious(MemoryTask):
    """POPGym's RepeatPrevious (Morad et al. 2023): say the suit of the k-th last card.

    The one just dealt is counted, as in POPGym's code: it lies k − 1 steps back.

    Observations are the suit that is dealt now, as a vector with a single 1. From the first step
    that has an answer on, each earns 1 / answers if right and minus that if not; success is to have
    given right answers only.

    Args:
        k: Suits to have in mind.
        decks: Of 52 cards, shuffled together; an episode has a step for each card but one.
    """

    def __init__(self, k: int, decks: int = 1) -> None:
        super().__init__(4, 4)
        self.horizon = 52 * decks - 1
        self.k, self.decks = k, decks
        self.correlation_horizon = k
        self.answers = self.horizon + 1 - k
        self.chance = 0.25**self.answers

    def _begin(self) -> None:
        self._cards = self.np_random.permutation(np.repeat(np.arange(4), 13 * self.decks))
        self._flawless = True

    def _observe(self) -> Observation:
        suit = np.zeros(4, np.float32)
        suit[self._cards[self._time]] = 1
        return suit

    def _act(self, action: int) -> tuple[float, bool, bool]:
        asked = self._time + 1 - self.k
        if asked < 0:
            return 0.0, False, False
        right = action == self._cards[asked]
        self._flawless &= bool(right)
        last = self._time == self.horizon - 1
        return (1 if right else -1) / self.answers, False, last and self._flawless
