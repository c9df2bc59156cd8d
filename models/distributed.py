"""Exchanges values between the processes of a distributed training; a single process works too."""

from __future__ import annotations

import torch
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_gather


def rank() -> int:
    """Return this process's number; 0 without a process group."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """Return how many processes train together; 1 without a process group."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def gather_rows(local: Tensor) -> tuple[Tensor, int]:
    """Gather a tensor's rows from all processes; gradients flow back to each of them.

    Args:
        local: [n, ...], with the same n in every process.

    Returns:
        (rows [world_size * n, ...], position of this process's first row).

    Raises:
        ValueError: the processes have different numbers of rows.
    """
    if not distributed.is_initialized():
        return local, 0
    count = torch.tensor(len(local))
    counts = [torch.zeros_like(count) for _ in range(world_size())]
    distributed.all_gather(counts, count)
    if len({int(each) for each in counts}) > 1:
        raise ValueError("every process needs the same number of rows in a step")
    gathered = torch.cat(all_gather(local))  # type: ignore[no-untyped-call]
    return gathered, rank() * len(local)


def same_on_all(value: float) -> float:
    """Return the first process's value.

    Decisions are made by it, because rounding can differ between machines.
    """
    if not distributed.is_initialized():
        return value
    shared = torch.tensor(value, dtype=torch.float64)
    distributed.broadcast(shared, src=0)
    return float(shared)
