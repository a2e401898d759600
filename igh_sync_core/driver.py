"""Statements that go to the driver past SQLAlchemy: those so small, and so many, that its machinery would be the cost.

Everything here runs on the caller's connection. What fails is told as SQLAlchemy tells it.
"""

import contextlib
from collections.abc import Iterator

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError


def execute(conn: Connection, statement: str) -> None:
    """Execute a statement that has no parameters and gives no rows.

    Raises:
        sqlalchemy.exc.DBAPIError: The driver's refusal.
    """
    with driver_errors(conn, statement), contextlib.closing(conn.connection.cursor()) as cursor:
        cursor.execute(statement)


@contextlib.contextmanager
def driver_errors(conn: Connection, statement: str) -> Iterator[None]:
    """SQLAlchemy's errors in place of the driver's, as for statements that go through SQLAlchemy."""
    base = conn.dialect.loaded_dbapi.Error
    try:
        yield
    except base as exc:
        raise DBAPIError.instance(statement, None, exc, base, hide_parameters=True) from exc


@contextlib.contextmanager
def attempt(conn: Connection) -> Iterator[None]:
    """Inside a transaction: undo what is done in the block, and no more, where it fails."""
    execute(conn, "SAVEPOINT attempt")
    try:
        yield
    except BaseException:
        # Where the connection is lost the server has undone it all, and the first error is the one to tell.
        with contextlib.suppress(DBAPIError):
            execute(conn, "ROLLBACK TO SAVEPOINT attempt")
            execute(conn, "RELEASE SAVEPOINT attempt")
        raise
    execute(conn, "RELEASE SAVEPOINT attempt")
