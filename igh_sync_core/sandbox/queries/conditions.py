"""What the conditions of a ``$filter`` mean: which rows they match, and how few rows need to be looked at."""

import operator
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

from igh_sync_core.sandbox.data.schema import Column, Kind, Shape
from igh_sync_core.sandbox.queries.filters import Among, Compare, Condition, Junction, Literal, Negation, Text
from igh_sync_core.sandbox.replies import refuse, refuse_property

Values = Callable[[str], object]
OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}
FITTING = {
    "Edm.Guid": {"guid", "string", "null"},
    "Edm.String": {"string", "null"},
    "Edm.Boolean": {"bool", "null"},
    "Edm.DateTimeOffset": {"moment", "day", "null"},
    "Edm.Date": {"day", "null"},
}
"""Kinds of literals that each Edm type can be compared with; numbers take numbers."""
EDM_OF_LITERAL = {
    "string": "Edm.String",
    "guid": "Edm.Guid",
    "moment": "Edm.DateTimeOffset",
    "day": "Edm.Date",
    "number": "Edm.Int32",
    "bool": "Edm.Boolean",
}


class Narrowed(NamedTuple):
    """Rows a condition can match at most.

    Attributes:
        keys: Only these, or None for any.
        since: Only rows changed at or after this moment (as ``canon`` spells it), or "".
        version: Only rows of a larger version, or -1.
    """

    keys: frozenset[str] | None = None
    since: str = ""
    version: int = -1


def resolve(condition: Condition, shape: Shape) -> Condition:
    """*condition* with property names for attribute names, checked against the columns.

    Raises:
        Refusal: 400 for an unknown column or a literal that does not fit.
    """
    match condition:
        case Junction(operator=name, parts=parts):
            return Junction(name, tuple(resolve(part, shape) for part in parts))
        case Negation(part=part):
            return Negation(resolve(part, shape))
        case Among(function=name, path=path, values=values):
            return Among(name, _column(shape, path, also=shape.by_attribute).name, values)
        case Text(path=path):
            _column(shape, path, also={})
            return condition
        case Compare(path=path, operator=name, literal=constant):
            return Compare(path, name, _fitted(_column(shape, path, also={}), name, constant))


def _column(shape: Shape, path: str, *, also: Mapping[str, Column]) -> Column:
    column = shape.by_name.get(path) or also.get(path)
    if column is None:
        refuse_property(path, shape.logical_name)
    return column


def _fitted(column: Column, name: str, constant: Literal) -> Literal:
    if constant.kind not in FITTING.get(column.edm, {"number", "null"}):
        _refuse_types(column.edm, EDM_OF_LITERAL.get(constant.kind, "Edm.String"), name)
    if constant.kind in {"moment", "day"}:
        return Literal(constant.kind, canon(str(constant.value)) if column.kind is Kind.DATETIME else constant.value)
    if column.edm == "Edm.Guid" and constant.value is not None:
        return Literal("guid", str(constant.value).strip("{}").lower())
    return constant


def _refuse_types(left: str, right: str, name: str) -> NoReturn:
    kind = {"eq": "Equal", "ne": "NotEqual"}.get(name, "GreaterThanOrEqual")
    refuse(
        "A binary operator with incompatible types was detected. "
        f"Found operand types '{left}' and '{right}' for operator kind '{kind}'."
    )


def canon(moment: str) -> str:
    """A moment in UTC in a form whose text order is time order, fractions and all: ``2024-05-01T10:00:00``.

    Raises:
        Refusal: 400, no such moment.
    """
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        refuse(f"Unrecognized 'Edm.DateTimeOffset' literal '{moment}'.")
    aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat().removesuffix("+00:00")


def matches(condition: Condition, values: Values) -> bool:
    """Whether a row matches; *values* gives a column's plain value by name."""
    match condition:
        case Junction(operator="and", parts=parts):
            return all(matches(part, values) for part in parts)
        case Junction(parts=parts):
            return any(matches(part, values) for part in parts)
        case Negation(part=part):
            return not matches(part, values)
        case Among():
            return _among(condition, values(condition.path))
        case Text(function=function, path=path, text=text):
            return _text(function, values(path), text)
        case Compare(path=path, operator=name, literal=constant):
            return _compare(values(path), name, constant)


def _among(condition: Among, value: object) -> bool:
    if condition.function == "In":
        return value is not None and _folded(value) in _wanted(condition.values)
    held = set(str(value).split(",")) if value is not None else set()
    return held.isdisjoint(condition.values) is (condition.function == "DoesNotContainValues")


@lru_cache(maxsize=64)
def _wanted(values: tuple[str, ...]) -> frozenset[str]:
    return frozenset(value.strip("{}").casefold() for value in values)


def _text(function: str, value: object, text: str) -> bool:
    if value is None:
        return False
    held, wanted = str(value).casefold(), text.casefold()
    if function == "contains":
        return wanted in held
    return held.startswith(wanted) if function == "startswith" else held.endswith(wanted)


def _compare(value: object, name: str, constant: Literal) -> bool:
    if name in {"eq", "ne"}:
        is_equal = value is None if constant.value is None else value is not None and _same(value, constant)
        return is_equal is (name == "eq")
    if value is None or constant.value is None:
        return False
    return OPERATORS[name](_comparable(value, constant), _constant(constant))


def _same(value: object, constant: Literal) -> bool:
    return bool(_comparable(value, constant) == _constant(constant))


def _comparable(value: object, constant: Literal) -> object:
    if constant.kind == "number":
        return Decimal(str(value))
    if constant.kind == "bool":
        return bool(value)
    text = _folded(value)
    return text.removesuffix("z") if constant.kind in {"moment", "day"} else text


def _constant(constant: Literal) -> object:
    return _folded(constant.value) if isinstance(constant.value, str) else constant.value


def _folded(value: object) -> str:
    return str(value).casefold()


def narrow(condition: Condition | None, key: str) -> Narrowed:
    """How few rows a resolved *condition* can match; *key* is the primary key's column."""
    if condition is None:
        return Narrowed()
    parts = condition.parts if isinstance(condition, Junction) and condition.operator == "and" else (condition,)
    keys = [found for part in parts if (found := _keys(part, key)) is not None]
    return Narrowed(
        keys=frozenset.intersection(*keys) if keys else None,
        since=max(_floors(parts, "modifiedon"), default=""),
        version=max((int(floor) - 1 for floor in _floors(parts, "versionnumber")), default=-1),
    )


def _keys(condition: Condition, key: str) -> frozenset[str] | None:
    """Keys that *condition* is limited to, or None."""
    match condition:
        case Compare(path=path, operator="eq", literal=constant) if path == key and constant.value is not None:
            return frozenset({str(constant.value).lower()})
        case Among(function="In", path=path, values=values) if path == key:
            return frozenset(value.strip("{}").lower() for value in values)
        case Junction(operator="or", parts=parts):
            found = [_keys(part, key) for part in parts]
            return None if None in found else frozenset().union(*(keys for keys in found if keys))
        case _:
            return None


def _floors(parts: tuple[Condition, ...], name: str) -> Iterator[str]:
    for part in parts:
        if isinstance(part, Compare) and part.path == name and part.operator in {"gt", "ge"}:
            yield _constant_text(part.literal)


def _constant_text(constant: Literal) -> str:
    return str(int(constant.value)) if isinstance(constant.value, Decimal) else str(constant.value).upper()
