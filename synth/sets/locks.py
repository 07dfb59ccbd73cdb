"""Locks between processes, if the file system has any.

Some network and cluster file systems have none: flock fails there with ENOSYS, ENOLCK or another number. A
command then goes on without a lock and says so.
"""

import errno
import fcntl

_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}  # numbers of a lock that another process holds


def lock(file: int, *, wait: bool = False) -> bool:
    """Locks an open file or folder until it is closed. Returns False if the file system has no locks.

    Raises BlockingIOError if another process holds the lock. With `wait`, waits for its end instead."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            raise BlockingIOError(error.errno, error.strerror) from None
        return False
    return True


def note(place: str) -> str:
    """Returns the sentence about a place without locks."""
    return (
        f"note: the file system of {place} has no locks; start no second command there before this one ends"
    )
