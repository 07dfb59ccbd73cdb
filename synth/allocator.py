"""Settings of the C allocator: a process keeps freed memory.

A picture needs a dozen arrays of some 100 KB for a moment, a training step hundreds of tensors of some MB.
By default glibc returns such memory to the system when it is freed. Every page of it then faults in again for
the next picture or step. That takes a fifth of the time of a coloured picture, and 5 % of a step.
"""

import ctypes
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_KEPT = 32 << 20  # bytes: allocations up to it come from the heap, which may keep as much idle
_UNLIMITED = -1


@cache
def keep_memory(*, all_of_it: bool = False) -> None:
    """Makes this process keep freed memory for its next picture, up to 32 MB, or all of it.

    Does nothing if the C library lacks mallopt, which glibc has."""
    # Setting one threshold ends glibc's own adjustment of both, so both are set.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _KEPT)
        mallopt(_TRIM_THRESHOLD, _UNLIMITED if all_of_it else _KEPT)
