"""Ctrl-C on the flow, as a terminal sends it to every process of the group; SIGTERM, as a service gets it, to one."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from prefect_processes import ROOT

from igh_sync_core.errors import Interrupted
from igh_sync_core.sandbox import Fault, Server

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("ending", "send"), [(signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill)], ids=["Ctrl-C", "SIGTERM"]
)
def test_it_ends_soon_and_gives_the_database_back_though_its_temporary_server_hears_it_too(
    dataverse: Server, tmp_path: Path, ending: signal.Signals, send: Callable[[int, int], None]
) -> None:
    dataverse.sandbox.latency_s = 0.3
    with started(tmp_path) as process:
        assert process.stdout
        seen = []
        for line in process.stdout:
            seen.append(line)
            if " added, " in line:
                break
        send(process.pid, ending)
        rest, _ = process.communicate(timeout=30)  # until the temporary server, too, has closed its end

    text = "".join(seen) + rest
    assert process.returncode == 130, text
    assert str(Interrupted()) in text
    assert "Traceback" not in text
    assert "another run" not in text
    assert process_group_is_gone(process.pid)
    with closing(sqlite3.connect(os.environ["SQLITE_DB_PATH"])) as conn:
        assert conn.execute("SELECT count(*) FROM _sync_lock").fetchone() == (0,)
        [(begun,)] = conn.execute("SELECT count(*) FROM _sync_log").fetchall()
    assert begun < 26


def test_it_ends_soon_though_the_source_wants_rest_at_the_login(dataverse: Server, tmp_path: Path) -> None:
    dataverse.sandbox.faults.add(Fault(kind="status", match="organizations", times=50, retry_after_s=200))
    with started(tmp_path) as process:
        deadline = time.monotonic() + 60
        while not any(entry.status == 503 for entry in dataverse.sandbox.log):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(1)
        os.killpg(process.pid, signal.SIGINT)
        text, _ = process.communicate(timeout=30)

    assert process.returncode == 130, text
    assert str(Interrupted()) in text
    assert "Traceback" not in text
    assert process_group_is_gone(process.pid)


@contextmanager
def started(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The flow's command in a process group of its own, without a Prefect server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    own = {"PREFECT_HOME": str(folder / "home"), "DO_NOT_TRACK": "1", "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "flows.sync_dataverse"]
    with subprocess.Popen(  # noqa: S603 - ours
        command,
        cwd=folder,
        env=kept | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the temporary server, too, which heeds no milder one of ours


def process_group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False
