"""What a world model recalls: the sign of a reward that depends on what was shown 63 steps before.

    python experiments/r2i_recall.py    # 3 seeds of two models, a few minutes each
    python experiments/r2i_table.py     # its table, with those of r2i.py

Actions are random, nothing but the model learns. `control` is the same model, told at every step
that an episode begins. Goes on where it stopped: a row of results/r2i/recall.csv a model and seed.
"""

from __future__ import annotations

import csv
import time
from dataclasses import replace

import numpy as np
import torch
from grid import RESULTS
from r2i import CORES

import crl
from crl.agent import Step
from crl.agents.r2i import R2I
from crl.agents.r2i_model import TWO_HOT
from crl.chunks import Chunks
from crl.seeding import generator, integer
from crl.stream import Task, make_env, step_env

TABLE = RESULTS / "r2i" / "recall.csv"
SEEDS, LENGTH, EPISODES, UPDATES, EVERY = range(3), 63, 190, 2_500, 250
COLUMNS = ("model", "seed", "updates", "recall", "control", "cpu_s")


def fill(agent: R2I, task: Task, seed: int) -> None:
    """Plays at random."""
    env = make_env(task)
    agent.begin_task(task)
    for number in range(EPISODES):
        obs, _ = env.reset(seed=integer(seed, "recall", number))
        first, over = np.array([True]), False
        while not over:
            action = agent.act(obs[None], first)
            following, reward, terminated, truncated, info = step_env(env, action[0])
            agent.observe(Step(obs[None], action, np.array([reward], np.float32), following[None],
                               np.array([terminated]), np.array([truncated]), first, [info]))
            obs, first, over = following, np.array([False]), terminated or truncated
    env.close()


@torch.no_grad()
def recall(agent: R2I, batch: Chunks) -> float:
    """How many of the signs of rewards are right whose clue is in their chunk."""
    told = agent.model.told(agent.model.observe(batch, None)[0]).flatten(0, 1)
    reward = TWO_HOT.mean(agent.model.reward(told, 0)).view(batch.reward.shape)
    asked = batch.reward != 0
    asked[:, :LENGTH + 1] = False
    return float((reward[asked].sign() == batch.reward[asked].sign()).float().mean())


def learn(name: str, seed: int) -> list[dict[str, str | int | float]]:
    """Trains one model; a row every few updates."""
    memory, settings = CORES[name]
    stream = crl.make_stream(f"memory-length-{LENGTH}")
    own = {key.removeprefix("agent."): value for key, value in settings.items()}
    agent = crl.make_agent("r2i", stream, seed=seed, memory=memory, sequence_length=130,
                           batch_size=8, start_steps=10**9, learning_rate=3e-4, **own)
    assert isinstance(agent, R2I)
    agent.attach([])
    fill(agent, stream[0], seed)
    batch, draws = agent.replay.take(np.arange(len(agent.replay))), generator(seed, "recall")
    part, rows, begun = agent.parts["model"], [], time.process_time()
    for update in range(1, UPDATES + 1):
        losses, _ = agent.model.losses(agent.replay.sample(8, draws), agent._generator)
        part.module.zero_grad()
        torch.autograd.backward(list(losses.values()))
        torch.nn.utils.clip_grad_norm_(part.module.parameters(), agent.config.max_gradient_norm)
        part.optimizer.step()
        if update % EVERY == 0:
            restarted = replace(batch, first=torch.ones_like(batch.first))
            rows.append({"model": name, "seed": seed, "updates": update,
                         "recall": round(recall(agent, batch), 4),
                         "control": round(recall(agent, restarted), 4),
                         "cpu_s": round(time.process_time() - begun, 1)})
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    torch.set_num_threads(1)
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    if not TABLE.exists():
        TABLE.write_text(",".join(COLUMNS) + "\n")
    with open(TABLE, newline="") as file:
        done = {(row["model"], int(row["seed"])) for row in csv.DictReader(file)}
    for seed in SEEDS:
        for name in ("r2i", "gru rssm"):
            if (name, seed) not in done:
                rows = learn(name, seed)
                with open(TABLE, "a", newline="") as file:
                    csv.DictWriter(file, COLUMNS, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main()
