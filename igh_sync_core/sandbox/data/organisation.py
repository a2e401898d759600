"""The organisation behind the sandbox: its tables, and everything a test may do to them while the server runs.

Every public method takes the one lock, so a test's thread and the server's may meet here at any time.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from igh_sync_core.sandbox.data.chance import seeded
from igh_sync_core.sandbox.data.clock import Clock
from igh_sync_core.sandbox.data.editing import Editing
from igh_sync_core.sandbox.data.population import Population, populate
from igh_sync_core.sandbox.data.records import Pointer, Row
from igh_sync_core.sandbox.data.rows import Rows
from igh_sync_core.sandbox.data.schema import POINTING, Column, Kind, Shape
from igh_sync_core.sandbox.data.table import Table

Pairs = tuple[tuple[int, int], ...]


class ManyToMany(NamedTuple):
    """An N:N relationship by the logical name of its intersect table and the attributes of its ends."""

    schema_name: str
    intersect: str
    entity1: str
    attribute1: str
    entity2: str
    attribute2: str


class Organisation(Editing):
    """Tables by logical name, one row version counter, one clock.

    Args:
        shapes: Definitions, abstract ones included.
        counts: Rows per logical name; a table that is not named is empty.
        seed: The same seed, definitions and counts give the same rows.
        relationships: N:N relationships; their intersect tables are among *shapes*.
        source: A ``$metadata`` document to serve unchanged until the first schema edit.
    """

    def __init__(
        self,
        shapes: Sequence[Shape],
        counts: Mapping[str, int],
        *,
        seed: int,
        relationships: Sequence[ManyToMany] = (),
        source: bytes | None = None,
    ) -> None:
        super().__init__(source)
        self.clock = Clock()
        self.expired_token_returns_everything = False
        self.relationships = tuple(relationships)
        self.version = 1_000_000
        self._populations: dict[str, Population] = {}
        for number, shape in enumerate(shapes):
            self._settle(shape, number, counts.get(shape.logical_name, 0), seed)
        for shape in sorted(shapes, key=lambda shape: shape.mirrors is not None):
            self.tables[shape.logical_name] = self._table(shape, seed)
        self.by_set = {table.entity_set: table for table in self.tables.values() if table.entity_set}

    def _settle(self, shape: Shape, number: int, count: int, seed: int) -> None:
        self._populations[shape.logical_name] = populate(
            table=shape.logical_name,
            number=number,
            count=count,
            first_version=self.version + 1,
            random=seeded(seed, shape.logical_name),
        )
        self.version += count

    def _table(self, shape: Shape, seed: int) -> Table:
        if shape.mirrors is not None:
            shown = self.tables[shape.mirrors]
            return Table(shape, shown.rows, hidden=shown.hidden)
        pairs = self._pairs(shape, seed) if shape.is_intersect else ()
        return Table(shape, Rows(shape, self._populations, seed=seed, pairs=pairs))

    def _pairs(self, shape: Shape, seed: int) -> Pairs:
        """Distinct pairs of slots, one per variant of an N:N table."""
        first, second = (self._populations[column.targets[0]].slots for column in shape.ends)
        count = min(256, first * second, self._populations[shape.logical_name].count)
        chosen = seeded(seed, shape.logical_name, "pairs").sample(range(first * second), count)
        return tuple(divmod(pair, second) for pair in chosen)

    def remove_table(self, entity: str) -> None:
        """Remove a table with its rows and its relationship; lookups that lead there must be gone before."""
        with self.lock:
            self.by_set.pop(self.tables.pop(entity).entity_set or "", None)
            self.relationships = tuple(one for one in self.relationships if one.intersect != entity)
            self._schema_changed()

    def table_of_set(self, entity_set: str) -> Table | None:
        """The table behind an entity set, or None."""
        return self.by_set.get(entity_set)

    def tracking_days(self) -> int:
        """Days for which deletions are remembered: the organisation's own setting, or 7."""
        table = self.tables.get("organization")
        first = next(iter(table.rows.by_key()), None) if table else None
        days = table.rows.value(first, "expirechangetrackingindays") if table and first is not None else None
        return days if isinstance(days, int) else 7

    def name_of(self, pointer: Pointer) -> str | None:
        """Primary name of the row a lookup points at, or None."""
        table = self.tables.get(pointer.table)
        found = table.rows.find(pointer.key) if table else None
        if table is None or found is None or table.shape.primary_name is None:
            return None
        name = table.rows.value(found, table.shape.primary_name)
        return None if name is None else str(name)

    def next_version(self) -> int:
        """Advance the database-wide row version."""
        self.version += 1
        return self.version

    def insert(self, entity: str, values: Mapping[str, object] | None = None) -> str:
        """Add a row; returns its key, which is *values*' own or the next in order."""
        with self.lock:
            rows = self.tables[entity].rows
            given = dict(values or {})
            key = str(given.pop(rows.shape.key, None) or self._new_key(rows)).lower()
            full = {column.name: _default(column) for column in rows.shape.columns}
            full |= self._stamps(rows.shape, created=True) | self._checked(rows.shape, given)
            rows.insert(Row(key, self.next_version(), _without_keys(full, rows.shape)))
            return key

    def _new_key(self, rows: Rows) -> str:
        position = rows.population.count + len(rows.own) + len(rows.buried)
        while rows.find(key := rows.population.key(position)) is not None or key in rows.buried:
            position += 1
        return key

    def update(self, entity: str, key: str, values: Mapping[str, object], *, touch: bool = True) -> None:
        """Change columns of a row; without *touch* only the version moves, as for a rollup."""
        with self.lock:
            rows = self.tables[entity].rows
            stamps = self._stamps(rows.shape, created=False) if touch else {}
            rows.update(key, stamps | self._checked(rows.shape, values), version=self.next_version())

    def delete(self, entity: str, key: str) -> None:
        """Delete a row; KeyError when there is none. Rows that point at it keep their lookups."""
        with self.lock:
            self.tables[entity].rows.delete(key, version=self.next_version())

    def restore(self, entity: str, key: str) -> None:
        """Bring a deleted row back from the recycle bin, with its id and a new version."""
        with self.lock:
            rows = self.tables[entity].rows
            row = rows.buried[key]
            stamps = self._stamps(rows.shape, created=False)
            rows.insert(Row(key, self.next_version(), row.values | stamps))

    def _stamps(self, shape: Shape, *, created: bool) -> dict[str, object]:
        names = ("createdon", "modifiedon") if created else ("modifiedon",)
        return {name: self.clock.text() for name in names if name in shape.by_name}

    def _checked(self, shape: Shape, values: Mapping[str, object]) -> dict[str, object]:
        """*values* as rows keep them; KeyError names a column the table lacks."""
        return {name: self._kept(shape.by_name[name], value) for name, value in values.items()}

    def _kept(self, column: Column, value: object) -> object:
        if value is None or not (column.kind in POINTING or column.targets):
            return value
        if isinstance(value, tuple):
            return Pointer(*value)
        key = str(value).lower()
        known = (target for target in column.targets if target in self.tables)
        found = next((target for target in known if self.tables[target].rows.find(key) is not None), None)
        return Pointer(found or (column.targets or ("",))[0], key)

    def expire_delta_tokens(self, entity: str | None = None) -> None:
        """Refuse every delta token handed out so far, of one table or of all."""
        with self.lock:
            oldest = self.next_version()
            for table in self.tables.values() if entity is None else [self.tables[entity]]:
                table.oldest_token = oldest

    def keys(self, entity: str) -> list[str]:
        """Keys of all rows, in key order."""
        with self.lock:
            rows = self.tables[entity].rows
            return [rows.key(found) for found in rows.by_key()]

    def record(self, entity: str, key: str) -> dict[str, object]:
        """Plain values of one row by column name; KeyError when there is none."""
        with self.lock:
            table = self.tables[entity]
            found = table.rows.find(key)
            if found is None:
                raise KeyError(key)
            return {column.name: table.rows.value(found, column.name) for column in table.shape.columns}

    def count(self, entity: str) -> int:
        """Number of rows, hidden ones included."""
        with self.lock:
            return self.tables[entity].rows.count()


def _default(column: Column) -> object:
    """What a new row holds where nobody says otherwise: the first state and status reason, else mostly nothing."""
    if column.kind in {Kind.STATE, Kind.STATUS} and column.options is not None:
        return next(iter(column.options.options), None)
    return column.fixed


def _without_keys(values: Mapping[str, object], shape: Shape) -> dict[str, object]:
    apart = {shape.key, shape.csdl_key, "versionnumber"}
    return {name: value for name, value in values.items() if name not in apart}
