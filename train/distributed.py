"""Ranks: who they are, what they agree on, and the one reduction of a phase. Without torchrun there is one rank, and nothing to do."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

GOES_ON, STOPS, FAILS = 0, 1, 2


@dataclass(frozen=True)
class Ranks:
    """The ranks of a run, seen from one of them."""

    rank: int = 0
    count: int = 1
    local: int = 0  # rank within the node
    device: str = "cpu"

    @classmethod
    def join(cls, device: str) -> Self:
        """Joins the ranks that torchrun started, with nccl on GPUs and gloo on CPUs; alone without it."""
        if "WORLD_SIZE" not in os.environ:
            return cls(device=device)
        local = int(os.environ["LOCAL_RANK"])
        if device == "cuda":
            torch.cuda.set_device(local)
            device = f"cuda:{local}"
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        return cls(dist.get_rank(), dist.get_world_size(), local, device)

    def leave(self) -> None:
        """Ends what `join` began."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def agree(self, state: int) -> tuple[int, int]:
        """The gravest state of all ranks, and the first rank that is in it."""
        if self.count == 1:
            return state, 0
        said = torch.tensor(state * self.count + self.count - 1 - self.rank, device=self.device)
        dist.all_reduce(said, dist.ReduceOp.MAX)
        gravest, left = divmod(int(said), self.count)
        return gravest, self.count - 1 - left

    def average(self, tensors: Iterable[Tensor]) -> Tensor:
        """Replaces tensors (of one dtype) by their means over ranks, in place; they come back as one flat tensor."""
        tensors = list(tensors)
        flat = _flatten_dense_tensors(tensors)
        if self.count > 1:
            dist.all_reduce(flat)
            flat /= self.count
            for tensor, mean in zip(tensors, _unflatten_dense_tensors(flat, tensors), strict=True):
                tensor.copy_(mean)
        return flat

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.count > 1:
            dist.barrier()
