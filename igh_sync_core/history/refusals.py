"""Which record and column a value came from that PostgreSQL refused: errors name them, and never show the value."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import psycopg
from sqlalchemy.exc import DataError, DBAPIError

from igh_sync_core import errors
from igh_sync_core.history.batch import Batch
from igh_sync_core.model import TableSpec
from igh_sync_core.schema.tables import EntityTables

_PLACE = re.compile(r"^COPY .*?, line (\d+)(?:, column (\w+))?", re.MULTILINE)
_LIMITS = "54"
"""Class of SQLSTATEs about limits of the program, such as the 8 kB that a row may take."""

_BYTES = re.compile(r" with byte sequence(?: 0x[0-9a-f]{2})+")


def tell(told: Exception, refusal: Exception) -> NoReturn:
    """Raise what is *told* of a refusal, because of it; *refusal* itself keeps its own cause."""
    if told is refusal:
        raise refusal
    raise told from refusal


def named(spec: TableSpec, keys: Sequence[Any], refusal: DataError) -> Exception:
    """The error to raise for a refused COPY: one that names record and column, or *refusal* itself.

    Args:
        spec: The entity.
        keys: Keys of the rows, in the order they were copied.
        refusal: What the database said; a text too long stays as it is, since room can be made for it.
    """
    if isinstance(refusal.orig, psycopg.errors.StringDataRightTruncation) or not isinstance(
        refusal.orig, psycopg.Error
    ):
        return refusal
    place = _PLACE.search(refusal.orig.diag.context or "")
    if place is None:
        return refusal
    who = f"{spec.logical_name} {keys[int(place[1]) - 1]}"
    what = _BYTES.sub("", (refusal.orig.diag.message_primary or "").partition(":")[0])
    if place[2] is None:
        # A character that the database's own encoding lacks is met before the columns are told apart.
        return errors.DataError(f"{who}: the database cannot hold the record: {what}")
    return errors.DataError(f"{who}: column `{place[2]}` cannot hold the value received: {what}")


def too_big(tables: EntityTables, batch: Batch, refusal: DBAPIError, fits: Callable[[Batch], bool]) -> Exception:
    """The error to raise for a page that was too much for a limit of the database's own, or *refusal* itself.

    PostgreSQL names a line some way behind the record, which is looked for in halves.

    Args:
        tables: The entity's.
        batch: The page.
        refusal: What the database said, taken back already.
        fits: Whether the database takes some records.
    """
    if not (getattr(refusal.orig, "sqlstate", None) or "").startswith(_LIMITS):
        return refusal
    spec, table = tables.spec, tables.main.name
    start, end = 0, len(batch)
    while end - start > 1:
        middle = (start + end) // 2
        start, end = (middle, end) if fits(batch.take(range(start, middle))) else (start, middle)
    is_it = not fits(batch.take(range(start, end)))
    who = f"{spec.logical_name} {batch.keys[start]}" if is_it else spec.logical_name
    what = str(refusal.orig).partition("\n")[0]
    return errors.DataError(f"{who}: table {table} cannot hold {'the record' if is_it else 'a record'}: {what}")
