"""Which columns point at which synced tables: from ``TableSpec.lookups`` alone, never from column names.

Pure. A polymorphic column makes one relation per synced target; a row counts for the one that its own type names.
"""

import hashlib
from collections.abc import Iterable, Sequence

from msgspec import Struct

from igh_sync_core.model import Kind, LogicalName, Lookup, TableSpec


class Relation(Struct, frozen=True):
    """A column of one synced table that may point at records of another, or of the same.

    Attributes:
        source: Table that holds the column.
        column: The id: ``_customerid_value``, or a plain Guid of an N:N table.
        target: Table pointed at.
        type_column: Companion with each row's own target type; None where only one type is possible.
    """

    source: TableSpec
    column: str
    target: TableSpec
    type_column: str | None = None


class OpenEnd(Struct, frozen=True):
    """A column that may also point at tables that are not synced.

    Attributes:
        source: Table that holds the column.
        lookup: The column.
        beyond: Logical names that metadata gives and that are not synced; empty where metadata names no target at all.
        checked: Logical names that are synced, whose references are therefore known.
    """

    source: TableSpec
    lookup: Lookup
    beyond: tuple[LogicalName, ...]
    checked: tuple[LogicalName, ...]


def relations_of(specs: Sequence[TableSpec]) -> tuple[Relation, ...]:
    """Every relation between the given tables, in the order of tables and columns."""
    synced = {spec.logical_name: spec for spec in specs}
    return tuple(
        Relation(spec, lookup.column, synced[target], lookup.type_column if lookup.is_polymorphic else None)
        for spec in specs
        for lookup in spec.lookups
        for target in _synced_targets(spec, lookup, synced.values())
    )


def open_ends(specs: Sequence[TableSpec]) -> tuple[OpenEnd, ...]:
    """Every column of which some references cannot be checked between the given tables.

    Polymorphic ones are always among them: a row's own type may be one that metadata does not name.
    """
    ends = (_open_end(spec, lookup, specs) for spec in specs for lookup in spec.lookups)
    return tuple(end for end in ends if end.beyond or end.lookup.is_polymorphic)


def digest(relations: Iterable[Relation]) -> str:
    """Fingerprint of relations: a scan that followed other ones must be done again."""
    text = "\n".join(sorted(f"{one.source.logical_name} {one.column} {one.target.logical_name}" for one in relations))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _open_end(spec: TableSpec, lookup: Lookup, specs: Sequence[TableSpec]) -> OpenEnd:
    checked = tuple(_synced_targets(spec, lookup, specs))
    return OpenEnd(spec, lookup, tuple(target for target in lookup.targets if target not in checked), checked)


def _synced_targets(spec: TableSpec, lookup: Lookup, specs: Iterable[TableSpec]) -> list[LogicalName]:
    """Where metadata names no target every synced table is possible: each row's own type decides."""
    kind = _kind(spec, lookup.column)
    return [
        target.logical_name
        for target in specs
        if (target.logical_name in lookup.targets or not lookup.targets) and _kind(target, target.key) is kind
    ]


def _kind(spec: TableSpec, name: str) -> Kind:
    """Only values of one kind can be compared; ids of some virtual tables are no Guids."""
    return next(column.kind for column in spec.columns if column.name == name)
