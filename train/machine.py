"""The type of machine that a run was started on: everything besides its config that decides the last bits."""

import os
from pathlib import Path
from typing import Any

import torch

from train.distributed import Ranks

_CPUINFO = Path("/proc/cpuinfo")
_VECTORS = ("amx", "asimd", "avx", "fma", "sse", "sve")  # beginnings of flags that choose kernels

Json = dict[str, Any]


def describe(ranks: Ranks) -> Json:
    """Returns the machine type of this process as plain JSON."""
    gpu = ranks.device.startswith("cuda")
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(ranks.device) if gpu else "cpu",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_flags": _flags(),
        "threads": torch.get_num_threads(),
        "ranks": ranks.count,
    }


def use_one_thread(device: str) -> None:
    """Gives this process one thread for sums on a CPU, unless OMP_NUM_THREADS sets another number."""
    if device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        # Sums depend on the number of threads, and more threads slow small models down.
        torch.set_num_threads(1)


def differences(there: Json, here: Json) -> list[str]:
    """Returns a phrase for each property that differs between two machines."""
    pairs = {name: (there.get(name), here.get(name)) for name in {**there, **here}}
    rows = []
    for name, (before, now) in pairs.items():
        if before == now:
            continue
        if name == "cpu_flags":
            odd = sorted(set(before or ()) ^ set(now or ()))
            rows.append(f"the CPU flags differ in {' '.join(odd)}")
        else:
            rows.append(f"{name} was {before} and is {now}")
    return rows


def _flags() -> list[str]:
    """Returns the flags of vector instructions of this CPU, or nothing if the system does not list them."""
    if not _CPUINFO.exists():
        return []
    lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    listed = next((line for line in lines if line.startswith(("flags", "Features"))), ":")
    return sorted(flag for flag in listed.partition(":")[2].split() if flag.startswith(_VECTORS))
