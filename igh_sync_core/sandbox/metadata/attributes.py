"""Definitions of columns: what ``EntityDefinitions(…)/Attributes`` lists."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from igh_sync_core.sandbox.data.schema import CODED, ENGLISH, FACETS, POINTING, Column, Kind, Shape
from igh_sync_core.sandbox.metadata.labels import Json, has_options, label, metadata_id, option_set

CRM = "Microsoft.Dynamics.CRM."


class Definition(NamedTuple):
    """One attribute: its own properties, and those that only its subtype has."""

    metadata_type: str
    base: Json
    facets: Json
    expandable: Json


def define(shape: Shape, cast: str = "") -> list[Definition]:
    """Attributes of a table by logical name, the label shadows that ``$metadata`` lacks included.

    Args:
        shape: The table.
        cast: The one metadata type wanted; "" for all.
    """
    columns = (column for column in shape.columns if cast in {"", FACETS[column.kind].metadata_type})
    shadowed = (column for column in shape.columns if column.kind in CODED | POINTING)
    shadows = (column for column in shadowed if cast in {"", _shadow_type(column)})
    definitions = [*(_define(shape, column) for column in columns), *(_shadow(shape, column) for column in shadows)]
    return sorted(definitions, key=lambda definition: str(definition.base["LogicalName"]))


def _define(shape: Shape, column: Column) -> Definition:
    facets = FACETS[column.kind]
    base = _base(shape, column.attribute) | {
        "AttributeType": facets.attribute_type,
        "AttributeTypeName": {"Value": facets.type_name},
        "IsPrimaryId": column.name == shape.key,
        "IsPrimaryName": column.name == shape.primary_name,
        "IsValidODataAttribute": True,
        "IsCustomAttribute": column.attribute.startswith("vin_"),
    }
    special = FACETS_OF.get(column.kind)
    return Definition(facets.metadata_type, base, special(column) if special else {}, _expandable(shape, column))


def _base(shape: Shape, attribute: str) -> Json:
    here = (shape.logical_name, attribute)
    return {
        "MetadataId": metadata_id(*here),
        "HasChanged": None,
        "EntityLogicalName": shape.logical_name,
        "LogicalName": attribute,
        "SchemaName": attribute,
        "AttributeOf": None,
        "ColumnNumber": None,
        "IsValidForRead": True,
        "IsSecured": False,
        "IsLogical": False,
        "IsRetrievable": False,
        "SourceType": 0,
        "DisplayName": label({ENGLISH: attribute.replace("_", " ")}, *here),
        "Description": {"LocalizedLabels": [], "UserLocalizedLabel": None},
        "RequiredLevel": {
            "Value": "None",
            "CanBeChanged": True,
            "ManagedPropertyLogicalName": "canmodifyrequirementlevelsettings",
        },
    }


def _shadow(shape: Shape, column: Column) -> Definition:
    """The column that would hold a label, were it in ``$metadata``; plain *virtual* ones are of the base type."""
    is_name = column.kind in POINTING
    base = _base(shape, f"{column.attribute}name") | {
        "AttributeType": "String" if is_name else "Virtual",
        "AttributeTypeName": {"Value": "StringType" if is_name else "VirtualType"},
        "AttributeOf": column.attribute,
        "IsPrimaryId": False,
        "IsPrimaryName": False,
        "IsValidODataAttribute": False,
        "IsCustomAttribute": False,
    }
    return Definition(_shadow_type(column), base, {"MaxLength": 100} if is_name else {}, {})


def _shadow_type(column: Column) -> str:
    return "StringAttributeMetadata" if column.kind in POINTING else ""


def _expandable(shape: Shape, column: Column) -> Json:
    if not has_options(column) or column.options is None:
        return {}
    options = option_set(column, column.options, shape.logical_name, column.attribute)
    expandable: Json = {"OptionSet": options}
    if column.kind in {Kind.PICKLIST, Kind.MULTISELECT}:
        expandable["GlobalOptionSet"] = options if column.options.is_global else None
    return expandable


def _lengths(column: Column) -> Json:
    return {"MaxLength": column.max_length or 100, "Format": "Text", "DatabaseLength": 2 * (column.max_length or 100)}


def _number(column: Column) -> Json:
    return {"Precision": column.precision or 2, "MinValue": -100000000000.0, "MaxValue": 100000000000.0}


def _money(column: Column) -> Json:
    is_base = column.name.endswith("_base")
    return _number(column) | {
        "PrecisionSource": 2,
        "CalculationOf": column.name.removesuffix("_base") if is_base else None,
        "IsBaseCurrency": is_base,
    }


def _times(column: Column) -> Json:
    form = "DateOnly" if column.kind is Kind.DATE else "DateAndTime"
    return {"Format": form, "DateTimeBehavior": {"Value": column.behavior}}


def _targets(column: Column) -> Json:
    return {"Targets": list(column.targets), "Format": "None"}


def _whole(_column: Column) -> Json:
    return {"MinValue": -2147483648, "MaxValue": 2147483647, "Format": "None"}


FACETS_OF: Mapping[Kind, Callable[[Column], Json]] = {
    Kind.STRING: _lengths,
    Kind.MEMO: _lengths,
    Kind.DECIMAL: _number,
    Kind.DOUBLE: _number,
    Kind.MONEY: _money,
    Kind.DATETIME: _times,
    Kind.DATE: _times,
    Kind.LOOKUP: _targets,
    Kind.OWNER: _targets,
    Kind.CUSTOMER: _targets,
    Kind.INTEGER: _whole,
}
