"""What a Dataverse table is made of: columns, their kinds, and the option sets behind choices.

Values of the sandbox alone; it shares no code with the program it is there to test. Names are the vendor's:
a *property* is what the Web API calls a column (``_ownerid_value``), its *attribute* what definitions call it
(``ownerid``).
"""

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """Kind of a column, by the name of its attribute metadata."""

    STRING = "String"
    MEMO = "Memo"
    PICKLIST = "Picklist"
    MULTISELECT = "MultiSelectPicklist"
    STATE = "State"
    STATUS = "Status"
    BOOLEAN = "Boolean"
    INTEGER = "Integer"
    BIGINT = "BigInt"
    DECIMAL = "Decimal"
    MONEY = "Money"
    DOUBLE = "Double"
    DATETIME = "DateTime"
    DATE = "Date"
    LOOKUP = "Lookup"
    OWNER = "Owner"
    CUSTOMER = "Customer"
    GUID = "Uniqueidentifier"
    IMAGE = "Image"
    MANAGED = "ManagedProperty"


class Facets(NamedTuple):
    """How metadata names a kind; *metadata_type* is empty where Dataverse uses the base class."""

    edm: str
    attribute_type: str
    type_name: str
    metadata_type: str


FACETS = {
    Kind.STRING: Facets("Edm.String", "String", "StringType", "StringAttributeMetadata"),
    Kind.MEMO: Facets("Edm.String", "Memo", "MemoType", "MemoAttributeMetadata"),
    Kind.PICKLIST: Facets("Edm.Int32", "Picklist", "PicklistType", "PicklistAttributeMetadata"),
    Kind.MULTISELECT: Facets(
        "Edm.String", "Virtual", "MultiSelectPicklistType", "MultiSelectPicklistAttributeMetadata"
    ),
    Kind.STATE: Facets("Edm.Int32", "State", "StateType", "StateAttributeMetadata"),
    Kind.STATUS: Facets("Edm.Int32", "Status", "StatusType", "StatusAttributeMetadata"),
    Kind.BOOLEAN: Facets("Edm.Boolean", "Boolean", "BooleanType", "BooleanAttributeMetadata"),
    Kind.INTEGER: Facets("Edm.Int32", "Integer", "IntegerType", "IntegerAttributeMetadata"),
    Kind.BIGINT: Facets("Edm.Int64", "BigInt", "BigIntType", "BigIntAttributeMetadata"),
    Kind.DECIMAL: Facets("Edm.Decimal", "Decimal", "DecimalType", "DecimalAttributeMetadata"),
    Kind.MONEY: Facets("Edm.Decimal", "Money", "MoneyType", "MoneyAttributeMetadata"),
    Kind.DOUBLE: Facets("Edm.Double", "Double", "DoubleType", "DoubleAttributeMetadata"),
    Kind.DATETIME: Facets("Edm.DateTimeOffset", "DateTime", "DateTimeType", "DateTimeAttributeMetadata"),
    Kind.DATE: Facets("Edm.Date", "DateTime", "DateTimeType", "DateTimeAttributeMetadata"),
    Kind.LOOKUP: Facets("Edm.Guid", "Lookup", "LookupType", "LookupAttributeMetadata"),
    Kind.OWNER: Facets("Edm.Guid", "Owner", "OwnerType", "LookupAttributeMetadata"),
    Kind.CUSTOMER: Facets("Edm.Guid", "Customer", "CustomerType", "LookupAttributeMetadata"),
    Kind.GUID: Facets("Edm.Guid", "Uniqueidentifier", "UniqueidentifierType", ""),
    Kind.IMAGE: Facets("Edm.Binary", "Virtual", "ImageType", "ImageAttributeMetadata"),
    Kind.MANAGED: Facets(
        "mscrm.BooleanManagedProperty", "ManagedProperty", "ManagedPropertyType", "ManagedPropertyAttributeMetadata"
    ),
}

KIND_OF_EDM = {
    "Edm.String": Kind.STRING,
    "Edm.Int16": Kind.INTEGER,
    "Edm.Int32": Kind.INTEGER,
    "Edm.Int64": Kind.BIGINT,
    "Edm.Boolean": Kind.BOOLEAN,
    "Edm.Decimal": Kind.DECIMAL,
    "Edm.Double": Kind.DOUBLE,
    "Edm.DateTimeOffset": Kind.DATETIME,
    "Edm.Date": Kind.DATE,
    "Edm.Guid": Kind.GUID,
    "Edm.Binary": Kind.IMAGE,
    "mscrm.BooleanManagedProperty": Kind.MANAGED,
}

ENGLISH = 1033
"""LCID of the sync user, whose labels ``FormattedValue`` and ``UserLocalizedLabel`` show."""
FRENCH = 1036

