"""Processes that the benchmark starts: contestants, the local Dataverse, a Prefect server. Each ends with its block."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
START_LIMIT_S = 120.0
STOP_LIMIT_S = 15.0
LOG_TAIL = 2_000
FOREIGN = ("DATAVERSE_", "SQLITE_DB_PATH", "POSTGRES_", "PREFECT_")


class Line:
    """A process that answers each line of text with a line of JSON.

    Args:
        process: Started with both pipes.
        log: Where it complains.
    """

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log
        self._times = Path(f"/proc/{process.pid}/stat")

    def ask(self, text: str) -> dict[str, Any]:
        """Send a line and wait for the answer.

        Raises:
            RuntimeError: The process ended without one; tells what it complained about last.
        """
        if self._process.stdin:
            with suppress(BrokenPipeError):
                self._process.stdin.write(text + "\n")
                self._process.stdin.flush()
        return self.hear()

    def hear(self) -> dict[str, Any]:
        """Wait for a line.

        Raises:
            RuntimeError: As ``ask``.
        """
        answer = self._process.stdout.readline() if self._process.stdout else ""
        if not answer:
            raise RuntimeError(self._log.read_text(errors="replace")[-LOG_TAIL:].strip() or "it ended without a word")
        found: dict[str, Any] = json.loads(answer)
        return found

    def cpu_s(self) -> float:
        """Processor time of the process so far; 0 where Linux does not tell."""
        if not self._times.exists():
            return 0.0
        after_name = self._times.read_text().rpartition(")")[2].split()
        return sum(map(int, after_name[11:13])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(command: Sequence[str], log: Path, settings: Mapping[str, str]) -> Iterator[Line]:
    """A process with a line to it, ended with the block in whatever way it must.

    Args:
        command: What to run; not in the checkout, whose ``.env`` is no contestant's.
        log: Takes what it prints to stderr.
        settings: Its environment beyond that of this process, whose own settings of the program are left out.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    kept["PYTHONPATH"] = str(ROOT)
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stderr=errors, cwd=log.parent, env={**kept, **settings}, **pipes)  # noqa: S603 - ours
    with process:
        try:
            yield Line(process, log)
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_LIMIT_S)
            process.kill()


class Dataverse:
    """A local Dataverse in a process of its own, and its control door.

    Attributes:
        settings: What the program needs to find it.

    Args:
        line: To its process, which is about to announce itself.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self.settings: dict[str, str] = line.hear()
        trust = httpx.create_ssl_context(verify=self.settings["DATAVERSE_CA_FILE"])
        self._changes = 0
        self._door = httpx.Client(verify=trust, base_url=self.settings["DATAVERSE_API_URL"], timeout=600)

    def change(self, *, changed: float, deleted: float) -> dict[str, int]:
        """Change and delete shares of the rows of each table, others each time; tells how many."""
        self._changes += 1
        wish = {"changed": changed, "deleted": deleted, "seed": self._changes}
        reply = self._door.post("/sandbox/change", json=wish)
        done: dict[str, int] = reply.raise_for_status().json()
        return done

    def counters(self) -> tuple[int, int, float]:
        """So far: requests that arrived, bytes that were sent, processor time in seconds."""
        found = self._door.get("/sandbox/requests").raise_for_status().json()
        return found["requests"], found["bytes"], self._line.cpu_s()

    def close(self) -> None:
        """Close the control door."""
        self._door.close()


@contextmanager
def dataverse(rows: int, *, latency_ms: float, folder: Path) -> Iterator[Dataverse]:
    """A fresh local Dataverse; the same number of rows is always the same rows."""
    wishes = ["--rows", str(rows), "--latency-ms", str(latency_ms), "--json"]
    command = [sys.executable, "-m", "igh_sync_core.sandbox.cli", *wishes]
    with running(command, folder / "dataverse.log", {}) as line:
        source = Dataverse(line)
        try:
            yield source
        finally:
            source.close()


@contextmanager
def prefect_server(folder: Path) -> Iterator[dict[str, str]]:
    """A Prefect server with a database of its own; gives the settings of those who use it.

    Raises:
        RuntimeError: It does not answer in time.
    """
    folder.mkdir()
    port = _free_port()
    own = {
        "PREFECT_HOME": str(folder),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port), "--log-level", "ERROR"]
    with running(command, folder / "server.log", own):
        _await_health(own["PREFECT_API_URL"])
        yield own


def _await_health(api_url: str) -> None:
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end:
        with suppress(httpx.TransportError):
            if httpx.get(f"{api_url}/health").is_success:
                return
        time.sleep(0.2)
    msg = f"no Prefect server at {api_url}"
    raise RuntimeError(msg)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
