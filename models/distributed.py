"""What the processes of a distributed training tell each other; alone, each is all of them."""

import torch
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_gather


def rank() -> int:
    """Return this process's number; 0 when alone."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world() -> int:
    """Return how many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def everywhere(local: Tensor) -> tuple[Tensor, int]:
    """Return the rows of all processes and the place of our first; alone: (local, 0)."""
    if not distributed.is_initialized():
        return local, 0
    count = torch.tensor(len(local))
    counts = [torch.zeros_like(count) for _ in range(world())]
    distributed.all_gather(counts, count)
    if len({int(each) for each in counts}) > 1:
        raise ValueError("every process needs the same number of rows in a step")
    gathered = torch.cat(all_gather(local))  # type: ignore[no-untyped-call]
    return gathered, rank() * len(local)


def agreed(value: float) -> float:
    """Return the first process's value: all go on alike, though their machines round unlike."""
    if not distributed.is_initialized():
        return value
    told = torch.tensor(value, dtype=torch.float64)
    distributed.broadcast(told, src=0)
    return float(told)
