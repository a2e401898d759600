"""SQLite's log moves into the file beside those who write; without that nothing is lost."""

import contextlib
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from igh_sync_core import driver, log_mover
from igh_sync_core.config import Config
from igh_sync_core.database import Database

BYTES_A_ROW, ROWS_AT_ONCE = 1_000, 500


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "copy.db"


@pytest.fixture
def database(path: Path) -> Database:
    database = Database(Config("https://org.crm.dynamics.com", "", "", "", sqlite_db_path=str(path)))
    with database.writing() as conn:
        conn.execute(text("CREATE TABLE t (x TEXT)"))
    return database


def write(database: Database, megabytes: int) -> None:
    """In transactions of half a megabyte."""
    for _ in range(megabytes * 1_000_000 // (BYTES_A_ROW * ROWS_AT_ONCE)):
        with database.writing() as conn:
            conn.execute(text("INSERT INTO t VALUES (:x)"), [{"x": "x" * BYTES_A_ROW}] * ROWS_AT_ONCE)


def rows(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as reader:
        return int(reader.execute("SELECT count(*) FROM t").fetchone()[0])


def movers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "log-mover"]


def until_moved(path: Path, size: int) -> None:
    """Wait until the file itself, without its log, has grown so large."""
    deadline = time.monotonic() + 30
    while path.stat().st_size < size:
        assert time.monotonic() < deadline, "not moved"
        time.sleep(0.01)


def test_what_is_committed_reaches_the_file_while_connections_are_kept(database: Database, path: Path) -> None:
    with database.keeping_connections():
        write(database, 8)
        assert len(movers()) == 1
        until_moved(path, 8_000_000)
        assert Path(f"{path}-wal").exists()

    assert not movers()
    assert not Path(f"{path}-wal").exists()
    assert rows(path) == 8_000


def test_a_run_that_writes_little_has_no_thread_for_it(database: Database, path: Path) -> None:
    with database.keeping_connections():
        write(database, 2)
        assert not movers()

    assert rows(path) == 2_000


def test_readers_hold_nothing_up(database: Database, path: Path) -> None:
    """What a reader still looks at stays in the log; it is moved when the reader is gone."""
    with database.keeping_connections():
        write(database, 1)
        with database.reading() as conn:
            conn.execute(text("SELECT count(*) FROM t")).scalar_one()
            write(database, 8)
            assert conn.execute(text("SELECT count(*) FROM t")).scalar_one() == 1_000
        write(database, 1)
        until_moved(path, 10_000_000)

    assert rows(path) == 10_000


def test_a_move_that_fails_loses_nothing_and_stops_nobody(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[str] = []
    execute = driver.execute

    def refuse(conn: object, statement: str) -> None:
        if "checkpoint" in statement:
            failed.append(statement)
            statement = "PRAGMA wal_checkpoint(PASSIVE) nonsense"
        execute(conn, statement)  # type: ignore[arg-type]

    monkeypatch.setattr(log_mover.driver, "execute", refuse)
    with database.keeping_connections():
        write(database, 40)

    assert len(failed) == 1
    assert rows(path) == 40_000
    assert not Path(f"{path}-wal").exists()


def test_commits_move_it_where_the_mover_falls_behind(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_mover.LogMover, "note_commit", lambda _self: None)
    with database.keeping_connections():
        write(database, 80)
        assert Path(f"{path}-wal").stat().st_size < 45_000_000
        assert path.stat().st_size > 30_000_000

    assert rows(path) == 80_000
