"""The Continual World streams on Meta-World v3.

Order and triplets: Wołczyk et al. 2021, "Continual World: A Robotic Benchmark For Continual
Reinforcement Learning". The paper's scores are on Meta-World v1 with another observation; ours are
on v3 and not comparable with them.
"""

from __future__ import annotations

from crl.envs.catalog import stream_of
from crl.stream import StreamOptions, TaskStream

CW10 = (
    "hammer-v3", "push-wall-v3", "faucet-close-v3", "push-back-v3", "stick-pull-v3",
    "handle-press-side-v3", "push-v3", "shelf-place-v3", "window-close-v3", "peg-unplug-side-v3",
)
PUBLISHED_STEPS = 1_000_000
QUICK3_STEPS = 40_000

SEQUENCES: dict[str, tuple[str, ...]] = {
    "quick3": ("handle-press-side-v3", "faucet-close-v3", "window-close-v3"),
    "cw10": CW10,
    "cw20": CW10 + CW10,
    "cw-t1": ("push-v3", "window-close-v3", "hammer-v3"),
    "cw-t2": ("hammer-v3", "window-close-v3", "faucet-close-v3"),
    "cw-t3": ("stick-pull-v3", "push-back-v3", "push-wall-v3"),
    "cw-t4": ("push-wall-v3", "shelf-place-v3", "push-back-v3"),
    "cw-t5": ("faucet-close-v3", "shelf-place-v3", "push-back-v3"),
    "cw-t6": ("stick-pull-v3", "peg-unplug-side-v3", "stick-pull-v3"),
    "cw-t7": ("window-close-v3", "handle-press-side-v3", "peg-unplug-side-v3"),
    "cw-t8": ("faucet-close-v3", "shelf-place-v3", "peg-unplug-side-v3"),
}


def make_stream(name: str, options: StreamOptions) -> TaskStream:
    """One of the streams above; steps per task default to the published 1M (quick3: fewer)."""
    steps = QUICK3_STEPS if name == "quick3" else PUBLISHED_STEPS
    return stream_of(name, SEQUENCES[name], options, steps=steps,
                     label=f"{name}-v1:metaworld-3.1.1")
