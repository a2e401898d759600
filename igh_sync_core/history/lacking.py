"""Columns that a page's records have no more: removed in Dataverse while the run was under way.

An empty column comes as ``null``, and a removed one not at all. Taken for the same, every record would get a version
without its value, and nothing would tell. Runs inside the caller's transaction, and only reads.
"""

from typing import Any

import msgspec
from msgspec import Raw
from sqlalchemy import Connection, Select, select

from igh_sync_core.errors import SchemaError
from igh_sync_core.history.batch import Batch
from igh_sync_core.schema.tables import EntityTables
from igh_sync_core.store.driver import Prepared

_MEMBERS = msgspec.json.Decoder(dict[str, Raw])


class Lacking:
    """Watches the pages of one entity in one run; each is to be shown, in the order they are written.

    Args:
        tables: The entity's.
        version: Of the metadata that the run goes by; "" where the environment does not tell. The first page that tells
            one stands for it then.
    """

    def __init__(self, tables: EntityTables, version: str) -> None:
        self._tables, self._version = tables, version
        self._empty: set[str] = set()  # found out once: to see that a column holds nothing takes the whole table

    def check(self, conn: Connection, batch: Batch, version: str | None) -> None:
        """See that a page read under other metadata than the run's own has all columns that hold anything.

        A column that holds nothing loses nothing; some are declared and never sent.

        Args:
            conn: Inside a transaction.
            batch: The page.
            version: Of the metadata that the page was read under; None or "" where it does not tell.

        Raises:
            SchemaError: A column is gone; names it. No retry helps: a run learns the metadata once, at its beginning.
        """
        self._empty = {name for name in self._empty if not _is_sent(batch, name)}
        self._version = self._version or version or ""
        if not version or version == self._version:
            return
        spec, unsent = self._tables.spec, self._unsent(batch)
        if gone := [name for name in unsent if _held.rows(conn, (self._tables, name))]:
            msg = (
                f"{spec.logical_name}: the metadata changed during the run, and records come without "
                f"{', '.join(gone)} now; nothing of this page is written, the next run learns the metadata and reads "
                "anew"
            )
            raise SchemaError(msg)
        self._empty.update(unsent)

    def _unsent(self, batch: Batch) -> list[str]:
        """Columns that may hold something and that no record of the page has; as a rule the first one has all."""
        missing = dict.fromkeys(one.name for one in self._tables.spec.columns if one.name not in self._empty)
        for record in batch.column("json_response"):
            for name in _MEMBERS.decode(record):
                missing.pop(name, None)
            if not missing:
                break
        return [*missing] if len(batch) else []


def _is_sent(batch: Batch, name: str) -> bool:
    """Whether a page holds anything of a column; where several are chosen the column itself is null."""
    return any(value is not None for value in batch.raw.get(name, batch.column(name)))


@Prepared
def _held(about: tuple[EntityTables, str]) -> Select[Any]:
    """One current row that has a value, or an option, of a column."""
    tables, name = about
    if name in tables.junctions:  # where several are chosen the column itself is null
        options = tables.junctions[name]
        return select(options.c.junction_id).where(options.c.valid_to.is_(None)).limit(1)
    main = tables.main
    return select(main.c.row_id).where(main.c.valid_to.is_(None), main.c[name].is_not(None)).limit(1)
