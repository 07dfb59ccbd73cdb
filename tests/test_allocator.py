import resource

import numpy as np

from synth.allocator import keep_memory


def page_faults() -> int:
    """Returns the page faults of making and dropping 100 arrays of a megabyte (256 pages)."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        np.ones(1 << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_freed_memory_is_used_again() -> None:
    keep_memory()
    page_faults()
    assert page_faults() < 1000  # of 25,600
