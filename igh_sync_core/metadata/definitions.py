"""Table, lookup, length and N:N definitions: the facts that the CSDL does not tell.

Each address (relative to the API root) stands beside the parser of its reply. What is selected is read off the
struct, so a question and its answer cannot drift apart.

Source: https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query-metadata-web-api
"""

from msgspec import Struct
from msgspec.json import Decoder
from msgspec.structs import fields

from igh_sync_core.metadata.listing import cast_url, decode_items
from igh_sync_core.model import EntitySet, LogicalName


class Definition(Struct, frozen=True, rename="pascal"):
    """What EntityDefinitions says of one table; None is a null or a member that the reply does not have.

    Attributes:
        logical_name: ``vin_candidate``.
        schema_name: ``vin_Candidate``.
        entity_set_name: ``vin_candidates``; None or "" for a table that cannot be queried.
        primary_id_attribute: Column that identifies a record.
        primary_name_attribute: Column that people call it by; some tables have none.
        change_tracking_enabled: Whether change tracking is switched on.
        is_intersect: Whether it is the hidden table of an N:N relationship.
        table_type: ``Standard``, ``Elastic`` or another word of the vendor's.
        data_provider_id: None for tables that Dataverse itself stores.
        object_type_code: The table's number; differs between organisations for custom tables.
        is_private: Whether it is kept from users.
        is_logical_entity: Whether it has no storage of its own.
    """

    logical_name: LogicalName
    schema_name: str | None = None
    entity_set_name: EntitySet | None = None
    primary_id_attribute: str | None = None
    primary_name_attribute: str | None = None
    change_tracking_enabled: bool | None = None
    is_intersect: bool | None = None
    table_type: str | None = None
    data_provider_id: str | None = None
    object_type_code: int | None = None
    is_private: bool | None = None
    is_logical_entity: bool | None = None


class ManyToMany(Struct, frozen=True, rename="pascal"):
    """One N:N relationship: the intersect table and, for both its ends, the table and the column that holds its id."""

    intersect_entity_name: LogicalName
    entity1_logical_name: LogicalName
    entity1_intersect_attribute: str
    entity2_logical_name: LogicalName
    entity2_intersect_attribute: str

    @property
    def ends(self) -> tuple[tuple[str, LogicalName], tuple[str, LogicalName]]:
        """(column of the intersect table, table it points at) for both ends."""
        return (
            (self.entity1_intersect_attribute, self.entity1_logical_name),
            (self.entity2_intersect_attribute, self.entity2_logical_name),
        )


class _Lookup(Struct, frozen=True, rename="pascal"):
    logical_name: str
    targets: tuple[LogicalName, ...] | None = None


class _Text(Struct, frozen=True, rename="pascal"):
    logical_name: str
    max_length: int | None = None


_DEFINITION = Decoder(Definition)
_LOOKUP = Decoder(_Lookup)
_TEXT = Decoder(_Text)
_MANY_TO_MANY = Decoder(ManyToMany)


def _select(struct: type[Struct]) -> str:
    return "$select=" + ",".join(field.encode_name for field in fields(struct))


DEFINITIONS_URL = f"EntityDefinitions?{_select(Definition)}"
"""All tables of the organisation, in one reply."""

MANY_TO_MANY_URL = (
    f"RelationshipDefinitions/Microsoft.Dynamics.CRM.ManyToManyRelationshipMetadata?{_select(ManyToMany)}"
)
"""All N:N relationships of the organisation, in one reply."""


def lookup_targets_url(logical_name: LogicalName) -> str:
    """Address of the targets of a table's lookups, owner columns included."""
    return f"{cast_url(logical_name, 'LookupAttributeMetadata')}?{_select(_Lookup)}"


def string_lengths_url(logical_name: LogicalName) -> str:
    """Address of the lengths of a table's single-line texts."""
    return f"{cast_url(logical_name, 'StringAttributeMetadata')}?{_select(_Text)}"


def memo_lengths_url(logical_name: LogicalName) -> str:
    """Address of the lengths of a table's multi-line texts."""
    return f"{cast_url(logical_name, 'MemoAttributeMetadata')}?{_select(_Text)}"


def parse_definitions(body: bytes) -> dict[LogicalName, Definition]:
    """All tables by logical name, from the reply to ``DEFINITIONS_URL``; ProtocolViolation if malformed."""
    found = decode_items(body, _DEFINITION, what="EntityDefinitions")
    return {definition.logical_name: definition for definition in found}


def parse_lookup_targets(body: bytes) -> dict[str, tuple[LogicalName, ...]]:
    """Tables each lookup may point at, by the column's logical name (``ownerid``, not ``_ownerid_value``).

    A lookup whose targets are null or none maps to (). ProtocolViolation if malformed.
    """
    found = decode_items(body, _LOOKUP, what="LookupAttributeMetadata")
    return {lookup.logical_name: lookup.targets or () for lookup in found}


def parse_lengths(body: bytes) -> dict[str, int]:
    """Characters at most of each text column that names a length (String and Memo); ProtocolViolation if malformed."""
    found = decode_items(body, _TEXT, what="StringAttributeMetadata")
    return {text.logical_name: text.max_length for text in found if text.max_length is not None}


def parse_many_to_many(body: bytes) -> tuple[ManyToMany, ...]:
    """All N:N relationships in the reply's order; ProtocolViolation if malformed."""
    return decode_items(body, _MANY_TO_MANY, what="ManyToManyRelationshipMetadata")
