"""Adam with little besides the arithmetic."""

from __future__ import annotations

from typing import Any

import torch

_BLOCK = 2**16  # numbers whose moments stay in a processor's cache


class Adam(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015) whose step is one call of torch's fused kernel.

    ``torch.optim.Adam(fused=True)`` calls the same kernel, after twice its time in bookkeeping.
    State and its names are torch's, but the count of steps is a plain number. A parameter without a
    gradient is left alone.
    """

    def __init__(self, params: Any, lr: float = 1e-3, beta2: float = 0.999) -> None:
        super().__init__(params, {"lr": lr, "betas": (0.9, beta2), "eps": 1e-8})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            states = [self.state[p] or self._begin(p) for p in parameters]
            for state in states:
                state["step"] += 1
            counts = {n: torch.tensor(float(n), device=parameters[0].device)
                      for n in {s["step"] for s in states}}
            _kernel(group, parameters, [p.grad for p in parameters],
                    [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states],
                    [counts[s["step"]] for s in states])
            # The kernel leaves them as they were, and what is made of weights is kept by them.
            torch.autograd.graph.increment_version(parameters)

    @torch.no_grad()
    def ahead(self, parameter: torch.Tensor, out: torch.Tensor) -> None:
        """Writes to ``out`` what a parameter will be after the next step, its gradient being what
        it is by then."""
        if parameter.grad is None:
            out.copy_(parameter)
            return
        group = next(g for g in self.param_groups if any(p is parameter for p in g["params"]))
        state = self.state[parameter]
        count = torch.tensor(float(state["step"] + 1 if state else 1), device=parameter.device)
        moments = [torch.split(state[name].view(-1), _BLOCK) if state else None
                   for name in ("exp_avg", "exp_avg_sq")]
        scratch = out.new_empty(2, min(_BLOCK, out.numel()))
        blocks = zip(*(torch.split(flat.view(-1), _BLOCK)
                       for flat in (out, parameter.detach(), parameter.grad)), strict=True)
        for i, (block, before, gradient) in enumerate(blocks):
            block.copy_(before)
            # The kernel moves the moments as well, which must stay: it gets copies.
            copies = [room[:len(block)].zero_() if moment is None
                      else room[:len(block)].copy_(moment[i])
                      for room, moment in zip(scratch, moments, strict=True)]
            _kernel(group, [block], [gradient], copies[:1], copies[1:], [count])

    def _begin(self, parameter: torch.Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self.state[parameter]
        state["step"] = 0
        state["exp_avg"] = torch.zeros_like(parameter)
        state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state


def _kernel(group: dict[str, Any], parameters: list[Any], gradients: list[Any], means: list[Any],
            squares: list[Any], counts: list[Any]) -> None:
    """Torch's fused step, in place, with a group's settings."""
    beta1, beta2 = group["betas"]
    torch._fused_adam_(parameters, gradients, means, squares, [], counts, lr=group["lr"],
                       beta1=beta1, beta2=beta2, weight_decay=0.0, eps=group["eps"],
                       amsgrad=False, maximize=False)
