"""Processes that the tests of the flow start: how, with what environment, and that they surely end."""

import contextlib
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
START_LIMIT_S = 90


@dataclass(frozen=True)
class PrefectServer:
    """A server process of its own.

    Attributes:
        api_url: Where its clients find it.
        home: Its database and its storage.
    """

    api_url: str
    home: Path

    def environment(self, **more: str) -> dict[str, str]:
        """For processes that use it, with no other Prefect setting of this machine."""
        own = {
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": self.api_url,
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "NO_COLOR": "1",
            "COLUMNS": "200",
            "PYTHONPATH": str(ROOT),
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        return kept | own | more


@contextlib.contextmanager
def running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block, in whatever way it must; not in the checkout, whose ``.env`` is no test's."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd=log.parent, stdout=output, stderr=output)  # noqa: S603 - ours
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def prefect_command(*arguments: str) -> list[str]:
    """How a ``prefect`` command is started, whatever the path says."""
    return [sys.executable, "-m", "prefect", *arguments]


def run_prefect(environment: dict[str, str], *arguments: str, status: int = 0) -> str:
    """Run a ``prefect`` command in the checkout; gives what it printed."""
    done = subprocess.run(  # noqa: S603 - our own command
        prefect_command(*arguments), env=environment, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def copy_database(source: Path, target: Path) -> None:
    """Copy a database that may be in use."""
    with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(target)) as new:
        old.backup(new)


def wait_for(claim: Callable[[], object], limit_s: float = 180) -> None:
    """Wait until *claim* holds."""
    end = time.monotonic() + limit_s
    while not claim():
        if time.monotonic() > end:
            pytest.fail("it never came to that")
        time.sleep(0.1)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def await_health(api_url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{api_url}/health").is_success:
                return
        time.sleep(0.1)
    pytest.fail(f"no Prefect server at {api_url}")
