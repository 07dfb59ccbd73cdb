import resource

import numpy as np

from synth.allocator import keep_memory

MB = 1 << 20


def page_faults(times: int, arrays: int, size: int) -> int:
    """Returns the page faults of making and dropping `arrays` arrays of a size in bytes, `times` times."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        [np.ones(size, np.uint8) for _ in range(arrays)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_freed_memory_is_used_again() -> None:
    keep_memory()
    page_faults(100, 1, MB)
    assert page_faults(100, 1, MB) < 1000  # of 25,600


def test_a_process_that_trains_keeps_all_memory_also_after_a_call_with_a_limit() -> None:
    keep_memory(unlimited=True)
    keep_memory()
    for arrays, size in ((16, 8 * MB), (4, 40 * MB)):
        page_faults(1, arrays, size)
        assert page_faults(2, arrays, size) < 3000  # of 65,536 and 81,920
