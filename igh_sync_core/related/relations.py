"""Which columns point at which synced tables: from ``TableSpec.lookups`` alone, never from column names.

Pure. A polymorphic column makes one relation per synced target; a row counts for the one that its own type names.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from igh_sync_core.model import LogicalName, Lookup, TableSpec


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
    synced = _by_name(specs)
    return tuple(
        Relation(spec, lookup.column, synced[target], lookup.type_column if lookup.is_polymorphic else None)
        for spec in specs
        for lookup in spec.lookups
        for target in _synced_targets(spec, lookup, synced)
    )


def open_ends(specs: Sequence[TableSpec]) -> tuple[OpenEnd, ...]:
    """Every column of which some references cannot be checked between the given tables.

    Polymorphic ones are always among them: a row's own type may be one that metadata does not name.
    """
    synced = _by_name(specs)
    ends = (_open_end(spec, lookup, synced) for spec in specs for lookup in spec.lookups)
    return tuple(end for end in ends if end.beyond or end.lookup.is_polymorphic)


def digest(relations: Iterable[Relation]) -> str:
    """Fingerprint of relations: a scan that followed other ones must be done again."""
    text = "\n".join(sorted(f"{one.source.logical_name} {one.column} {one.target.logical_name}" for one in relations))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _by_name(specs: Iterable[TableSpec]) -> dict[LogicalName, TableSpec]:
    return {spec.logical_name: spec for spec in specs}


def _open_end(spec: TableSpec, lookup: Lookup, synced: Mapping[LogicalName, TableSpec]) -> OpenEnd:
    checked = tuple(_synced_targets(spec, lookup, synced))
    return OpenEnd(spec, lookup, tuple(target for target in lookup.targets if target not in checked), checked)


def _synced_targets(spec: TableSpec, lookup: Lookup, synced: Mapping[LogicalName, TableSpec]) -> list[LogicalName]:
    """Where metadata names no target every synced table is possible: each row's own type decides.

    Only values of one kind can be compared; ids of some virtual tables are no Guids.
    """
    possible = [name for name in synced if name in lookup.targets] if lookup.targets else [*synced]
    kind = next(column.kind for column in spec.columns if column.name == lookup.column)
    return [name for name in possible if synced[name].key_kind is kind]
