"""The sweep of a reconcile run: every key with its version number, and what differs from the open versions."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, exists, select

from igh_sync_core.client import Channel
from igh_sync_core.driver import Prepared
from igh_sync_core.model import TableSpec
from igh_sync_core.odata import Page, entity_url
from igh_sync_core.tables import EntityTables

DIFFERENT_KEYS = 20_000
"""More differing keys than this are not asked one by one: reading the whole table is cheaper."""


@dataclass(frozen=True)
class Differences:
    """What a sweep found.

    Attributes:
        deletions: Open versions whose key the source no longer has; closed already.
        found: Keys to be read again, each with whether it has an open version.
    """

    deletions: int
    found: list[tuple[str, bool]]

    @property
    def is_too_many(self) -> bool:
        """Whether reading the table whole is cheaper than asking for every key."""
        return len(self.found) > DIFFERENT_KEYS

    @property
    def keys(self) -> list[str]:
        """The keys to be read again."""
        return [key for key, _is_stored in self.found]

    def summary(self) -> str:
        """What was repaired, for the report."""
        if self.is_too_many:
            return (
                f"reconciled: {self.deletions} missed deletions and over {DIFFERENT_KEYS} other differences; read whole"
            )
        updates = sum(is_stored for _key, is_stored in self.found)
        inserts = len(self.found) - updates
        return f"reconciled: {updates} missed updates, {inserts} missed inserts, {self.deletions} missed deletions"


def pages(channel: Channel, spec: TableSpec, api_root: str) -> Iterator[Page]:
    """Every key the source has with its version number, a page at a time; complete when it ends by itself.

    Raises:
        SourceError: The sweep cannot be completed, so nothing may be concluded from it.
    """
    url = entity_url(api_root, spec.entity_set, select=(spec.key, "versionnumber"))
    for fetched in channel.pages(url, annotations=False):
        yield fetched.page


def is_met(tables: EntityTables) -> ColumnElement[bool]:
    """Whether an open version's key is on the list of those met."""
    return exists().where(tables.keys.c.key == tables.main.c[tables.spec.key])


def differing(conn: Connection, tables: EntityTables) -> list[tuple[str, bool]]:
    """Keys met without an open version, or with one of another version number.

    Returns:
        Pairs of key and whether it has an open version; at most ``DIFFERENT_KEYS`` + 1 of them.
    """
    return [
        (str(key), bool(is_stored)) for key, is_stored in _differing.rows(conn, tables.pattern, places=tables.places)
    ]


@Prepared
def _differing(tables: EntityTables) -> Select[Any]:
    main, keys = tables.main, tables.keys
    is_same = (main.c[tables.spec.key] == keys.c.key) & main.c.valid_to.is_(None)
    differs = main.c.row_id.is_(None) | main.c.versionnumber.is_distinct_from(keys.c.version)
    met = select(keys.c.key, main.c.row_id.is_not(None)).select_from(keys.outerjoin(main, is_same))
    return met.where(differs).limit(DIFFERENT_KEYS + 1)
