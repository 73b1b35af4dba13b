"""Chunks of experience that a world model makes up."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from crl.agents.r2i_model import TWO_HOT, Belief, WorldModel
from crl.chunks import Chunks
from crl.nn.symlog import symexp


@torch.no_grad()
def dream_chunks(model: WorldModel, starts: Tensor, count: int, length: int,
                 act: Callable[[Belief], Tensor], head: int,
                 generator: torch.Generator) -> Chunks:
    """What an agent would see, do and get, if the model were the world.

    Episodes follow one another: where one ends, the next begins.

    Args:
        model: The model.
        starts: First observations [N, obs] of episodes, to draw from.
        count, length: Of the chunks, B and L.
        act: Beliefs [B, …] → actions [B, act].
        head: Of the task.
        generator: Source of the draws.
    """
    device = starts.device
    nothing = starts.new_zeros(count, model.state_size)
    idle = starts.new_zeros(count, model.action_size)
    begins, over = torch.ones(count, dtype=torch.bool, device=device), None
    belief, columns = None, []
    for _ in range(length):
        drawn = torch.randint(len(starts), (count,), generator=generator).to(device)
        obs = starts[drawn]
        awake = model.step(obs, idle, nothing, torch.ones_like(begins), generator)
        if belief is None:
            belief, action = awake, idle
            reward, over = starts.new_zeros(count), torch.zeros_like(begins)
        else:
            assert over is not None
            begins = over
            action = torch.where(begins.unsqueeze(-1), 0, act(belief))
            slept = model.imagine(belief, action, generator)
            told = model.told(slept)
            obs = torch.where(begins.unsqueeze(-1), obs, symexp(model.decoder(told)))
            reward = TWO_HOT.mean(model.reward(told, head)).where(~begins, 0)
            goes_on = model.goes_on(told, head).squeeze(-1).sigmoid()
            chance = torch.rand(count, generator=generator).to(device)
            over = (chance > goes_on) & ~begins
            belief = Belief(*(torch.where(begins.unsqueeze(-1), a, b)
                              for a, b in zip(awake, slept, strict=True)))
        columns.append((obs, action, reward, over, begins))
    obs, action, reward, ended, first = (torch.stack(column, 1)
                                         for column in zip(*columns, strict=True))
    return Chunks(obs, action, reward, ended, first, nothing, head)
