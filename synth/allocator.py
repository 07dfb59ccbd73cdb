"""The C allocator, told to keep what is freed.

A picture needs a dozen arrays of some 100 KB for a moment. By default glibc gives such memory back to the system when it is freed, and
every page of it faults in again for the next picture: a fifth of the time of a coloured one.
"""

import ctypes
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_KEPT = 32 << 20  # bytes: allocations up to it come from the heap, of which as much may lie idle


@cache
def keep_memory() -> None:
    """From now on this process keeps freed memory for its next picture (where the C library is glibc)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _KEPT)
        mallopt(_TRIM_THRESHOLD, _KEPT)
