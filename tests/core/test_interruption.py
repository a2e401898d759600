"""A run that is ended from outside ends soon, gives the database back, and the next one completes it."""

import asyncio
import gc
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from copies import config_of

from igh_sync_core import run_sync
from igh_sync_core.cli import sync_dataverse
from igh_sync_core.cli.common import run_command
from igh_sync_core.config import Config
from igh_sync_core.config.entities import load_entity_configs
from igh_sync_core.errors import Interrupted, StoreError
from igh_sync_core.metadata.discovery import fetch
from igh_sync_core.model import LogicalName
from igh_sync_core.sandbox import Server, health_organisation, serve
from igh_sync_core.schema.ddl import create_control_tables
from igh_sync_core.store.database import Database
from igh_sync_core.store.lock import exclusive_run, fence
from igh_sync_core.sync.options import Options
from igh_sync_core.webapi.client import Client
from igh_sync_core.webapi.interruption import Interruption
from igh_sync_core.workflow import run_workflow

SOON_S = 10
LATENCY_S = 1.0
AT_ONCE = 8
LOG_EXISTS = "SELECT 1 FROM sqlite_master WHERE name = '_sync_log'"
ENTITIES = [entity for entity in load_entity_configs() if not entity.filtered]


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(health_organisation(2_000)) as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "copy.db"


@pytest.fixture
def config(server: Server, path: Path) -> Config:
    return config_of(server, path)


def ask(path: Path, query: str) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(path)) as conn:
        return conn.execute(query).fetchall()


def states(path: Path) -> dict[str, str]:
    return dict(ask(path, "SELECT entity_name, status FROM _sync_log ORDER BY id"))  # type: ignore[arg-type]  # pairs


