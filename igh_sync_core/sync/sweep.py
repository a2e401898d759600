"""The sweep of a reconcile run: every key with its version number, and what differs from the open versions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Integer, Select, bindparam, select

from igh_sync_core.history import checkpoint, current
from igh_sync_core.model import TableSpec
from igh_sync_core.schema.tables import EntityTables
from igh_sync_core.store.driver import Prepared
from igh_sync_core.webapi.client import Channel
from igh_sync_core.webapi.keys import parse_keys
from igh_sync_core.webapi.odata import Page, entity_url

DIFFERENT_KEYS = 20_000
"""More differing keys than this are not asked one by one: reading the whole table is cheaper."""

KEYS_AT_ONCE = 1_000
"""Keys laid beside the open versions at once, and open versions looked through at once for those not met."""


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


def parts(spec: TableSpec, page: Page) -> Iterator[list[tuple[str, int | None]]]:
    """Pairs of key and version number, some at a time: as objects they take ten times the memory.

    Raises:
        DataError: An entry has no key.
    """
    for start in range(0, len(page.value), KEYS_AT_ONCE):
        part = msgspec.structs.replace(page, value=page.value[start : start + KEYS_AT_ONCE])
        yield parse_keys(spec, part).versions


class Sweep:
    """What the source has of one table, laid beside the open versions a page of keys at a time.

    Nothing is kept in the database, so that no connection is held while the source is asked: the place of each version
    met is one bit, of each version ever stored, and a key is kept only where something differs.

    Args:
        tables: The entity's.
    """

    def __init__(self, tables: EntityTables) -> None:
        self._tables = tables
        self._met = bytearray()
        self._found: dict[str, bool] = {}

    def lay(self, conn: Connection, keys: Sequence[tuple[str, int | None]]) -> None:
        """Take in pairs of key and version number."""
        stored: dict[str, tuple[int, int | None]] = {}
        for key, row_id, number in current.version_numbers(conn, self._tables, [key for key, _number in keys]):
            self._mark(row_id)
            if key not in stored or stored[key][0] < row_id:  # an earlier program may have left several
                stored[key] = row_id, number
        for key, number in keys:
            if len(self._found) > DIFFERENT_KEYS:
                return
            if key not in stored or stored[key][1] != number:
                self._found[key] = key in stored

    def absent(self, conn: Connection) -> Iterator[list[str]]:
        """Keys of the open versions not met, some at a time; they may be closed meanwhile.

        Args:
            conn: Inside a transaction. No version of the table may have been opened or closed since the first page was
                taken in, but those that were named here: whoever sweeps is the only one who writes to it.
        """
        if int.from_bytes(self._met, "little").bit_count() == checkpoint.count_open(conn, self._tables):
            return
        last: str | None = None
        while rows := self._open_after(conn, last):
            last = rows[-1][0]
            if missing := [key for key, row_id in rows if not self._is_met(row_id)]:
                yield missing

    def differences(self, deletions: int) -> Differences:
        """What it has found, with the number of open versions closed for it."""
        return Differences(deletions, list(self._found.items()))

    def _open_after(self, conn: Connection, last: str | None) -> list[tuple[str, int]]:
        about = (self._tables.pattern, last is None)
        given = {"most": KEYS_AT_ONCE} | ({} if last is None else {"last": last})
        return _next_open.rows(conn, about, places=self._tables.places, **given)

    def _mark(self, row_id: int) -> None:
        place, bit = divmod(row_id, 8)
        if place >= len(self._met):
            self._met.extend(bytes(place - len(self._met) + 1))
        self._met[place] |= 1 << bit

    def _is_met(self, row_id: int) -> bool:
        place, bit = divmod(row_id, 8)
        return place < len(self._met) and bool(self._met[place] >> bit & 1)


@Prepared
def _next_open(about: tuple[EntityTables, bool]) -> Select[Any]:
    """By key, since the rows themselves are wide: SQLite's index on open versions has all that is asked."""
    tables, is_first = about
    main, key = tables.main, tables.main.c[tables.spec.key]
    # An earlier program may have left rows without a key.
    is_open = select(current.key_of(tables), main.c.row_id).where(main.c.valid_to.is_(None), key.is_not(None))
    following = is_open if is_first else is_open.where(key > bindparam("last", type_=key.type))
    return following.order_by(key).limit(bindparam("most", type_=Integer()))
