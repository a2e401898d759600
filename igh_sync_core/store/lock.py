"""One run at a time per database, and no longer than its holder lives.

The lock is a row. A holder renews its heartbeat from a thread; it counts as dead when its process is gone (see
``processes``) or its heartbeat stopped. Heartbeats are dated by one clock, the database's. Every transaction of a
run checks that the row is still its own, and on PostgreSQL keeps it so until its end: a holder that was only asleep,
or a task of a dead flow that lives on elsewhere, writes nothing after it was replaced.
"""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Delete, Insert, Select, bindparam, delete, func, inspect, select, text, update

from igh_sync_core.errors import StoreBusy, StoreError
from igh_sync_core.store import processes
from igh_sync_core.store.control import SyncLock
from igh_sync_core.store.database import Database
from igh_sync_core.store.dialect import insert_missing
from igh_sync_core.store.driver import Prepared

HEARTBEAT_S = 15
STALE_AFTER = timedelta(seconds=90)
HUNG_AFTER = timedelta(minutes=30)
_LOCK = SyncLock.metadata.tables["_sync_lock"]
_NAME = "run"
log = logging.getLogger(__name__)


@contextlib.contextmanager
def exclusive_run(database: Database, run_id: str) -> Iterator[None]:
    """Hold the database for one run.

    Args:
        database: Its control tables exist.
        run_id: Becomes the token that :func:`fence` checks.

    Raises:
        StoreBusy: Another run holds it; names the holder and since when.
    """
    _acquire(database, run_id)
    try:
        with _beating(database, run_id):
            yield
    finally:
        _release(database, run_id)


@contextlib.contextmanager
def _beating(database: Database, run_id: str) -> Iterator[None]:
    """Renew the heartbeat until the block ends.

    Raises:
        RuntimeError: The system allows no more threads.
    """
    stop = threading.Event()
    heart = threading.Thread(
        target=copy_context().run, args=(_beat, database, run_id, stop), name="sync-heartbeat", daemon=True
    )
    heart.start()
    try:
        yield
    finally:
        stop.set()
        heart.join()


def fence(conn: Connection, run_id: str) -> None:
    """Refuse to write for a run that no longer holds the database; nobody takes it before this transaction ends.

    Raises:
        StoreError: The lock was taken over by another run, or given back.
    """
    if (holders := _held.rows(conn, None)) != [(run_id,)]:
        why = "lost the database to another run" if holders else "has ended or was interrupted"
        msg = f"run {run_id} {why}; nothing more is written"
        raise StoreError(msg)


@Prepared
def _held(_: None) -> Select[Any]:
    # On PostgreSQL a shared lock on the row: it stops neither other transactions of the run nor its heartbeat, only a
    # takeover. SQLite has one writer, so what was read here holds until the end.
    return select(_LOCK.c.token).where(_LOCK.c.name == _NAME).with_for_update(read=True, key_share=True)


def refuse_if_held(database: Database) -> None:
    """End at once where another run is alive, even while it writes and nobody else may.

    Raises:
        StoreBusy: Another run holds the database; names the holder and since when.
    """
    with database.reading() as conn:
        if not inspect(conn).has_table(str(_LOCK.name)):
            return
        holder = _holder(conn)
        if holder is not None and is_alive(holder, _now(database, conn)):
            raise StoreBusy(_busy_text(holder))


def _acquire(database: Database, run_id: str) -> None:
    with database.writing() as conn:
        now = _now(database, conn)
        if (holder := _holder(conn)) is not None:
            if is_alive(holder, now):
                raise StoreBusy(_busy_text(holder))
            _take_from(database, conn, holder)
        _take.execute(
            conn,
            conn.dialect.name,
            name=_NAME,
            token=run_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            process=processes.birth_mark(os.getpid()),
            since=now,
            heartbeat=now,
        )
        # Another run may have been quicker: its row was not there to be read, and is now.
        holder = _holder(conn)
        if holder is not None and holder.token != run_id:
            raise StoreBusy(_busy_text(holder))


@Prepared
def _take(engine: str) -> Insert:
    return insert_missing(engine, _LOCK).values({name: bindparam(name) for name in _LOCK.c.keys()})  # noqa: SIM118


def _take_from(database: Database, conn: Connection, holder: SyncLock) -> None:
    """Remove a dead holder's lock, unless it shows life after all."""
    log.warning("the run of %s on %s is dead; its lock is taken over", holder.since, holder.host)
    if database.is_postgres:
        # A transaction that its process left unfinished ends when the server notices; not forever.
        conn.execute(text("SET LOCAL lock_timeout = '60s'"))
    same = (_LOCK.c.token == holder.token, _LOCK.c.heartbeat == holder.heartbeat)
    conn.execute(delete(_LOCK).where(*same))


def _release(database: Database, run_id: str) -> None:
    try:
        with database.writing() as conn:
            _give_back.execute(conn, None, token=run_id)
    except StoreError as exc:
        # What the run did is committed, and what it raised matters more: the lock dies with its heartbeat.
        log.warning("the lock could not be given back and ends by itself in %s: %s", STALE_AFTER, exc)


@Prepared
def _give_back(_: None) -> Delete:
    return delete(_LOCK).where(_LOCK.c.token == bindparam("token"))


def is_alive(holder: SyncLock, now: datetime) -> bool:
    """Whether the holder still works: its process where we can look, and a heartbeat.

    A process that is there may be late with its heartbeat, since it waits behind long transactions of its own; but
    not for ever: it may have outlived a run whose lock it could not give back.

    Args:
        holder: The lock.
        now: On the database's clock.
    """
    is_here = holder.host == socket.gethostname()
    if is_here and processes.is_gone(holder.pid, holder.process):
        return False
    patience = HUNG_AFTER if is_here and processes.is_there(holder.pid, holder.process) else STALE_AFTER
    # A heartbeat far in the future is one from before the clock was set back.
    return abs(now - holder.heartbeat) <= patience


def _holder(conn: Connection) -> SyncLock | None:
    rows = _lines.rows(conn, None)
    return SyncLock.model_validate(dict(zip(_LOCK.c.keys(), rows[0], strict=True))) if rows else None


@Prepared
def _lines(_: None) -> Select[Any]:
    return select(_LOCK).where(_LOCK.c.name == _NAME)


def _now(database: Database, conn: Connection) -> datetime:
    """The database's clock: its server's, or this machine's, since a SQLite file is shared by one machine only."""
    if not database.is_postgres:
        return datetime.now(UTC)
    now: datetime = conn.execute(select(func.clock_timestamp())).scalar_one()
    return now


def _busy_text(holder: SyncLock) -> str:
    return (
        f"this database is held by run {holder.token} (process {holder.pid} on {holder.host}) since "
        f"{holder.since:%Y-%m-%d %H:%M:%S} UTC; wait for it to end, or stop that process"
    )


def _beat(database: Database, run_id: str, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        try:
            with database.writing() as conn:
                renewal = update(_LOCK).where(_LOCK.c.token == run_id).values(heartbeat=_now(database, conn))
                if conn.execute(renewal).rowcount == 0:
                    log.error("run %s lost the database to another run", run_id)
                    return
        except StoreError as exc:
            log.warning("heartbeat missed: %s", exc)
