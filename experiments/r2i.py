"""R2I on tasks that need memory: beside DreamerV3's sequence model, and without memory.

    python experiments/r2i.py memory-length-15    # or another grid
    python experiments/r2i_table.py               # the tables of what there is so far

Each goes on where it stopped, two runs at a time.
"""

from __future__ import annotations

import argparse

from grid import run_grid
from memory import Grid, Rows, jobs

CORES: Rows = {
    "r2i": ("s5", {}),
    "gru rssm": ("gru", {"agent.posterior": "recurrent"}),
    "no memory": ("mlp", {}),  # nothing of what was before the last step reaches it
}
# Defaults among them, so that the tables stay what they are when they change.
SETTINGS: dict[str, object] = {
    "agent.size": "nano", "agent.sees": "full", "agent.latent_entropy": 3e-3, "agent.free_nats": 1,
    "agent.reward_scale": 1, "agent.batch_size": 16, "agent.sequence_length": 64,
    "agent.train_ratio": 200, "agent.start_steps": 1_000, "agent.imagined": 128,
    "agent.horizon": 15, "agent.learning_rate": 3e-4, "agent.behaviour_rate": 3e-4,
    "agent.entropy_weight": 3e-4}
# Chunks of two episodes, so that what is asked for is shown in the chunk.
_LONG: dict[str, object] = {"agent.sequence_length": 130, "agent.batch_size": 8}

GRIDS = {
    "memory-length-15": Grid("memory-length-15", 12_000, "r2i", CORES, SETTINGS, good=0.8),
    "memory-length-63": Grid("memory-length-63", 20_000, "r2i", CORES, {**SETTINGS, **_LONG},
                             good=0.8),
    # A card of four is 1.4 nats that nobody foresees. Fewer steps that are learned from more often
    # are learned by heart. Rewards are of 1/48, and an action changes nothing of what comes.
    "repeat-previous": Grid("repeat-previous-easy", 60_000, "r2i", CORES, {
        **SETTINGS, "agent.free_nats": 2, "agent.reward_scale": 48, "agent.train_ratio": 64,
        "agent.learning_rate": 1e-3, "agent.behaviour_rate": 1e-3, "agent.gamma": 0,
        "agent.horizon": 1, "agent.imagined": 512}, good=0.5),
    "pendulum": Grid("Pendulum-v1", 10_000, "r2i", CORES, {
        **SETTINGS, "agent.train_ratio": 512, "agent.gamma": 0.95, "agent.behaviour_rate": 1e-3},
        good=-400),
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grid", choices=GRIDS)
    name = parser.parse_args().grid
    run_grid(f"r2i/{name}", jobs(GRIDS[name]))
