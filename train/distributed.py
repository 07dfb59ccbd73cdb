"""Ranks: who they are, what they agree on, and the one reduction of a phase. Without torchrun there is one rank, and nothing to do."""

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NoReturn, Self, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from synth import console
from synth.errors import UserError

GOES_ON, STOPS, FAILS = 0, 1, 2

T = TypeVar("T")


def attempt(action: Callable[[], T]) -> tuple[UserError | None, T | None]:
    """What the user is to be told where an action fails, and what it returns where it does not."""
    try:
        return None, action()
    except UserError as error:
        return error, None
    except OSError as error:  # a file or folder that cannot be used, or a full disk
        return UserError(f"{error.filename or 'a file'} cannot be used: {error.strerror or error}"), None


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
        if device == "cuda" and int(os.environ["LOCAL_WORLD_SIZE"]) > torch.cuda.device_count():
            raise UserError(f"a node has {torch.cuda.device_count()} CUDA devices, fewer than its ranks; give fewer, or --device cpu")
        if device == "cuda":
            torch.cuda.set_device(local)
            device = f"cuda:{local}"
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        return cls(dist.get_rank(), dist.get_world_size(), local, device)

    def together(self, action: Callable[[], T]) -> T:
        """What an action of every rank returns. Where it fails on any, all leave: see `end`."""
        failure, made = attempt(action)
        if self.agree(FAILS if failure else GOES_ON)[0] == FAILS:
            self.end(failure)
        return cast(T, made)

    def end(self, failure: UserError | None) -> NoReturn:
        """Leaves, on all ranks at once; the first that has a failure tells of it. Raises it where there is one rank, else SystemExit."""
        if failure and self.count == 1:
            raise failure
        _, first = self.agree(FAILS if failure else GOES_ON)
        try:
            if failure and first == self.rank:
                print(file=sys.stderr)  # below the first rank's progress bar
                console.fail(str(failure))
        finally:
            self.wait()  # as torchrun ends the others when one has left
        sys.exit(2)

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
