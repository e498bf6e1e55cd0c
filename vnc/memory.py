"""The allocator's habits, set for work that makes and drops large tensors all the time.

glibc gives freed memory back to the system eagerly, and the system hands it out again page by page, zeroed. A forward
pass on the CPU makes temporaries of megabytes in every layer; touching their fresh pages cost more than a third of the
pass: the same scoring ran 1.5 times as fast without (docs/LOG.md, 2026-11-25).
"""

from __future__ import annotations

import ctypes
import sys

# mallopt's parameters (malloc.h) and values: blocks up to this size come from the heap, whose free end is kept up to
# that size. 32 MiB is the most that glibc takes for the first.
SETTINGS = ((-3, 32 * 2**20), (-1, 2**30))  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD


def keep_freed_memory() -> bool:
    """Let this process reuse freed memory instead of returning it, up to 1 GiB. Returns whether that was possible: it
    needs glibc. Memory that is in use is not touched, and results are the same bits."""
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return all(mallopt(parameter, value) for parameter, value in SETTINGS)
