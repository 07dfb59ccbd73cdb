"""Functions of reader processes, in a module without torch: they start in a fraction of a second."""

import os
import signal
import threading
import time
from typing import Any

import numpy as np


def squares(position: int) -> np.ndarray:
    """Returns 4 MB."""
    return np.full(4_000_000, position * position, np.uint8)


def unsendable(position: int) -> Any:
    """Returns a lock, which cannot be pickled, at position 3."""
    return threading.Lock() if position == 3 else position


def killed(position: int) -> int:
    """Ends its process at position 2."""
    if position == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return position


def stuck(position: int) -> int:
    """Never returns at position 1."""
    while position == 1:
        time.sleep(0.1)
    return position


def short_of_memory(position: int) -> int:
    """Has too little memory at position 1."""
    if position == 1:
        raise MemoryError
    return position
