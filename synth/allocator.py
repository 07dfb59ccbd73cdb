"""DOOR. Settings of the C allocator: a process keeps freed memory.

A picture needs a dozen arrays of some 100 KB for a moment, a training step hundreds of tensors of some MB.
By default glibc returns such memory to the system when it is freed. Every page of it then faults in again for
the next picture or step. That takes a fifth of the time of a coloured picture, and 5 to 10 % of a step of
diffusion-32.
"""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of glibc's mallopt
_KEPT = 32 << 20  # bytes: allocations up to it come from the heap, which may keep as much idle
_NEVER = -1  # returns idle memory

_unlimited = False


def keep_memory(*, unlimited: bool = False) -> None:
    """Makes this process keep freed memory for its next picture: 32 MB, or with `unlimited` all.

    A later call lowers no limit. Does nothing if the C library lacks mallopt, which glibc has."""
    global _unlimited
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or _unlimited:
        return
    # Setting one threshold ends glibc's own adjustment of both, so both are set.
    mallopt(_MMAP_THRESHOLD, _KEPT)
    mallopt(_TRIM_THRESHOLD, _NEVER if unlimited else _KEPT)
    if unlimited:
        mallopt(_MMAP_MAX, 0)
        _unlimited = True
