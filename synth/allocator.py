"""Settings of the C allocator: a process keeps freed memory.

A picture needs a dozen arrays of some 100 KB for a moment. By default glibc returns such memory to the system
when it is freed. Every page of it then faults in again for the next picture. That takes a fifth of the time
of a coloured picture.
"""

import ctypes
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_KEPT = 32 << 20  # bytes: allocations up to it come from the heap, which may keep as much idle


@cache
def keep_memory() -> None:
    """Makes this process keep freed memory for its next picture. Does nothing if the C library lacks mallopt,
    which glibc has."""
    # Setting one threshold ends glibc's own adjustment of both, so both are set.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _KEPT)
        mallopt(_TRIM_THRESHOLD, _KEPT)
