"""SQLite's log moves into the file beside those who write; without that nothing is lost."""

import contextlib
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from igh_sync_core.config import Config
from igh_sync_core.store import log_mover
from igh_sync_core.store.database import Database

BYTES_A_ROW, ROWS_AT_ONCE = 1_000, 500


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "copy.db"


@pytest.fixture
def database(path: Path) -> Database:
    return made(path)


def made(path: Path) -> Database:
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


def test_a_link_to_the_file_is_as_good_as_its_name(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path = tmp_path / "link.db"
    path.symlink_to(tmp_path / "real" / "copy.db")
    database = made(path)
    with database.keeping_connections():
        write(database, 8)
        until_moved(path, 8_000_000)

    assert rows(path) == 8_000


def test_readers_hold_nothing_up(database: Database, path: Path) -> None:
    """What a reader still looks at stays in the log; it is moved after the first commit without the reader."""
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
    monkeypatch.setattr(log_mover, "_MOVE", "PRAGMA wal_checkpoint(PASSIVE) nonsense")
    ended: list[threading.Thread] = []
    with database.keeping_connections():
        write(database, 8)
        ended += movers()
        for thread in ended:
            thread.join()
        write(database, 32)
        assert not movers()

    assert rows(path) == 40_000
    assert not Path(f"{path}-wal").exists()


def test_where_no_thread_can_start_commits_go_on_without(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[threading.Thread] = []

    def refuse(thread: threading.Thread) -> None:
        tried.append(thread)
        message = "can't start new thread"
        raise RuntimeError(message)

    with database.keeping_connections():
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            write(database, 8)
        assert len(tried) == 1

    assert rows(path) == 8_000
    assert not Path(f"{path}-wal").exists()


def test_connections_are_closed_though_the_wait_for_the_mover_is_interrupted(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_self: log_mover.LogMover) -> None:
        raise KeyboardInterrupt

    def work() -> None:
        with database.keeping_connections():
            write(database, 1)

    monkeypatch.setattr(log_mover.LogMover, "close", interrupt)
    with pytest.raises(KeyboardInterrupt):
        work()

    assert not Path(f"{path}-wal").exists()


def test_without_a_mover_commits_move_the_log_once_it_is_large(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_mover.LogMover, "note_commit", lambda _self: None)
    with database.keeping_connections():
        write(database, 80)
        assert 25_000_000 < Path(f"{path}-wal").stat().st_size < 45_000_000
        assert path.stat().st_size > 30_000_000

    assert rows(path) == 80_000


def test_a_slow_mover_leaves_the_log_to_commits_before_it_grows_without_bound(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it moves pages no commit may; it must not be at it all the time."""
    move = log_mover.move

    def move_slowly(conn: Connection) -> int:
        with contextlib.closing(sqlite3.connect(path)) as other:
            # A read transaction at this place of the log: what is committed meanwhile stays in it, as on a slow disk.
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM t").fetchone()
            time.sleep(0.3)
            return move(conn)

    monkeypatch.setattr(log_mover, "move", move_slowly)
    with database.keeping_connections():
        for _ in range(60):
            write(database, 2)
            time.sleep(0.02)
        assert Path(f"{path}-wal").stat().st_size < 70_000_000

    assert rows(path) == 120_000


class LateNews(threading.Event):
    """News that are taken at the very instant in which the end is told."""

    def __init__(self) -> None:
        super().__init__()
        self.mover: log_mover.LogMover | None = None
        self.closer = threading.Thread(target=lambda: self.mover and self.mover.close(), daemon=True)
        self.is_told = threading.Event()

    def set(self) -> None:
        super().set()
        if threading.current_thread() is self.closer:
            self.is_told.set()

    def clear(self) -> None:
        if self.mover and self.closer.ident is None:
            self.closer.start()
            assert self.is_told.wait(30)
        super().clear()


@pytest.mark.parametrize("takes_before", [0, 1])
def test_an_end_that_comes_while_news_are_taken_is_not_waited_for_for_ever(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch, takes_before: int
) -> None:
    """Before a move news are taken once, and after one that found a large log once more."""
    news = LateNews()
    moved = threading.Event()

    def move(_conn: Connection) -> int:
        if takes_before:
            news.mover = mover
        moved.set()
        return log_mover.LOG_PAGES

    monkeypatch.setattr(log_mover, "move", move)
    monkeypatch.setattr(log_mover, "_WORTHWHILE_BYTES", 0)
    write(database, 1)
    events = iter([news, threading.Event()])
    monkeypatch.setattr(log_mover, "Event", lambda: next(events))
    mover = log_mover.LogMover(path, database.connection)
    if not takes_before:
        news.mover = mover
    path.with_name("copy.db-wal").touch()
    mover.note_commit()

    assert news.is_told.wait(30)
    news.closer.join(10)
    assert not news.closer.is_alive()
    assert moved.is_set() == bool(takes_before)
