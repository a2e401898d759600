"""Whether a process that wrote its number down is still there: numbers are used again, after a restart the very same.

A *birth mark* tells a process from every other one of its number: the start of the machine, the space the number is
valid in (a container has its own) and the tick the process began at. Linux tells them; elsewhere a number is all.
"""

import os
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_SPACE = Path("/proc/self/ns/pid")
_STATE, _STARTED = 0, 19
_DEAD = ("Z", "X")


def birth_mark(pid: int) -> str | None:
    """The birth mark of a living process of this machine and container; None where the system does not tell."""
    try:
        space = f"{_BOOT.read_text().strip()}/{_SPACE.readlink()}"
        # proc(5): the fields after the name, which is in brackets and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[_STATE] in _DEAD else f"{space}/{fields[_STARTED]}"


def is_gone(pid: int, mark: str | None) -> bool:
    """Whether it is certain that the process has ended.

    Args:
        pid: Its number on this machine.
        mark: Its birth mark as it was noted; None where the system did not tell.
    """
    own = birth_mark(os.getpid())
    if mark is not None and own is not None:
        # In another container of the same name, or before the machine's restart, a number means nothing here.
        return _space(mark) == _space(own) and birth_mark(pid) != mark
    return not _has_number(pid)


def is_there(pid: int, mark: str | None) -> bool:
    """Whether it is certain that the process still lives: the very one, not another of its number."""
    return mark is not None and birth_mark(pid) == mark


def _space(mark: str) -> str:
    return mark.rpartition("/")[0]


def _has_number(pid: int) -> bool:
    if os.name == "nt":
        # There, signal 0 is no question but Ctrl-C.
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
