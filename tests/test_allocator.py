import resource

import numpy as np

from synth.allocator import keep_memory


def page_faults(times: int, arrays: int, size: int) -> int:
    """Returns the page faults of making and dropping some arrays of a size in bytes, so many times."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        [np.ones(size, np.uint8) for _ in range(arrays)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_freed_memory_is_used_again() -> None:
    keep_memory()
    page_faults(100, 1, 1 << 20)
    assert page_faults(100, 1, 1 << 20) < 1000  # of 25,600


def test_the_memory_of_a_training_step_is_used_again() -> None:
    keep_memory(all_of_it=True)
    page_faults(1, 16, 8 << 20)
    assert page_faults(2, 16, 8 << 20) < 3000  # of 65,536
