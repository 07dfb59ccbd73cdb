"""Files mapped into memory without an open file.

Python's mmap keeps a file descriptor for each map. A run maps a file for each of its shards, so a thousand
shards would reach the limit of open files.
"""

import ctypes
import os
import weakref
from functools import cache
from typing import Any

_READ, _SHARED = 1, 1  # PROT_READ and MAP_SHARED
_FAILED = ctypes.c_void_p(-1).value  # MAP_FAILED


def mapped(path: str | os.PathLike[str]) -> memoryview:
    """Returns the content of a local file, mapped as long as the view or a part of it is in use.

    Raises OSError if the file cannot be mapped. An empty file gives an empty view."""
    file = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(file).st_size
        if not size:
            return memoryview(b"")
        address = _library().mmap(None, size, _READ, _SHARED, file, 0)
    finally:
        os.close(file)
    if address == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))

    # Views keep the array alive, and its end is the end of the map.
    array: Any = (ctypes.c_ubyte * size).from_address(address)
    weakref.finalize(array, _library().munmap, address, size).atexit = False
    return memoryview(array).cast("B").toreadonly()


@cache
def _library() -> ctypes.CDLL:
    """Returns the C library."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    numbers = [ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *numbers]
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return library
