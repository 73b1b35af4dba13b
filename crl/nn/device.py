"""Devices that a user names."""

from __future__ import annotations

from typing import Any

import torch

from crl.errors import UserError


def check_device(device: Any) -> str:
    """``device`` if torch can compute on it here, else a ``UserError``."""
    try:
        kind = torch.device(device).type
    except (RuntimeError, TypeError):
        raise UserError(f"unknown device {device!r}; type cpu, cuda or cuda:1") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError("device 'cuda' is not available on this machine; type --device cpu")
    if kind not in ("cpu", "cuda"):
        raise UserError(f"device {device!r} is not supported; type cpu, cuda or cuda:1")
    return str(device)
