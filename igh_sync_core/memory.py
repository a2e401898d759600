"""The C library's memory, kept from growing with the number of threads.

glibc gives each thread a part of memory of its own (an "arena") and takes nothing back from it for other threads. With
a page of two megabytes under way in each of a dozen threads, most of what the process holds would be such leftovers.
Source: https://man7.org/linux/man-pages/man3/mallopt.3.html
"""

import ctypes
import platform
from functools import cache

_M_ARENA_MAX = -8
_ARENAS = 2


@cache
def share_between_threads() -> None:
    """Let threads of this process started from now on share two arenas; elsewhere than on glibc do nothing.

    Python's own lock lets one thread at a time allocate anyway, so it costs no time. Once per process is enough, and
    the earlier the better: arenas that there are already stay.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)
