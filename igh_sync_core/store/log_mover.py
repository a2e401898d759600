"""Moves what SQLite's write-ahead log holds into the file, beside those who write.

Left to SQLite, every few megabytes whoever commits does it as a part of that, and nobody writes while the disk is
waited for. A thread of its own takes nobody's time. Only a commit that finds everything moved lets the log begin anew:
once it holds ``LOG_PAGES``, the thread leaves a turn to the next commit, which moves the rest. Should the thread fail,
commits do it all, as they do where there is none.
Source: https://www.sqlite.org/wal.html
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from threading import Event, Thread

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from igh_sync_core.errors import StoreError
from igh_sync_core.store.driver import driver_errors
from igh_sync_core.store.engines import LOG_PAGES, log_of

_WORTHWHILE_BYTES = 4 * 2**20
_REST_S = 0.02
"""Between two moves: each waits for the disk twice, whatever there is to move."""
_MOVE = "PRAGMA wal_checkpoint(PASSIVE)"

log = logging.getLogger(__name__)


class LogMover:
    """One thread at most; it starts with the first commit that leaves a log worth it.

    Args:
        path: The file.
        connect: Opens a connection to it.
    """

    def __init__(self, path: Path, connect: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._log = log_of(path)
        self._connect = connect
        self._thread: Thread | None = None
        self._has_news, self._is_over = Event(), Event()

    def note_commit(self) -> None:
        """Something was written; called by one thread at a time."""
        self._has_news.set()
        if self._thread is None and not self._is_over.is_set() and self._is_worthwhile():
            self._start()

    def close(self) -> None:
        """End the thread, and wait for that."""
        self._is_over.set()
        self._has_news.set()
        if self._thread:
            self._thread.join()

    def _is_worthwhile(self) -> bool:
        try:
            return self._log.stat().st_size >= _WORTHWHILE_BYTES
        except OSError:
            return False

    def _start(self) -> None:
        thread = Thread(target=self._work, name="log-mover", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:  # the system allows no more threads
            self._is_over.set()
            log.debug("the log is left to those who commit: %s", exc)
        else:
            self._thread = thread

    def _work(self) -> None:
        try:
            with self._connect() as conn:
                while self._is_wanted():
                    if move(conn) >= LOG_PAGES:
                        self._has_news.clear()  # the next commit finds nobody at it
                    if self._is_over.wait(_REST_S):
                        return
        except (DBAPIError, StoreError) as exc:
            # Nothing is lost: it stays in the log, and whoever commits meets the fault if it lasts.
            log.debug("the log is left to those who commit: %s", exc)

    def _is_wanted(self) -> bool:
        """Wait for news; whether they are of anything but the end."""
        self._has_news.wait()
        # Taken before the end is asked about, or news of the end that come in between would be waited for ever.
        self._has_news.clear()
        return not self._is_over.is_set()


def move(conn: Connection) -> int:
    """Move what can be moved now, outside a transaction; gives the pages that the log holds, moved or not."""
    with driver_errors(conn, _MOVE), closing(conn.connection.cursor()) as cursor:
        cursor.execute(_MOVE)
        [(_is_busy, pages, _moved)] = cursor.fetchall()
    return int(pages)
