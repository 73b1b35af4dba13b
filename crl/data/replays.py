"""The replay of a run → the episodes that were played for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from crl.agents.actions import make_actions
from crl.checkpoint import Tree
from crl.data.episodes import Episodes, IntArray
from crl.errors import UserError
from crl.run import Run


def replay_episodes(run: Run, checkpoint: Tree) -> tuple[Episodes, IntArray]:
    """The episodes that are still whole in the replay of a checkpoint.

    Lengths, seeds, tasks and successes are those of the run's train.csv. It does not say at which
    step an episode succeeded: if not at its last, the step of highest reward stands for it.

    Args:
        run: Of an agent that learns from single transitions, such as ``sac``.
        checkpoint: What ``run.checkpoint()`` gave.

    Returns:
        The episodes, and the position of each one's task in the stream, [N].

    Raises:
        UserError: The agent keeps something else, no episode is whole any more, or the replay is
            not of the episodes in train.csv.
    """
    columns = _in_order(run, checkpoint)
    played = run.train()
    written = played["env_step"] <= checkpoint["loop"]["env_step"]
    kept = np.cumsum(played["length"][written][::-1]) <= len(columns["reward"])
    rows = {name: column[written][written.sum() - kept.sum() :] for name, column in played.items()}
    lengths = rows["length"]
    if len(lengths) == 0:
        raise UserError(f"the replay of {run.folder} holds no whole episode; train for longer, or "
                        "set agent.replay_size to more than an episode's steps")
    columns = {name: column[-lengths.sum() :] for name, column in columns.items()}
    ends, number = np.cumsum(lengths), np.arange(len(lengths))
    before = np.arange(lengths.sum()) + np.repeat(number, lengths)
    obs = np.empty((lengths.sum() + len(lengths), columns["obs"].shape[1]), np.float32)
    obs[before] = columns["obs"]
    obs[ends + number] = columns["next_obs"][ends - 1]
    if not (np.array_equal(np.flatnonzero(columns["last"]) + 1, ends)
            and np.array_equal(obs[before + 1], columns["next_obs"])):
        raise UserError(f"the replay of {run.folder} is not of the episodes in its train.csv; "
                        "restore the folder from a copy")
    success = np.zeros(lengths.sum(), np.bool_)
    success[ends - 1] = rows["success_end"]
    for i in np.flatnonzero(rows["success_once"] > rows["success_end"]):
        start = ends[i] - lengths[i]
        success[start + columns["reward"][start : ends[i] - 1].argmax()] = True
    terminated = columns["terminated"]
    episodes = Episodes.of(
        lengths, obs=obs, actions=make_actions(run.stream.action_space).to_env(columns["action"]),
        rewards=columns["reward"], terminated=terminated,
        truncated=columns["last"] & ~terminated, success=success, seeds=rows["seed"])
    return episodes, rows["train_task"]


def _in_order(run: Run, checkpoint: Tree) -> dict[str, Any]:
    """The columns of the replay, oldest row first."""
    replay = checkpoint["agent"].get("replay") or {}
    columns = replay.get("columns", {})
    if "next_obs" not in columns:
        raise UserError(f"agent {run.config['agent']['name']!r} of {run.folder} does not keep "
                        "single transitions; make data with its policies instead: add --policy")
    size = len(columns["reward"])
    order = (replay["next"] + np.arange(size)) % size  # next: the oldest, if all are taken
    return {name: column[order] for name, column in columns.items()}
