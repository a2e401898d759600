"""Answers of the metadata endpoints: definitions of tables, columns, relationships and global choices.

Lists are never paged. Only ``$select``, ``$filter`` (``eq ne and or``) and ``$expand`` are understood, as in Dataverse.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from igh_sync_core.sandbox.data.organisation import Organisation
from igh_sync_core.sandbox.data.schema import ENGLISH, FRENCH, Shape
from igh_sync_core.sandbox.data.table import Table
from igh_sync_core.sandbox.metadata.attributes import CRM, Definition, define
from igh_sync_core.sandbox.metadata.labels import Json, label, metadata_id, option_set
from igh_sync_core.sandbox.metadata.privileges import defined
from igh_sync_core.sandbox.metadata.relationships import many_to_many, one_to_many
from igh_sync_core.sandbox.queries.conditions import matches
from igh_sync_core.sandbox.queries.filters import parse
from igh_sync_core.sandbox.queries.query import split
from igh_sync_core.sandbox.replies import Reply, json_reply, refuse, refuse_property, refuse_segment

SEGMENT = re.compile(r"(?P<name>[\w.]+)(?:\((?:(?P<by>\w+)=)?'?(?P<key>[^']*?)'?\))?")
KNOWN = frozenset({"$select", "$filter", "$expand"})
EXPANDABLE = ("Attributes", "ManyToManyRelationships", "OneToManyRelationships", "ManyToOneRelationships", "Keys")

Expand = Callable[[Json, str, Mapping[str, str]], object]


class Definitions:
    """Serves the schema of one organisation as data; call under its lock."""

    def __init__(self, organisation: Organisation) -> None:
        self._organisation = organisation

    def respond(self, path: str, query: str, root: str) -> Reply:
        """The answer for *path* below the API root.

        Raises:
            Refusal: An unknown segment or option.
        """
        segments = [_segment(part) for part in path.split("/")]
        options = _options(query)
        context = f"{root}$metadata#{_context(path)}"
        found = self._resolve(segments, options)
        if isinstance(found, list):
            return json_reply({"@odata.context": f"{context}{_selected(options)}", "value": found})
        return json_reply({"@odata.context": f"{context}{_selected(options)}/$entity"} | found)

    def _resolve(self, segments: Sequence[tuple[str, str, str]], options: Mapping[str, str]) -> list[Json] | Json:
        name, _, key = segments[0]
        if name == "RelationshipDefinitions":
            return self._relationships(segments, options)
        if name == "GlobalOptionSetDefinitions":
            return self._global_sets(key, options)
        if not key:
            tables = self._organisation.tables.values()
            return _list([self._entity(table) for table in tables], options, self._expand_entity)
        table = self._table(key)
        if len(segments) == 1:
            return _one(self._entity(table), options, self._expand_entity)
        return self._below(table, segments[1:], options)

    def _table(self, key: str) -> Table:
        tables = self._organisation.tables.values()
        ids = {metadata_id("entity", table.logical_name): table for table in tables}
        found = self._organisation.tables.get(key) or ids.get(key)
        return found or refuse(f"Could not find an entity with name {key}.", status=404)

    def _entity(self, table: Table) -> Json:
        return entity(table.shape)

    def _expand_entity(self, item: Json, name: str, options: Mapping[str, str]) -> object:
        if name not in EXPANDABLE:
            refuse_property(name, "EntityMetadata")
        table = self._organisation.tables[str(item["LogicalName"])]
        return self._below(table, [(name, "", "")], options)

    def _below(
        self, table: Table, segments: Sequence[tuple[str, str, str]], options: Mapping[str, str]
    ) -> list[Json] | Json:
        name, _, key = segments[0]
        if name == "Attributes":
            cast = segments[1][0].removeprefix(CRM) if len(segments) > 1 else ""
            return _attributes(table, key, cast, options)
        return _list(self._related(table, name), options, _expand_nothing)

    def _related(self, table: Table, name: str) -> list[Json]:
        match name:
            case "ManyToManyRelationships":
                return self._many_to_many(table)
            case "OneToManyRelationships":
                return self._one_to_many("ReferencedEntity", table)
            case "ManyToOneRelationships":
                return self._one_to_many("ReferencingEntity", table)
            case "Keys":
                return []
            case _:
                return refuse_segment(name)

    def _many_to_many(self, table: Table) -> list[Json]:
        ends = ("Entity1LogicalName", "Entity2LogicalName")
        return [each for each in many_to_many(self._organisation) if table.logical_name in {each[end] for end in ends}]

    def _one_to_many(self, end: str, table: Table) -> list[Json]:
        return [each for each in one_to_many(self._organisation) if each[end] == table.logical_name]

    def _relationships(self, segments: Sequence[tuple[str, str, str]], options: Mapping[str, str]) -> list[Json]:
        kind = segments[1][0].removeprefix(CRM) if len(segments) > 1 else ""
        items: list[Json] = []
        if kind in {"", "ManyToManyRelationshipMetadata"}:
            items += many_to_many(self._organisation)
        if kind in {"", "OneToManyRelationshipMetadata"}:
            items += one_to_many(self._organisation)
        return _list(items, options, _expand_nothing)

    def _global_sets(self, key: str, options: Mapping[str, str]) -> list[Json] | Json:
        found = {
            column.options.name: option_set(column, column.options, column.options.name)
            for table in self._organisation.tables.values()
            for column in table.shape.columns
            if column.options is not None and column.options.is_global
        }
        if not key:
            return _list(list(found.values()), options, _expand_nothing)
        one = next((one for one in found.values() if key in {one["Name"], one["MetadataId"]}), None)
        return _one(
            one or refuse(f"Could not find an optionset with name {key}.", status=404), options, _expand_nothing
        )


def entity(shape: Shape) -> Json:
    """Definition of one table."""
    name = shape.logical_name
    return {
        "MetadataId": metadata_id("entity", name),
        "HasChanged": None,
        "LogicalName": name,
        "SchemaName": name,
        "EntitySetName": shape.entity_set,
        "LogicalCollectionName": shape.entity_set,
        "PrimaryIdAttribute": shape.key,
        "PrimaryNameAttribute": shape.primary_name,
        "ObjectTypeCode": shape.type_code,
        "OwnershipType": shape.ownership,
        "ChangeTrackingEnabled": shape.is_tracked,
        "CanChangeTrackingBeEnabled": _managed(value=True, name="canchangetrackingbeenabled"),
        "IsIntersect": shape.is_intersect,
        "IsActivity": shape.base == "activitypointer",
        "IsActivityParty": name in {"account", "contact", "systemuser"},
        "IsCustomEntity": name.startswith("vin_"),
        "IsLogicalEntity": False,
        "IsPrivate": False,
        "IsBPFEntity": False,
        "IsChildEntity": False,
        "IsOptimisticConcurrencyEnabled": "versionnumber" in shape.by_name,
        "IsAuditEnabled": _managed(value=False, name="canmodifyauditsettings"),
        "HasNotes": False,
        "DaysSinceRecordLastModified": 0,
        "DataProviderId": "1d9bde74-9ebd-4da9-8ff5-aa74945b9f74" if shape.is_elastic else None,
        "DataSourceId": None,
        "ExternalName": None,
        "Privileges": defined(shape),
        "TableType": "Elastic" if shape.is_elastic else "Standard",
        "IntroducedVersion": "1.0.0.0",
        "CreatedOn": "1900-01-01T00:00:00Z",
        "ModifiedOn": "2024-06-01T02:41:52Z",
        "DisplayCollectionName": label({ENGLISH: shape.entity_set.removeprefix("vin_").capitalize()}, "entities", name),
        "DisplayName": label({ENGLISH: name.removeprefix("vin_"), FRENCH: f"{name} (fr)"}, "entity", name),
    }


def _managed(*, value: bool, name: str) -> Json:
    return {"Value": value, "CanBeChanged": True, "ManagedPropertyLogicalName": name}


def _attributes(table: Table, key: str, cast: str, options: Mapping[str, str]) -> list[Json] | Json:
    found = define(table.shape, cast)
    items = {str(each.base["LogicalName"]): _attribute(table, each, is_cast=bool(cast)) for each in found}
    expandable = {str(each.base["LogicalName"]): each.expandable if cast else {} for each in found}

    def expand(item: Json, name: str, nested: Mapping[str, str]) -> object:
        inner = expandable[str(item["LogicalName"])]
        if name not in inner:
            refuse_property(name, f"{cast or 'AttributeMetadata'}")
        value = inner[name]
        return _one(value, nested, _expand_nothing) if isinstance(value, dict) else value

    if not key:
        return _list(list(items.values()), options, expand)
    one = next((item for item in items.values() if key in {item["LogicalName"], item["MetadataId"]}), None)
    return _one(one or refuse(f"Could not find an attribute with name {key}.", status=404), options, expand)


def _attribute(table: Table, definition: Definition, *, is_cast: bool) -> Json:
    """The attribute as listed; without a cast its subtype shows in ``@odata.type``, absent for the base type."""
    typed = definition.metadata_type and not is_cast
    head: Json = {"@odata.type": f"#{CRM}{definition.metadata_type}"} if typed else {}
    names = {column.attribute for column in table.shape.columns if column.name in table.secured}
    secured = {"IsSecured": True} if definition.base["LogicalName"] in names else {}
    return head | definition.base | secured | definition.facets


def _expand_nothing(_item: Json, name: str, _options: Mapping[str, str]) -> object:
    refuse(f"The property '{name}' cannot be expanded.")


def _segment(text: str) -> tuple[str, str, str]:
    found = SEGMENT.fullmatch(text)
    if found is None:
        refuse_segment(text)
    return found["name"], found["by"] or "", found["key"] or ""


def _options(query: str) -> dict[str, str]:
    options = dict(split(query))
    for name in options:
        if name not in KNOWN and not name.startswith("@"):
            refuse(f"The query parameter {name} is not supported")
    return options


def _context(path: str) -> str:
    """*path* as contexts spell it: a table alone loses its key, a table on the way keeps it unnamed."""
    if "/" not in path:
        return path.partition("(")[0]
    return re.sub(r"\(LogicalName=('[^']*')\)", r"(\1)", path)


def _selected(options: Mapping[str, str]) -> str:
    parts = [part for part in (options.get("$select"), _expanded_context(options.get("$expand", ""))) if part]
    return f"({','.join(parts)})" if parts else ""


def _expanded_context(text: str) -> str:
    return ",".join(f"{name}({nested.get('$select', '')})" for name, nested in _expansions(text))


def _list(items: Iterable[Json], options: Mapping[str, str], expand: Expand) -> list[Json]:
    chosen = list(items)
    if options.get("$filter"):
        chosen = list(_filtered(chosen, options["$filter"]))
    return [_one(item, {**options, "$filter": ""}, expand) for item in chosen]


def _filtered(items: Sequence[Json], text: str) -> Iterator[Json]:
    function = re.search(r"\b(startswith|endswith|contains)\s*\(", text)
    if function:
        refuse(f'The "{function[1]}" function isn\'t supported for Metadata Entities.', "0x8006088a")
    condition = parse(text)
    return (item for item in items if matches(condition, partial(_value, item)))


def _value(item: Mapping[str, object], path: str) -> object:
    name, _, rest = path.partition("/")
    if name not in item:
        refuse_property(name, "MetadataBase")
    value = item[name]
    return _value(value, rest) if rest and isinstance(value, Mapping) else value


def _one(item: Json, options: Mapping[str, str], expand: Expand) -> Json:
    """*item* with the selected properties, its id always among them."""
    names = [name.strip() for name in options.get("$select", "").split(",") if name.strip()]
    unknown = [name for name in names if name not in item]
    if unknown:
        refuse_property(unknown[0], str(item.get("@odata.type", "EntityMetadata")).rpartition(".")[2])
    wanted = {"@odata.type", *names, "MetadataId"} if names else set(item)
    expansions = _expansions(options.get("$expand", ""))
    return {name: value for name, value in item.items() if name in wanted} | {
        name: expand(item, name, nested) for name, nested in expansions
    }


def _expansions(text: str) -> list[tuple[str, dict[str, str]]]:
    """``A($select=x;$filter=y),B`` as names with their own options."""
    found = re.findall(r"(\w+)(?:\(((?:[^()]|\([^()]*\))*)\))?", text)
    return [(name, dict(_pair(part) for part in nested.split(";") if part)) for name, nested in found]


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value
