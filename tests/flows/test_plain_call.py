"""The flow as a plain function, in a process without a server: clean, complete, and safe to kill."""

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings
from prefect_processes import ROOT, PrefectServer, copy_database, running, wait_for

from flows.server import ServerUnreachable
from flows.standalone import LIBRARIES_LEVEL, quiet_server
from igh_sync_core.sandbox import Server

pytestmark = pytest.mark.e2e
CALL = "from flows.sync_dataverse import sync_dataverse; print(len(sync_dataverse().entities))"


@pytest.fixture
def alone(template: Path, prefect_server: PrefectServer, tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has no server; the session's one has made the template by now."""
    home = tmp_path / "home"
    home.mkdir()
    copy_database(template, home / "prefect.db")
    environment = prefect_server.environment(PREFECT_HOME=str(home))
    for name in ("PREFECT_API_URL", "PREFECT_SERVER_ANALYTICS_ENABLED"):
        del environment[name]
    return environment


def task_run_states(home: Path) -> dict[str, str]:
    with closing(sqlite3.connect(home / "prefect.db")) as conn:
        return dict(conn.execute("SELECT name, state_name FROM task_run"))


@pytest.mark.usefixtures("dataverse")
def test_a_plain_call_is_clean_from_any_folder_and_loses_no_record(alone: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", CALL], env=alone, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )

    states = task_run_states(tmp_path / "home")
    noise = [line for line in done.stderr.splitlines() if "| INFO" not in line and "prefect.io" not in line]
    assert (done.returncode, done.stdout) == (0, "26\n")
    assert [line for line in noise if line] == []
    assert len(states) == 25  # login, schema, 22 entities, the related ones together
    assert set(states.values()) == {"Completed"}


@pytest.mark.usefixtures("dataverse")
def test_the_command_tells_a_wrong_setting_in_one_line(alone: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flows.sync_dataverse", "--entities", "vin_nothing"]
    done = subprocess.run(command, env=alone, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603 - our own command

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.count("not in the package's own entities file: vin_nothing") >= 1
    assert not (tmp_path / "copy.db").exists()


@pytest.mark.usefixtures("dataverse")
def test_a_temporary_server_may_take_its_time(alone: dict[str, str], tmp_path: Path) -> None:
    """The first one of a home makes its database, which on a busy machine takes longer than Prefect waits for it."""
    hasty = alone | {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "1"}
    command = [sys.executable, "-m", "flows.sync_dataverse", "--save-blocks", "mine"]
    done = subprocess.run(command, env=hasty, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603 - our own command

    assert (done.returncode, done.stdout) == (0, "saved: dataverse-credentials/mine and sync-database/mine\n")


def test_a_temporary_server_is_not_waited_for_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    home = tmp_path / "file" / "home"
    with (
        temporary_settings({PREFECT_HOME: home}, restore_defaults={PREFECT_API_URL}),
        pytest.raises(ServerUnreachable, match=f"that it can write to, and {home} is none; PREFECT_HOME names another"),
        quiet_server(),
    ):
        pass


def test_a_temporary_server_that_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: object) -> None:
        msg = "Timed out."
        raise RuntimeError(msg)

    monkeypatch.setattr("prefect.server.api.server.SubprocessASGIServer.start", fail)
    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(ServerUnreachable, match=r"did not start \(Timed out\); is .* a folder that can be written to"),
        quiet_server(),
    ):
        pass


def test_what_the_temporary_servers_libraries_say_at_its_sudden_end_is_not_printed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    complaint = "setup_logging(); logging.getLogger('sqlalchemy.pool').error('Exception during reset')"
    code = f"import logging; from prefect.logging.configuration import setup_logging; {complaint}"
    heard: list[str] = []

    def start(_self: object) -> None:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - our own code
        heard.append(done.stderr)

    start(None)
    monkeypatch.setattr("prefect.server.api.server.SubprocessASGIServer.start", start)
    with temporary_settings(restore_defaults={PREFECT_API_URL}), quiet_server():
        pass

    assert ("Exception during reset" in heard[0], heard[1]) == (True, "")
    assert LIBRARIES_LEVEL not in os.environ


@pytest.mark.usefixtures("dataverse")
def test_blocks_are_saved_without_a_word_too_many(alone: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flows.sync_dataverse", "--save-blocks", "mine"]
    done = subprocess.run(command, env=alone, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603 - our own command

    noise = [line for line in done.stderr.splitlines() if "| INFO" not in line and "prefect.io" not in line]
    assert (done.returncode, done.stdout) == (0, "saved: dataverse-credentials/mine and sync-database/mine\n")
    assert [line for line in noise if line] == []


def test_a_killed_run_can_simply_be_run_again(dataverse: Server, prefect_server: PrefectServer, tmp_path: Path) -> None:
    dataverse.sandbox.latency_s = 0.2
    environment = prefect_server.environment()
    with running([sys.executable, "-c", CALL], environment, tmp_path / "log") as first:
        wait_for(lambda: any(one.path.endswith("/vin_sources") for one in dataverse.sandbox.log))
        first.kill()
    dataverse.sandbox.latency_s = 0.0
    time.sleep(0.5)

    again = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", CALL], env=environment, capture_output=True, text=True, timeout=120, check=False
    )

    assert (again.returncode, again.stdout) == (0, "26\n"), again.stderr
    with closing(sqlite3.connect(tmp_path / "copy.db")) as conn:
        for name, table in (("vin_candidate", "vin_candidates"), ("vin_source", "vin_sources")):
            (count,) = conn.execute(f"SELECT count(*) FROM {table} WHERE valid_to IS NULL").fetchone()  # noqa: S608 - a test's own names
            assert count == dataverse.organisation.count(name)


@pytest.mark.usefixtures("prefect_server")
def test_the_demonstration_shows_both_runs_and_a_history(alone: dict[str, str], tmp_path: Path) -> None:
    alone |= {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}  # of no use: all is on here
    command = [sys.executable, "-m", "flows.sync_dataverse", "--sandbox", "--rows", "200"]
    done = subprocess.run(command, env=alone, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603 - our own command

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("vin_candidate ") >= 2
    assert "second generation" in done.stdout
    assert Path(done.stdout.rsplit(" ", 1)[1].strip()).is_file()
    assert ROOT not in Path(done.stdout.rsplit(" ", 1)[1].strip()).parents
