"""How values look on the wire: as JSON, and as the text that people read beside them."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import NamedTuple

from msgspec import json

from igh_sync_core.sandbox.data.clock import format_date, format_minutes
from igh_sync_core.sandbox.data.schema import Column, Kind


class Spelled(NamedTuple):
    """One value on the wire.

    Attributes:
        json: Its JSON.
        shown: What ``FormattedValue`` says, or None where the Web API sends none.
        target: Logical name a lookup points at, or None.
    """

    json: str
    shown: str | None = None
    target: str | None = None


NULL = Spelled("null")


def quoted(text: str) -> str:
    """*text* as a JSON string."""
    return json.encode(text).decode()


def spell(column: Column, value: object) -> Spelled:
    """*value* of *column*, which is no lookup."""
    if value is None:
        return NULL
    return Spelled(_json(value), SHOWN.get(column.kind, _nothing)(column, value))


def _json(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    return json.encode(value).decode()


def _nothing(_column: Column, _value: object) -> None:
    return None


def _label(column: Column, value: object) -> str | None:
    if column.options is None:
        return f"{value:,}"
    return column.options.label(int(str(value)))


def _labels(column: Column, value: object) -> str | None:
    codes = str(value).split(",")
    labels = [column.options.label(int(code)) if column.options else None for code in codes]
    return "; ".join(label for label in labels if label is not None) or None


def _yes_no(column: Column, value: object) -> str | None:
    if column.options is None:
        return "Yes" if value else "No"
    return column.options.label(int(bool(value)))


def _moment(_column: Column, value: object) -> str:
    text = str(value)
    return f"{format_date(text[:10])} {format_minutes(text[11:16])}"


SHOWN: Mapping[Kind, Callable[[Column, object], str | None]] = {
    Kind.PICKLIST: _label,
    Kind.STATE: _label,
    Kind.STATUS: _label,
    Kind.MULTISELECT: _labels,
    Kind.BOOLEAN: _yes_no,
    Kind.INTEGER: lambda _column, value: f"{value:,}",
    Kind.BIGINT: lambda _column, value: f"{value:,}",
    Kind.DECIMAL: lambda column, value: f"{value:,.{column.precision or 2}f}",
    Kind.MONEY: lambda _column, value: f"${value:,.2f}",
    Kind.DOUBLE: lambda _column, value: f"{value:,.2f}",
    Kind.DATETIME: _moment,
    Kind.DATE: lambda _column, value: format_date(str(value)),
}
