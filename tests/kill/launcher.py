"""Starts ``sync-dataverse`` in processes of its own and kills them, as quickly as a machine can.

A process of its own, which reads orders from its standard input: one JSON object per line with ``argv``,
``environment`` and ``kill_after_s`` (null lets it end by itself); answers each with ``code`` (negative: the signal)
and ``seconds``. The program is imported once, so that a kill costs no second of imports.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from igh_sync_core.cli import sync_dataverse

POLL_S = 0.002


def main() -> None:
    """Obey orders until the input ends."""
    for line in sys.stdin:
        print(json.dumps(obey(json.loads(line))), flush=True)  # noqa: T201 - the answer is the protocol


def obey(order: dict[str, Any]) -> dict[str, float]:
    """Start, perhaps kill, and bury one process."""
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        become_sync(order)
    deadline = float("inf") if order["kill_after_s"] is None else started + order["kill_after_s"]
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
            ended = os.waitpid(pid, 0)
            break
        time.sleep(POLL_S)
    return {"code": os.waitstatus_to_exitcode(ended[1]), "seconds": time.monotonic() - started}


def become_sync(order: dict[str, Any]) -> None:
    """In the child: be the command and nothing else; never returns."""
    code = 1
    try:
        os.environ.update(order["environment"])
        with Path(order["output"]).open("w") as output:
            for stream in (sys.stdout, sys.stderr):
                os.dup2(output.fileno(), stream.fileno())
        code = sync_dataverse(order["argv"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
