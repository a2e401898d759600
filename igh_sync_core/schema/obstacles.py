"""What stands in the way of a change of tables or views: whoever reads them, and what others built on them.

On PostgreSQL, where a change that waits keeps every later reader waiting behind it: none may wait for ever.
"""

import contextlib
from collections.abc import Collection, Iterator

from psycopg.errors import DependentObjectsStillExist, FeatureNotSupported, LockNotAvailable
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

PATIENCE = "30s"

# Whoever has set a limit of their own keeps it: the connection was given one then, or its role, or its database.
_LIMIT = text(
    """
    SELECT current_setting('lock_timeout'), set_config('lock_timeout', :patience, true)
    FROM pg_settings WHERE name = 'lock_timeout' AND reset_val = '0'
    """
)
_LIMIT_AS_BEFORE = text("SELECT set_config('lock_timeout', :patience, true)")
_HOLDERS = text(
    """
    SELECT DISTINCT a.pid, coalesce(a.usename, a.backend_type), a.application_name
    FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.granted AND l.pid <> pg_backend_pid() AND n.nspname = current_schema() AND c.relname = ANY(:names)
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ORDER BY a.pid
    """
)


@contextlib.contextmanager
def limited(conn: Connection) -> Iterator[None]:
    """Give up what waits longer for a lock than ``PATIENCE`` in the block, which a savepoint takes back if it fails."""
    usual = conn.execute(_LIMIT, {"patience": PATIENCE}).scalar() if conn.dialect.name == "postgresql" else None
    yield
    if usual is not None:
        conn.execute(_LIMIT_AS_BEFORE, {"patience": usual})


def are_readers(exc: DBAPIError) -> bool:
    """Whether a statement was given up because others use what it changes."""
    return isinstance(exc.orig, LockNotAvailable)


def describe(conn: Connection, exc: DBAPIError, relations: Collection[str]) -> str:
    """What the database said, in one line, with who or what is in the way.

    Args:
        conn: A connection inside a transaction, what was refused already taken back.
        exc: The refusal.
        relations: Names of the tables and views that were to be changed.
    """
    if are_readers(exc):
        return f"{_holders(conn, relations)} did not let go of it in time; end that transaction, or let it end"
    said = str(exc.orig).strip().splitlines()[0]
    # The details of other refusals quote values.
    is_about_others = isinstance(exc.orig, DependentObjectsStillExist | FeatureNotSupported)
    detail = exc.orig.diag.message_detail if is_about_others else None  # type: ignore[union-attr]
    return f"{said} ({'; '.join(detail.splitlines())})" if detail else said


def _holders(conn: Connection, relations: Collection[str]) -> str:
    found = conn.execute(_HOLDERS, {"names": list(relations)}).all()
    told = (f"process {pid} of {user}" + (f" ({program})" if program else "") for pid, user, program in found)
    return ", ".join(told) or "a transaction of somebody else"
