"""CSDL and definitions → TableSpec; the key of every table is decided here and nowhere else.

The key is ``PrimaryIdAttribute``. The CSDL's own Key is not used where a definition exists, because it names
``ownerid`` for systemuser and team, while rows are addressed by ``systemuserid`` and ``teamid``.

Targets of a lookup are the union of what the CSDL binds by ReferentialConstraint, what ``LookupAttributeMetadata``
names and, for an intersect table, the ends of its relationship. More than one target makes it polymorphic. So does
none at all: a type that metadata cannot tell comes with each record's ``lookuplogicalname``, and must be kept.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from igh_sync_core.errors import SchemaError
from igh_sync_core.metadata.csdl import Csdl
from igh_sync_core.metadata.definitions import Definition, ManyToMany
from igh_sync_core.metadata.listing import is_identifier
from igh_sync_core.metadata.options import OptionSet
from igh_sync_core.model import Column, Kind, LogicalName, Lookup, TableSpec

_KINDS = {
    "Edm.String": Kind.STRING,
    "Edm.Guid": Kind.GUID,
    "Edm.Int16": Kind.INT16,
    "Edm.Int32": Kind.INT32,
    "Edm.Int64": Kind.INT64,
    "Edm.Boolean": Kind.BOOLEAN,
    "Edm.Decimal": Kind.DECIMAL,
    "Edm.Double": Kind.DOUBLE,
    "Edm.Single": Kind.DOUBLE,
    "Edm.DateTimeOffset": Kind.DATETIME,
    "Edm.Date": Kind.DATE,
    "Edm.Binary": Kind.BINARY,
}

_LOOKUP = re.compile(r"_(.+)_value")


class Attributes(Struct, frozen=True):
    """What the attribute casts say of one table's columns; leave out what was not asked.

    Attributes:
        lookup_targets: By the column's logical name (``ownerid``), see ``parse_lookup_targets``.
        lengths: By column name, String and Memo together, see ``parse_lengths``.
        options: Of any kind; sets of other tables are passed over.
    """

    lookup_targets: dict[str, tuple[LogicalName, ...]] = {}
    lengths: dict[str, int] = {}
    options: tuple[OptionSet, ...] = ()


def definition_from_csdl(csdl: Csdl, logical_name: LogicalName) -> Definition:
    """A definition for a table that EntityDefinitions does not show, from what the CSDL declares.

    Its key is the CSDL's Key, or an id of its own in place of an inherited one; change tracking counts as off.

    Raises:
        SchemaError: The table is not declared, or its Key is not exactly one property.
    """
    if logical_name not in csdl.types:
        msg = f"{logical_name}: not declared by $metadata"
        raise SchemaError(msg)
    key = csdl.key(logical_name)
    if len(key) != 1:
        msg = f"{logical_name}: $metadata declares the key {list(key)}, and exactly one property is needed"
        raise SchemaError(msg)
    entity_set = csdl.sets_by_type.get(logical_name)
    return Definition(
        logical_name, entity_set_name=entity_set, primary_id_attribute=_own_id(csdl, logical_name, key[0])
    )


def _own_id(csdl: Csdl, logical_name: LogicalName, key: str) -> str:
    """The id of systemuser and team is their own, though they repeat the Key of their base, ``ownerid``."""
    own = dict(csdl.types[logical_name].properties)
    own_id = f"{logical_name}id"
    return own_id if key not in own and own.get(own_id) == "Edm.Guid" else key


def build_spec(
    csdl: Csdl,
    definition: Definition,
    *,
    attributes: Attributes | None = None,
    many_to_many: Sequence[ManyToMany] = (),
    definitions: Mapping[LogicalName, Definition] | None = None,
) -> TableSpec:
    """Everything the road needs to know of one table.

    Args:
        csdl: The organisation's model; gives columns, their types and most lookup targets.
        definition: The table's own; gives key, entity set, change tracking.
        attributes: The table's lookup targets, lengths and option sets.
        many_to_many: The organisation's N:N relationships; give an intersect table's targets.
        definitions: The organisation's tables; an intersect table is tracked only if both its ends are found here, and
            tracked. Without them it counts as not tracked, which costs time and loses nothing.

    Returns:
        Columns in document order, inherited ones first; lookups in the order of their columns.

    Raises:
        SchemaError: Not declared by $metadata, no entity set, the key is not a column, or names cannot be stored.
        ProtocolViolation: The CSDL lacks a base type of the table.
    """
    entity = definition.logical_name
    attributes = attributes or Attributes()
    own_relationships = [one for one in many_to_many if one.intersect_entity_name == entity]
    type_name = _type_name(csdl, definition)
    columns = tuple(_columns(csdl.all_properties(type_name), entity=entity, attributes=attributes))
    targets = _Targets(csdl, _bound(csdl, type_name), _named(attributes, own_relationships))
    spec = TableSpec(
        logical_name=entity,
        entity_set=definition.entity_set_name or csdl.sets_by_type[type_name],
        key=definition.primary_id_attribute or "",
        columns=columns,
        lookups=tuple(_lookups(columns, targets)),
        is_tracked=_is_tracked(definition, own_relationships, definitions or {}),
        is_intersect=definition.is_intersect is True,
    )
    _check_key(spec)
    _check_names(spec)
    return spec


class _Targets(Struct, frozen=True):
    """Where the columns of one table may point.

    Attributes:
        csdl: Expands abstract types.
        bound: Type names by column (``_ownerid_value``), from ReferentialConstraints.
        named: Logical names by the column's logical name (``ownerid``), from definitions.
    """

    csdl: Csdl
    bound: dict[str, set[str]]
    named: dict[str, set[str]]

    def of(self, column: Column) -> tuple[LogicalName, ...] | None:
        """Sorted logical names, () for a lookup that nothing explains, None for a column that is no lookup."""
        match = _LOOKUP.fullmatch(column.name)
        attribute = match[1] if match else column.name
        found = self.bound.get(column.name, set()) | self.named.get(attribute, set())
        if match is None and (not found or column.kind is not Kind.GUID):
            return None
        return tuple(sorted({LogicalName(name) for target in found for name in self.csdl.concrete(target)}))


def _type_name(csdl: Csdl, definition: Definition) -> str:
    """The set says which type its records have; a type's name need not be the logical name."""
    entity, entity_set = definition.logical_name, definition.entity_set_name
    type_name = csdl.sets.get(entity_set, entity) if entity_set else entity
    if type_name not in csdl.types:
        msg = f"{entity}: not declared by $metadata"
        raise SchemaError(msg)
    if not entity_set and type_name not in csdl.sets_by_type:
        msg = f"{entity}: has no entity set, so it cannot be queried"
        raise SchemaError(msg)
    return type_name


