"""Ranks: their numbers, agreement and reductions. Without torchrun there is one rank, and nothing to do."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Self, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from synth import console
from synth.errors import UserError
from synth.sets.storage import unusable

GOES_ON, STOPS, FAILS = 0, 1, 2

_TORCHRUN = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # besides WORLD_SIZE

T = TypeVar("T")


def attempt(action: Callable[[], T]) -> tuple[UserError | None, T | None]:
    """Returns the error for the user if an action fails, else its result."""
    try:
        return None, action()
    except UserError as error:
        return error, None
    except OSError as error:  # an unusable file or folder, or a full disk
        return UserError(unusable(error)), None


@dataclass(frozen=True)
class Ranks:
    """The ranks of a run, seen from one of them."""

    rank: int = 0
    count: int = 1
    local: int = 0  # rank within the node
    device: str = "cpu"

    @classmethod
    def join(cls, device: str) -> Self:
        """Joins the ranks that torchrun started, with nccl on GPUs and gloo on CPUs, if this process has not.

        Returns a single rank without torchrun. Raises UserError if another program has set WORLD_SIZE alone,
        or if a node has more ranks than GPUs."""
        if "WORLD_SIZE" not in os.environ:
            return cls(device=device)
        if missing := [name for name in _TORCHRUN if name not in os.environ]:
            problem = f"the environment has WORLD_SIZE and no {' or '.join(missing)}"
            raise UserError(f"{problem}; start the ranks by torchrun, or unset WORLD_SIZE for one rank")

        # One GPU per rank of a node.
        local = int(os.environ["LOCAL_RANK"])
        if device == "cuda" and int(os.environ["LOCAL_WORLD_SIZE"]) > torch.cuda.device_count():
            problem = f"a node has {torch.cuda.device_count()} CUDA devices, fewer than its ranks"
            raise UserError(f"{problem}; start fewer ranks, or give --device cpu")
        if device == "cuda":
            torch.cuda.set_device(local)
            device = f"cuda:{local}"

        # Process group.
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        return cls(dist.get_rank(), dist.get_world_size(), local, device)

    def together(self, action: Callable[[], T]) -> T:
        """Runs an action on every rank and returns its result. If it fails on a rank, all exit: see `end`."""
        failure, result = attempt(action)
        if self.agree(FAILS if failure else GOES_ON)[0] == FAILS:
            self.end(failure)
        return cast(T, result)

    def end(self, failure: UserError | None) -> NoReturn:
        """Exits on all ranks at once. The first rank with a failure prints it.

        Raises the failure if there is one rank, else SystemExit."""
        if failure and self.count == 1:
            raise failure
        _, first = self.agree(FAILS if failure else GOES_ON)
        try:
            if failure and first == self.rank:
                print(file=sys.stderr)  # ends the line of the first rank's progress bar
                console.fail(str(failure))
        finally:
            # torchrun kills the other ranks as soon as one has exited.
            self.wait()
        sys.exit(2)

    def agree(self, state: int) -> tuple[int, int]:
        """Returns the most severe state of all ranks, and the first rank in it."""
        if self.count == 1:
            return state, 0
        # One maximum finds both: the lowest rank has the largest number within a state.
        severest = torch.tensor(state * self.count + self.count - 1 - self.rank, device=self.device)
        dist.all_reduce(severest, dist.ReduceOp.MAX)
        code, left = divmod(int(severest), self.count)
        return code, self.count - 1 - left

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replaces tensors of one dtype by their means over ranks, in place, in one reduction.

        A single rank copies nothing."""
        if self.count > 1 and tensors:
            flat = _flatten_dense_tensors(tensors)
            dist.all_reduce(flat)
            flat /= self.count
            for tensor, mean in zip(tensors, _unflatten_dense_tensors(flat, tensors), strict=True):
                tensor.copy_(mean)

    def gather(self, rows: Tensor) -> Tensor:
        """Returns the rows (N, ...) of all ranks, in the order of ranks, with gradient.

        A loss over the gathered rows, computed on every rank, has the gradient of the global batch. The rows
        of a rank get the sum of their gradients over ranks. `average` divides the parameters' gradients by
        the number of ranks."""
        return rows if self.count == 1 else _Gather.apply(rows, self)

    def wait(self) -> None:
        """Returns when all ranks have called it."""
        if self.count > 1:
            dist.barrier()


class _Gather(torch.autograd.Function):
    """The rows of all ranks. The gradient is the sum over ranks."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        pieces = [torch.empty_like(rows) for _ in range(ranks.count)]
        dist.all_gather(pieces, rows.contiguous())
        return torch.cat(pieces)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        # A copy, as other branches of the graph may get the same tensor.
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient.chunk(ctx.ranks.count)[ctx.ranks.rank], None