POINTING = frozenset({Kind.LOOKUP, Kind.OWNER, Kind.CUSTOMER})
CODED = frozenset({Kind.PICKLIST, Kind.MULTISELECT, Kind.STATE, Kind.STATUS, Kind.BOOLEAN})


@dataclass(slots=True)
class Option:
    """One option: a label per language (LCID), and for status reasons the state it belongs to."""

    labels: dict[int, str]
    state: int | None = None


@dataclass(slots=True)
class OptionSet:
    """The options of one column, or of several when it is global; codes in display order."""

    name: str
    options: dict[int, Option]
    is_global: bool = False

    def label(self, code: int, language: int = ENGLISH) -> str | None:
        """Label of *code* in the caller's language, or None where there is none."""
        option = self.options.get(code)
        return option.labels.get(language) if option else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Column:
    """One property of a table.

    Attributes:
        name: Property name of the Web API; lookups are ``_<attribute>_value``, except the plain Guids of N:N tables.
        kind: What it is to Dataverse; gives the Edm type.
        declared_by: Abstract base type that declares it, or "" for the table itself.
        targets: Logical names a lookup may point at.
        navigations: Navigation property per target; empty where ``$metadata`` has none for this lookup.
        is_writable: False for system-kept lookups, whose values name no navigation property.
        precision: Digits after the point that a decimal is served with.
        fixed: Value of every row, for columns such as settings.
        null_share: Share of rows without a value, 0 to 1.
        behavior: ``UserLocal``, ``DateOnly`` or ``TimeZoneIndependent`` for dates.
    """

    name: str
    kind: Kind
    declared_by: str = ""
    options: OptionSet | None = None
    targets: tuple[str, ...] = ()
    navigations: tuple[str, ...] = ()
    is_writable: bool = True
    max_length: int | None = None
    precision: int | None = None
    fixed: object = None
    null_share: float = 0.1
    behavior: str = "UserLocal"

    @property
    def edm(self) -> str:
        """Type in ``$metadata``, such as ``Edm.Int32``."""
        return FACETS[self.kind].edm

    @property
    def attribute(self) -> str:
        """Logical name in definitions: ``ownerid`` for ``_ownerid_value``."""
        found = re.fullmatch(r"_(.+)_value", self.name)
        return found[1] if found else self.name


@dataclass(slots=True, kw_only=True)
class Shape:
    """Definition of one table; *columns* holds inherited ones first, in document order.

    Attributes:
        key: ``PrimaryIdAttribute``; what addresses a row.
        csdl_key: Key that ``$metadata`` states, where it differs (``ownerid`` of users and teams).
        mirrors: Table whose rows this abstract one shows (``activitypointers`` shows tasks).
        ends: For N:N tables, the two columns and what each points at.
    """

    logical_name: str
    entity_set: str
    key: str
    columns: list[Column]
    primary_name: str | None = None
    csdl_key: str = ""
    base: str = "crmbaseentity"
    is_abstract: bool = False
    is_tracked: bool = True
    is_intersect: bool = False
    is_elastic: bool = False
    ownership: str = "UserOwned"
    type_code: int = 0
    mirrors: str | None = None
    by_attribute: dict[str, Column] = field(init=False, default_factory=dict)
    by_name: dict[str, Column] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.csdl_key = self.csdl_key or self.key
        self.reindex()

    def reindex(self) -> None:
        """Renew the look-ups by name after *columns* changed."""
        self.by_name = {column.name: column for column in self.columns}
        self.by_attribute = {column.attribute: column for column in self.columns}

    def put(self, column: Column) -> None:
        """Add *column*, or replace the one of the same name where it stands."""
        if column.name in self.by_name:
            self.columns = [column if old.name == column.name else old for old in self.columns]
        else:
            self.columns.append(column)
        self.reindex()

    def drop(self, name: str) -> None:
        """Remove the column *name*; KeyError when there is none."""
        self.columns.remove(self.by_name[name])
        self.reindex()

    @property
    def max_page_rows(self) -> int:
        """Default and largest page, in rows."""
        return 500 if self.is_elastic else 5000

    @property
    def ends(self) -> tuple[Column, Column]:
        """The two columns of an N:N table that point at its ends."""
        first, second = (column for column in self.columns if column.targets)
        return first, second


def retype(column: Column, edm_type: str) -> Column:
    """*column* as a plain column of *edm_type*, without options or targets.

    Raises:
        KeyError: *edm_type* is none that business tables use.
    """
    kind = KIND_OF_EDM[edm_type]
    return replace(column, kind=kind, options=None, targets=(), navigations=(), fixed=None, precision=None)
