"""Records → versions and choices: what every page of records goes through, inside the caller's transaction."""

from collections.abc import Sequence
from datetime import datetime

from igh_sync_core.history import checkpoint
from igh_sync_core.history.batch import Batch
from igh_sync_core.history.choices import Choices
from igh_sync_core.history.current import Met
from igh_sync_core.history.versions import History
from igh_sync_core.report import Counts


def write_new(history: History, choices: Choices, batch: Batch, now: datetime) -> Counts:
    """Write a page of which no key is expected to be stored, and what it says of choices.

    Args:
        history: Versions of the entity.
        choices: Its choices.
        batch: Records with distinct keys.
        now: The sync time.

    Raises:
        DataError: The database refused a value; names record and column.
    """
    choices.note(history.conn, batch, now)
    return history.write_new(batch, now)


def write(history: History, choices: Choices, met: Met, now: datetime) -> Counts:
    """Write what a page brings that is not stored; what is stored exactly so costs nothing more.

    Args:
        history: Versions of the entity.
        choices: Its choices.
        met: The page, laid beside the open versions within this transaction.
        now: The sync time.

    Raises:
        DataError: As for :func:`write_new`.
    """
    choices.note(history.conn, met.news, now)
    return history.apply(met, now)


def close_unmet(history: History, keys: Sequence[str], now: datetime, *, is_first: bool, is_last: bool) -> int:
    """Close what a complete read has not met, once its last page is here (law 3).

    Args:
        history: Versions of the entity.
        keys: Those of the page; all of them are stored by now.
        now: The sync time.
        is_first: Whether it is the first page of the read.
        is_last: Whether it is the last one.

    Returns:
        How many were closed; 0 before the last page.
    """
    if is_first and is_last:
        return history.close_others(keys, now)
    conn, tables = history.conn, history.tables
    if is_first:
        # In the page's own transaction: an older read may still go on until this one is on record.
        checkpoint.forget_seen(conn, tables.spec)
    history.staging.list_keys(keys)
    checkpoint.note_seen(conn, tables)
    if not is_last:
        return 0
    closed = history.close_absent(checkpoint.was_seen, now)
    checkpoint.forget_seen(conn, tables.spec)
    return closed
