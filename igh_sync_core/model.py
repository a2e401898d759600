"""Frozen values that cross modules: what a table is, and what an option is.

They are msgspec structs, so that the metadata cache can keep them as JSON.
"""

from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import NewType

from msgspec import Struct

LogicalName = NewType("LogicalName", str)
"""Name of a table in the singular, as metadata uses it: ``vin_candidate``."""

EntitySet = NewType("EntitySet", str)
"""Name of a table in the plural, as URLs and the database use it: ``vin_candidates``."""


class Kind(StrEnum):
    """What a column holds, from its Edm type."""

    STRING = "string"
    GUID = "guid"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    BOOLEAN = "boolean"
    DECIMAL = "decimal"
    DOUBLE = "double"
    DATETIME = "datetime"
    DATE = "date"
    BINARY = "binary"
    COMPLEX = "complex"


class OptionKind(StrEnum):
    """Which option-set metadata describes a column; the values are the Web API's cast names."""

    PICKLIST = "PicklistAttributeMetadata"
    MULTISELECT = "MultiSelectPicklistAttributeMetadata"
    STATE = "StateAttributeMetadata"
    STATUS = "StatusAttributeMetadata"
    BOOLEAN = "BooleanAttributeMetadata"


class Column(Struct, frozen=True):
    """One declared property of an entity.

    Attributes:
        name: Property name of the Web API, such as ``_ownerid_value``.
        kind: What it holds.
        max_length: Characters at most for strings; None where metadata names no length.
        option: Which kind of option set gives its codes a meaning; None for everything else.
    """

    name: str
    kind: Kind
    max_length: int | None = None
    option: OptionKind | None = None


class Lookup(Struct, frozen=True):
    """A column that points at records of other tables.

    Attributes:
        column: Property holding the target's id: ``_customerid_value``, or a plain Guid of an N:N table.
        targets: Logical names it may point at, sorted; empty where no metadata names them.
        is_polymorphic: Whether each row's own target type must be kept beside the id.
    """

    column: str
    targets: tuple[LogicalName, ...]
    is_polymorphic: bool = False

    @property
    def type_column(self) -> str:
        """Name of the companion that keeps the target's logical name: ``_customerid_type``."""
        return self.column.removesuffix("_value") + "_type"


class TableSpec(Struct, frozen=True, dict=True):
    """Everything the road needs to know of one entity; built by ``metadata`` alone.

    Attributes:
        logical_name: ``vin_candidate``.
        entity_set: ``vin_candidates``; also the name of the table in the database.
        key: Property that identifies a record (``PrimaryIdAttribute``).
        columns: Every property in document order, inherited ones first where their type comes first; names distinct.
        lookups: The columns that point at other tables.
        is_tracked: Whether the Web API offers change tracking for it.
        is_intersect: Whether it is the hidden table of an N:N relationship.
    """

    logical_name: LogicalName
    entity_set: EntitySet
    key: str
    columns: tuple[Column, ...]
    lookups: tuple[Lookup, ...] = ()
    is_tracked: bool = False
    is_intersect: bool = False

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of all columns."""
        return frozenset(column.name for column in self.columns)

    @cached_property
    def key_kind(self) -> Kind:
        """What the key is: a GUID but for tables of other sources."""
        return next(column.kind for column in self.columns if column.name == self.key)

    def key_of(self, text: str) -> str:
        """A key as it is stored: only a GUID is the same in whatever case."""
        return text.lower() if self.key_kind is Kind.GUID else text

    @property
    def has_modified_on(self) -> bool:
        """Whether records carry the time of their last change."""
        return "modifiedon" in self.names

    @property
    def has_version(self) -> bool:
        """Whether records carry the database-wide row version."""
        return "versionnumber" in self.names

    @cached_property
    def polymorphic(self) -> tuple[Lookup, ...]:
        """Lookups that have a companion column with the target's type."""
        return tuple(lookup for lookup in self.lookups if lookup.is_polymorphic)

    @cached_property
    def multiselects(self) -> tuple[Column, ...]:
        """Columns that hold any number of choices."""
        return tuple(column for column in self.columns if column.option is OptionKind.MULTISELECT)

    @cached_property
    def choices(self) -> tuple[Column, ...]:
        """All columns whose values are codes of an option set, multi-selects included."""
        return tuple(column for column in self.columns if column.option is not None)


class Option(Struct, frozen=True):
    """One label of one option of one column, in one language.

    Attributes:
        entity: Logical name of the table.
        field: Column name.
        code: The number that rows hold.
        language: LCID such as 1033; 0 where the language is unknown.
        label: What people read.
    """

    entity: LogicalName
    field: str
    code: int
    language: int
    label: str


class Organisation(Struct, frozen=True):
    """What one small request tells of the environment at the start of a run.

    Attributes:
        metadata_version: Moves with every schema or label edit; "" where the environment does not tell.
        server_time: The server's clock when it answered (UTC, whole seconds).
        token_days: Days that deletions are kept for change tracking.
        language: LCID of its base language.
        requests: What it took to learn this.
        identity: The organisation's own id; "" where it does not tell.
        asked: Our own clock when it answered, for other processes of the run to tell how long ago that was.
    """

    metadata_version: str
    server_time: datetime
    token_days: int
    language: int
    requests: int = 1
    identity: str = ""
    asked: datetime | None = None
