"""The contestant's end of the line to the benchmark: a workload's name comes in, what it took goes out.

Standard library only, since one contestant lives in a virtual environment of its own.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

_STATUS = Path("/proc/self/status")


def serve(act: Callable[[str], dict[str, int]]) -> None:
    """Do what the benchmark asks, until it closes the line.

    Args:
        act: Does one workload and gives what it counted, ``rows`` among it; called with the workload's name. It must
            be made of nothing but imported modules, since memory is measured from here on.
    """
    line = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what others print shall not come between
    base_mb = peak_mb()
    _say(line.write, {"base_mb": base_mb})
    for workload in sys.stdin:
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        counts = act(workload.strip())
        spent = {"seconds": time.perf_counter() - started_s, "cpu_s": time.process_time() - started_cpu_s}
        _say(line.write, {**spent, "peak_mb": peak_mb() - base_mb, "counts": counts})


def peak_mb() -> float:
    """Most memory this process ever held, in MB (10^6 bytes).

    Linux hands ``ru_maxrss`` on from the parent that starts a process, so the process's own mark is read where it can.
    """
    if _STATUS.exists():
        words = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")).split()
        return int(words[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _say(write: Callable[[str], object], message: dict[str, object]) -> None:
    write(json.dumps(message) + "\n")