def until_something_is_complete(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not (path.exists() and ask(path, LOG_EXISTS) and completed(path)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def until_given_back(path: Path) -> None:
    deadline = time.monotonic() + 60
    while ask(path, "SELECT count(*) FROM _sync_lock") != [(0,)]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def completed(path: Path) -> list[str]:
    return [name for name, status in states(path).items() if status == "completed"]


def test_an_interrupt_of_the_calling_thread_ends_every_table_and_begins_no_more(
    config: Config, server: Server, path: Path
) -> None:
    """Who waits for a reply waits no longer, and asks for nothing more."""
    pages = iter(range(4))
    main = threading.main_thread()

    def listen(_progress: object) -> None:
        if next(pages, None) == 3 and main.ident:
            server.sandbox.latency_s = LATENCY_S
            signal.pthread_kill(main.ident, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_workflow(config, ENTITIES, Options(concurrency=2, listener=listen))

    assert 0 < len(completed(path)) < len(ENTITIES) / 2
    assert ask(path, "SELECT count(*) FROM _sync_lock") == [(0,)]
    told = ask(path, "SELECT DISTINCT error_message FROM _sync_log WHERE status = 'failed'")
    assert told == [(str(Interrupted()),)]


def test_a_cancelled_run_sync_ends_and_the_next_one_completes_what_it_left(
    config: Config, server: Server, path: Path
) -> None:
    async def impatient() -> None:
        work = asyncio.ensure_future(run_sync(config, ENTITIES))
        await asyncio.to_thread(until_something_is_complete, path)
        server.sandbox.latency_s = LATENCY_S
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(impatient())

    assert ask(path, "SELECT count(*) FROM _sync_lock") == [(0,)]
    assert len(completed(path)) < len(ENTITIES)

    server.sandbox.latency_s = 0.0
    assert asyncio.run(run_sync(config, ENTITIES))
    assert len(completed(path)) == len(ENTITIES)
    for entity in ENTITIES:
        rows = ask(path, f"SELECT 1 FROM {entity.api_name} WHERE valid_to IS NULL")  # noqa: S608 - a name of ours
        assert len(rows) == len(server.organisation.keys(LogicalName(entity.name))), entity.name


def test_each_thing_is_said_once_and_no_thread_stays(config: Config, server: Server, path: Path) -> None:
    """Records of a thread that went on went to the logger and, through the core's own, to the root as well."""
    heard: list[str] = []

    class Ears(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    async def impatient() -> None:
        work = asyncio.ensure_future(run_sync(config, ENTITIES, logger=own))
        await asyncio.to_thread(until_something_is_complete, path)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    ears, root, own = Ears(), logging.getLogger(), logging.getLogger("tests.timeout")
    own.setLevel(logging.INFO)
    root.addHandler(ears)
    server.sandbox.latency_s = 0.1
    try:
        asyncio.run(impatient())
    finally:
        root.removeHandler(ears)

    assert heard
    assert len(heard) == len(set(heard))
    assert not [one for one in threading.enumerate() if one.name.startswith(("sync", "related", "next-page", "ids"))]


def test_who_cancels_twice_does_not_wait_and_hears_no_complaint_later(
    config: Config, server: Server, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complaints: list[object] = []
    end = Interruption.set
    # It ends in a moment, unless something holds it up.
    monkeypatch.setattr(Interruption, "set", lambda self: threading.Timer(LATENCY_S, end, [self]).start())

    async def very_impatient() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, about: complaints.append(about))
        work = asyncio.ensure_future(run_sync(config, ENTITIES))
        await asyncio.to_thread(until_something_is_complete, path)
        server.sandbox.latency_s = 2 * LATENCY_S
        await asyncio.sleep(0.3)
        for _ in range(2):
            work.cancel()
            await asyncio.sleep(0.05)
        assert work.cancelled()
        assert ask(path, "SELECT count(*) FROM _sync_lock") == [(1,)]
        await asyncio.to_thread(until_given_back, path)
        await asyncio.sleep(0.2)

    asyncio.run(very_impatient())
    gc.collect()

    assert complaints == []


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_in_the_midst_of_a_tier(server: Server, path: Path, ending: signal.Signals) -> None:
    server.sandbox.latency_s = 0.3
    environment = os.environ | server.environment() | {"SQLITE_DB_PATH": str(path)}
    command = [sys.executable, "-c", "import sys; from igh_sync_core.cli import sync_dataverse as run; sys.exit(run())"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - ours
        try:
            assert process.stderr
            for line in process.stderr:
                if " added, " in line:
                    break
            process.send_signal(ending)
            *_, last = process.stderr
            assert process.wait(SOON_S) == 130
        finally:
            process.kill()

    assert last.strip() == str(Interrupted())
    assert len(completed(path)) < len(ENTITIES) / 2
    assert ask(path, "SELECT count(*) FROM _sync_lock") == [(0,)]


def test_whoever_has_said_what_a_termination_does_is_heeded() -> None:
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: told.append(number))
    try:
        status = run_command(lambda: signal.raise_signal(signal.SIGTERM) or 0)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert (status, told) == (0, [signal.SIGTERM])


@pytest.mark.parametrize("question", ["plan", "doctor"])
def test_an_interrupted_question_ends_soon_and_speaks_of_nothing_stored(
    question: str, server: Server, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (server.environment() | {"SQLITE_DB_PATH": str(path)}).items():
        monkeypatch.setenv(name, value)
    server.sandbox.latency_s = LATENCY_S
    main = threading.main_thread().ident
    asked: list[int] = []

    def interrupt() -> None:
        deadline = time.monotonic() + 60
        while len(server.sandbox.log) < 8:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        asked.append(len(server.sandbox.log))
        signal.pthread_kill(main or 0, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    status = sync_dataverse([question])

    assert (status, capsys.readouterr().err.splitlines()[-1]) == (130, "interrupted")
    assert len(server.sandbox.log) <= asked[0] + AT_ONCE


def test_an_interrupt_while_tables_are_still_handed_out_ends_the_questions_about_their_metadata(
    config: Config, server: Server
) -> None:
    def names() -> Iterator[LogicalName]:
        yield from (LogicalName(entity.name) for entity in ENTITIES)
        server.sandbox.latency_s = LATENCY_S
        raise KeyboardInterrupt

    with Client(config) as client:
        with pytest.raises(KeyboardInterrupt):
            fetch(client, names(), with_lengths=True)
        asked = len(server.sandbox.log)
        assert client.is_interrupted
    assert asked < len(ENTITIES)


def test_a_task_that_outlives_its_run_is_told_that_it_ended(path: Path) -> None:
    database = Database(Config("https://org.crm.dynamics.com", "", "", "", str(path)))
    create_control_tables(database)
    with exclusive_run(database, "mine"):
        pass
    with (
        pytest.raises(StoreError, match="run mine has ended or was interrupted; nothing more is written"),
        database.writing() as conn,
    ):
        fence(conn, "mine")


def test_events_asked_for_before_and_after_are_set_and_none_else() -> None:
    interruption, other = Interruption(), Interruption()
    before, own = interruption.event(), interruption.event()
    own.set()
    assert not before.is_set()
    interruption.set()

    assert before.is_set()
    assert interruption.event().is_set()
    assert not other.event().is_set()
