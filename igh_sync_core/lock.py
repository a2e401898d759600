"""One run at a time per database, and no longer than its holder lives.

The lock is a row. A holder renews its heartbeat from a thread; it counts as dead when its process is gone (same
host) or its heartbeat stopped (any host). Every transaction of a run checks that the row is still its own, so that
a holder that was only asleep cannot write after it was replaced.
"""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from igh_sync_core.control import SyncLock
from igh_sync_core.database import Database
from igh_sync_core.errors import StoreBusy, StoreError

HEARTBEAT_S = 15
STALE_AFTER = timedelta(seconds=90)
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
    stop = threading.Event()
    heart = threading.Thread(target=_beat, args=(database, run_id, stop), name="sync-heartbeat", daemon=True)
    heart.start()
    try:
        yield
    finally:
        stop.set()
        heart.join()
        with database.writing() as conn:
            conn.execute(delete(_LOCK).where(_LOCK.c.token == run_id))


def fence(conn: Connection, run_id: str) -> None:
    """Refuse to write for a run that no longer holds the database.

    Raises:
        StoreError: The lock was taken over by another run.
    """
    if conn.scalar(select(_LOCK.c.token).where(_LOCK.c.name == _NAME)) != run_id:
        msg = f"run {run_id} lost the database to another run; nothing more is written"
        raise StoreError(msg)


def _acquire(database: Database, run_id: str) -> None:
    now = datetime.now(UTC)
    values = {"name": _NAME, "token": run_id, "host": socket.gethostname(), "pid": os.getpid(), "since": now}
    try:
        with database.connection() as conn, database.transaction(conn):
            held = conn.execute(select(_LOCK).where(_LOCK.c.name == _NAME).with_for_update()).mappings().one_or_none()
            holder = SyncLock.model_validate(dict(held)) if held else None
            if holder and is_alive(holder, now):
                raise StoreBusy(_busy_text(holder))
            if holder:
                log.warning("the run of %s on %s is dead; its lock is taken over", holder.since, holder.host)
                conn.execute(delete(_LOCK).where(_LOCK.c.token == holder.token))
            conn.execute(insert(_LOCK).values(heartbeat=now, **values))
    except StoreError as exc:
        if isinstance(exc.__cause__, IntegrityError):
            msg = "another run has just taken this database; try again when it has ended"
            raise StoreBusy(msg) from exc
        raise


def is_alive(holder: SyncLock, now: datetime) -> bool:
    """Whether the holder still works: a fresh heartbeat, and a living process where we can look."""
    if now - holder.heartbeat > STALE_AFTER:
        return False
    return holder.host != socket.gethostname() or _is_running(holder.pid)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _busy_text(holder: SyncLock) -> str:
    return (
        f"this database is held by run {holder.token} (process {holder.pid} on {holder.host}) since "
        f"{holder.since:%Y-%m-%d %H:%M:%S} UTC; wait for it to end, or stop that process"
    )


def _beat(database: Database, run_id: str, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        try:
            with database.writing() as conn:
                conn.execute(update(_LOCK).where(_LOCK.c.token == run_id).values(heartbeat=datetime.now(UTC)))
        except StoreError as exc:
            log.warning("heartbeat missed: %s", exc)
