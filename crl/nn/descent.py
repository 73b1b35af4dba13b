"""Training from start to end, for networks that are then left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from crl.nn.adam import Adam


def descend(parameters: Iterable[nn.Parameter], loss: Callable[[], Tensor], updates: int,
            rate: float) -> None:
    """Gradient steps of Adam, whose rate goes evenly down to 0, so that what is learned settles.

    Args:
        parameters: What is trained.
        loss: Gives a scalar to go down, of other samples each time.
        updates: How many steps.
        rate: Of the first one.
    """
    optimizer = Adam(list(parameters), rate)
    for update in range(updates):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - update / updates)
        optimizer.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