def _columns(properties: Iterable[tuple[str, str]], *, entity: LogicalName, attributes: Attributes) -> Iterator[Column]:
    option_kinds = {one.field: one.kind for one in attributes.options if one.entity == entity}
    for name, edm_type in properties:
        # Complex types, enums, collections and what the vendor may add later are all kept as JSON text.
        kind = _KINDS.get(edm_type, Kind.COMPLEX)
        max_length = attributes.lengths.get(name) if kind is Kind.STRING else None
        yield Column(name, kind, max_length, option_kinds.get(name))


def _bound(csdl: Csdl, type_name: str) -> dict[str, set[str]]:
    """Target types by constrained column. Typed activity properties have no constraint and say nothing new."""
    bound: dict[str, set[str]] = {}
    for navigation in csdl.all_navigations(type_name):
        if navigation.column is not None and not navigation.is_collection:
            bound.setdefault(navigation.column, set()).add(navigation.target)
    return bound


def _named(attributes: Attributes, relationships: Iterable[ManyToMany]) -> dict[str, set[str]]:
    named: dict[str, set[str]] = {name: set(targets) for name, targets in attributes.lookup_targets.items()}
    for relationship in relationships:
        for column, target in relationship.ends:
            named.setdefault(column, set()).add(target)
    return named


def _lookups(columns: Iterable[Column], targets: _Targets) -> Iterator[Lookup]:
    for column in columns:
        found = targets.of(column)
        if found is not None:
            yield Lookup(column.name, found, is_polymorphic=len(found) != 1)


def _is_tracked(
    definition: Definition, relationships: Sequence[ManyToMany], definitions: Mapping[LogicalName, Definition]
) -> bool:
    """An intersect table can be tracked exactly if both ends are (error 0x80072492 otherwise)."""
    if not definition.is_intersect:
        return definition.change_tracking_enabled is True
    ends = [definitions.get(target) for relationship in relationships for _, target in relationship.ends]
    return bool(ends) and all(end is not None and end.change_tracking_enabled is True for end in ends)


def _check_key(spec: TableSpec) -> None:
    if not spec.key:
        msg = f"{spec.logical_name}: its definition names no PrimaryIdAttribute"
        raise SchemaError(msg)
    if spec.key not in spec.names:
        msg = f"{spec.logical_name}: PrimaryIdAttribute {spec.key!r} is not among its {len(spec.columns)} columns"
        raise SchemaError(msg)


def _check_names(spec: TableSpec) -> None:
    """Names go into SQL and URLs, and SQLite does not tell them apart by case."""
    names = [*(column.name for column in spec.columns), *(lookup.type_column for lookup in spec.polymorphic)]
    bad = [name for name in (spec.logical_name, spec.entity_set, *names) if not is_identifier(name)]
    if bad:
        msg = f"{spec.logical_name}: these names are no identifiers: {bad}"
        raise SchemaError(msg)
    folded: dict[str, list[str]] = {}
    for name in names:
        folded.setdefault(name.casefold(), []).append(name)
    clashes = [same for same in folded.values() if len(same) > 1]
    if clashes:
        msg = f"{spec.logical_name}: these column names are the same to a database: {clashes}"
        raise SchemaError(msg)
