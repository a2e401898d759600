"""The records of one table: untouched ones by formula, changed ones as they are, deleted ones as tombstones.

A row is handed around as its position (an int) while nobody has touched it, and as a ``Row`` afterwards. The
organisation's lock guards all of this.
"""

from bisect import insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from igh_sync_core.sandbox.data.chance import seeded
from igh_sync_core.sandbox.data.population import VARIANTS, Link, Population, day_text, time_text
from igh_sync_core.sandbox.data.schema import Shape
from igh_sync_core.sandbox.data.values import invent_row


class Pointer(NamedTuple):
    """Target of a lookup: logical name and primary key."""

    table: str
    key: str


@dataclass(slots=True)
class Row:
    """A row that was inserted or changed; *values* holds all columns but key and version."""

    key: str
    version: int
    values: dict[str, object]

    @property
    def modified(self) -> str:
        """``modifiedon``, or "" where the table has none."""
        return str(self.values.get("modifiedon") or "")


class Tombstone(NamedTuple):
    """A deletion: the version it was given and the key that is gone."""

    version: int
    key: str


Found = int | Row
Edit = Callable[[dict[str, object]], object]


class Records:
    """All rows of one table.

    Args:
        shape: Its definition.
        populations: Of every table by logical name; lookups of untouched rows are resolved in them.
        seed: Makes the variants.
        pairs: For N:N tables, the two slots of each variant; distinct, so that no pair of ends comes twice.
    """

    def __init__(
        self,
        shape: Shape,
        populations: Mapping[str, Population],
        *,
        seed: int,
        pairs: tuple[tuple[int, int], ...] = (),
    ) -> None:
        self.shape = shape
        self.population = populations[shape.logical_name]
        self.own: dict[str, Row] = {}
        self.inserted: list[str] = []
        self.tombstones: list[Tombstone] = []
        self.buried: dict[str, Row] = {}
        self.renamed: set[str] = set()
        self.mutations = 0
        self._populations = populations
        self._seed = seed
        self._pairs = pairs
        self._columns = tuple(shape.columns)
        self.overlay: dict[int, str | None] = {}
        self._variants: dict[int, dict[str, object]] = {}
        self._edits: list[Edit] = []
        self._keys = {shape.key, shape.csdl_key}
        self.has_modified = "modifiedon" in shape.by_name

    def count(self) -> int:
        """Rows that exist."""
        return self.population.count - len(self.overlay) + len(self.own)

    def find(self, key: str) -> Found | None:
        """The row of *key*, or None."""
        key = key.lower()
        if key in self.own:
            return self.own[key]
        position = self.population.position(key)
        return None if position is None or position in self.overlay else position

    def key(self, found: Found) -> str:
        """Primary key of a row."""
        return found.key if isinstance(found, Row) else self.population.key(found)

    def version(self, found: Found) -> int:
        """Version of a row."""
        if isinstance(found, Row):
            return found.version
        return self.population.first_version + self.population.rank(found)

    def modified(self, found: Found) -> str:
        """``modifiedon`` of a row, "" where the table has none."""
        if isinstance(found, Row):
            return found.modified
        return self.modified_at(self.population.rank(found)) if self.has_modified else ""

    def modified_at(self, rank: int) -> str:
        """``modifiedon`` of the untouched row that was changed as number *rank*."""
        day, second = divmod(self.population.modified_s(rank), 86_400)
        return day_text(day)[0] + time_text(second)[0]

    def value(self, found: Found, name: str) -> object:
        """Plain value of column *name*; lookups give the target's key."""
        if name in self._keys:
            return self.key(found)
        if name == "versionnumber":
            return self.version(found)
        if name == "modifiedon":
            return self.modified(found) or None
        raw = self.raw(found, name)
        return raw.key if isinstance(raw, Pointer) else raw

    def raw(self, found: Found, name: str) -> object:
        """Value of a column that is neither key, version nor time of change; lookups as ``Pointer``."""
        if isinstance(found, Row):
            return found.values.get(name)
        value = self.variant(found % VARIANTS).get(name)
        return self._resolve(value, found) if isinstance(value, Link) else value

    def _resolve(self, link: Link, position: int) -> Pointer:
        there = self._populations[link.table]
        return Pointer(link.table, f"{there.head(position >> 8)}{there.tail}{link.slot:02x}")

    def record(self, found: Found) -> dict[str, object]:
        """Every column with its plain value, in document order."""
        return {column.name: self.value(found, column.name) for column in self.shape.columns}

    def variant(self, number: int) -> dict[str, object]:
        """What untouched rows of one variant share: plain values, and lookups as ``Link``."""
        known = self._variants.get(number)
        if known is None:
            known = self._variants[number] = self._invent(number)
        return known

    def _invent(self, number: int) -> dict[str, object]:
        name = self.shape.logical_name
        row = invent_row(
            self._columns,
            seeded(self._seed, name, number),
            variant=number,
            table=name,
            slots=lambda table: self._populations[table].slots if table in self._populations else 0,
        )
        if self._pairs:
            ends = [column for column in self._columns if column.targets]
            for column, slot in zip(ends, self._pairs[number], strict=True):
                row[column.name] = Link(column.targets[0], slot)
        for edit in self._edits:
            edit(row)
        return row

    def edit(self, change: Edit) -> None:
        """Apply *change* to the values of every row, existing or yet to be made up, without touching versions."""
        self._edits.append(change)
        self.mutations += 1
        for values in (*self._variants.values(), *(row.values for row in (*self.own.values(), *self.buried.values()))):
            change(values)

    def insert(self, row: Row) -> None:
        """Add a row.

        Raises:
            ValueError: Its key exists already.
        """
        if self.find(row.key) is not None:
            msg = f"{self.shape.logical_name} already has a row {row.key}"
            raise ValueError(msg)
        position = self.population.position(row.key)
        if position is None:
            insort(self.inserted, row.key)
        else:
            self.overlay[position] = row.key
        self._keep(row)

    def _keep(self, row: Row) -> None:
        self.own[row.key] = row
        self.buried.pop(row.key, None)
        self.mutations += 1

    def update(self, key: str, values: Mapping[str, object], *, version: int) -> None:
        """Give a row other values and a newer version; KeyError when it does not exist."""
        row = self.take(key)
        if self.shape.primary_name in values:
            self.renamed.add(row.key)
        row.values.update(values)
        row.version = version
        self._keep(row)

    def take(self, key: str) -> Row:
        """The row of *key* as a record of its own, made from the formula if need be; KeyError when there is none."""
        found = self.find(key)
        if found is None:
            raise KeyError(key)
        if isinstance(found, Row):
            return found
        row = Row(self.key(found), self.version(found), self._materialise(found))
        self.overlay[found] = row.key
        self._keep(row)
        return row

    def _materialise(self, position: int) -> dict[str, object]:
        apart = self._keys | {"versionnumber", "modifiedon"}
        values = {
            column.name: self.raw(position, column.name) for column in self.shape.columns if column.name not in apart
        }
        if self.has_modified:
            values["modifiedon"] = self.modified(position)
        return values

    def delete(self, key: str, *, version: int) -> None:
        """Remove a row, leaving a tombstone; KeyError when it does not exist."""
        row = self.take(key)
        del self.own[row.key]
        position = self.population.position(row.key)
        if position is None:
            self.inserted.remove(row.key)
        else:
            self.overlay[position] = None
        self.buried[row.key] = row
        self.tombstones.append(Tombstone(version, row.key))
        self.mutations += 1
