"""Three nodes on this machine, of which one is lost while episodes are played; prints what came."""

from __future__ import annotations

import os
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from toy import Corner

import crl
from crl.stream import Task, TaskStream


class Tells(Corner):
    """A corner that tells which nodes play it, and takes its time."""

    def __init__(self, corner: int, folder: Path, render_mode: str | None = None) -> None:
        super().__init__(corner)
        if ray.is_initialized():
            (folder / ray.get_runtime_context().get_node_id()).touch()

    def step(self, action: Any) -> Any:
        time.sleep(0.01)
        return super().step(action)


def lose_one(cluster: Cluster, folder: Path) -> None:
    """Kills a node, not the head, as soon as it plays."""
    while True:
        for node in cluster.worker_nodes:
            if (folder / node.node_id).exists():
                time.sleep(0.3)
                cluster.remove_node(node, allow_graceful=False)
                return
        time.sleep(0.02)


def main() -> None:
    folder = Path(sys.argv[1])
    stream = TaskStream([Task("corner", partial(Tells, 0, folder), 100, 0)])
    policy = crl.make_agent("sac", stream, hidden=(8,)).policy(stream[0])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1,
                                                            "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = cluster.address
    threading.Thread(target=lose_one, args=(cluster, folder), daemon=True).start()
    there = crl.evaluate(policy, stream[0], 40, workers=3)
    print(f"nodes {len(cluster.worker_nodes) + 1}, equal "
          f"{there == crl.evaluate(policy, stream[0], 40)}")
    cluster.shutdown()


if __name__ == "__main__":
    main()
