"""The memory of the process, as this program uses it: many threads, pages of megabytes, hardly a reference cycle.

glibc gives each thread a part of memory of its own (an "arena") and takes nothing back from it for other threads. With
a page of two megabytes under way in each of a dozen threads, most of what the process holds would be such leftovers.
Blocks as large as a page go back to the system at once, as long as the limit for that is not left to glibc.
Source: https://man7.org/linux/man-pages/man3/mallopt.3.html

Python looks for reference cycles whenever some hundreds more objects were made than freed, and every so often through
everything there is. A page is tens of thousands of objects that cycles have no part in.
Source: https://docs.python.org/3/library/gc.html#gc.set_threshold
"""

import ctypes
import gc
import platform
from functools import cache

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_ARENAS = 2
_BLOCK_BYTES = 256 * 1024
_OBJECTS_BETWEEN_LOOKS = 20_000


@cache
def settle() -> None:
    """Let threads started from now on share two arenas, on glibc, and look for reference cycles more rarely.

    Python's own lock lets one thread at a time allocate anyway, so it costs no time. Once per process is enough, and
    the earlier the better: arenas that there are already stay. A process that looks for cycles as rarely already, or
    not at all, goes on so.
    """
    if glibc := _glibc():
        glibc.mallopt(_M_ARENA_MAX, _ARENAS)
        glibc.mallopt(_M_MMAP_THRESHOLD, _BLOCK_BYTES)
    young, *older = gc.get_threshold()
    if 0 < young < _OBJECTS_BETWEEN_LOOKS:
        gc.set_threshold(_OBJECTS_BETWEEN_LOOKS, *older)


def give_back() -> None:
    """Let the system have the memory that nothing is left in, on glibc, which keeps most of it for later otherwise.

    What is freed lies in gaps between what is still in use, and the next run's pages do not all fit into them: a
    process that copies again and again would hold more each time. Takes a millisecond.

    Source: https://man7.org/linux/man-pages/man3/malloc_trim.3.html
    """
    if glibc := _glibc():
        glibc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
