"""Choices without metadata: what the records' own annotations tell where definitions may not be read.

A yes/no column always is a choice. A whole number is one where its formatted value is a word and not the number again
(or the number with a unit, as durations have); a text is a multi-select where it is a list of codes with a formatted
value, which plain text never has. Decimals and money are never choices. Whoever knows better says so in a hint file.

Source: https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query/select-columns
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec
from msgspec import Raw

from igh_sync_core.metadata import OptionSet
from igh_sync_core.metadata.codes import are_codes, codes_in
from igh_sync_core.model import Column, Kind, OptionKind, TableSpec

LABEL = "@OData.Community.Display.V1.FormattedValue"
LABELS_BETWEEN = "; "
PLUMBING = frozenset({"importsequencenumber", "timezoneruleversionnumber", "utcconversiontimezonecode"})
"""Whole numbers of the platform's own that are no choices, whatever their formatted values look like."""

_NUMBER = re.compile(r"[-\u2212(]?\d[\d.,'\u2019\s]*\)?")
_AMOUNT = re.compile(_NUMBER.pattern + r"\s[^\d\s]+")
_CODE_KINDS = (Kind.INT16, Kind.INT32)
_ANY = msgspec.json.Decoder()

Pair = tuple[Any, str | None]


def detect(spec: TableSpec, records: Iterable[Raw], hinted: Iterable[str]) -> tuple[OptionSet, ...]:
    """Which columns are choices, as far as a sample of records and the hints tell; without any option.

    Args:
        spec: The table, its columns not yet known as choices.
        records: Any number, with annotations.
        hinted: Names that somebody gave by hand; those that cannot be choices are passed over, see ``refused``.
    """
    samples = [_ANY.decode(record) for record in records]
    named = set(hinted)
    found = []
    for column in spec.columns:
        pairs = [
            (value, row.get(column.name + LABEL)) for row in samples if (value := row.get(column.name)) is not None
        ]
        kind = _kind(column, pairs) or (_hinted_kind(column, pairs) if column.name in named else None)
        if kind is not None and column.name != spec.key:
            found.append(OptionSet(spec.logical_name, column.name, kind))
    return tuple(found)


def refused(hinted: Iterable[str], sets: Iterable[OptionSet]) -> list[str]:
    """Hinted columns that were not accepted: unknown to metadata, or of a type that no choice has."""
    accepted = {one.field for one in sets}
    return sorted(name for name in hinted if name not in accepted)


def labels_in(spec: TableSpec, records: Sequence[Raw]) -> dict[tuple[str, int], str]:
    """Labels by field and code, from the annotations of records.

    A multi-select's labels are taken only where they can be told apart: as many as there are codes.
    """
    columns = spec.choices
    decoder = _decoder(columns)
    found: dict[tuple[str, int], str] = {}
    for record in records:
        values = msgspec.structs.astuple(decoder.decode(record))
        for at, column in enumerate(columns):
            for code, label in _options_of(values[2 * at], values[2 * at + 1]):
                found[column.name, code] = label
    return found


@lru_cache(maxsize=256)
def _decoder(columns: tuple[Column, ...]) -> msgspec.json.Decoder[Any]:
    """Reads value and label of each column, in turns."""
    pairs = [
        [
            (f"v{at}", int | bool | str | None, msgspec.field(default=None, name=column.name)),
            (f"l{at}", str | None, msgspec.field(default=None, name=column.name + LABEL)),
        ]
        for at, column in enumerate(columns)
    ]
    return msgspec.json.Decoder(msgspec.defstruct("Annotated", list(chain.from_iterable(pairs))))


def _options_of(value: object, label: str | None) -> Iterator[tuple[int, str]]:
    if value is None or not label:
        return
    if isinstance(value, int):
        yield int(value), label
        return
    value = str(value)
    codes = codes_in(value) if are_codes(value) else ()
    labels = [label] if len(codes) == 1 else label.split(LABELS_BETWEEN)
    if len(codes) == len(labels):
        yield from zip(codes, labels, strict=True)


def _kind(column: Column, pairs: Sequence[Pair]) -> OptionKind | None:
    if column.kind is Kind.BOOLEAN:
        return OptionKind.BOOLEAN
    if not pairs or column.name in PLUMBING or any(label is None for _value, label in pairs):
        return None
    if column.kind is Kind.INT32 and _are_words([(value, label or "") for value, label in pairs]):
        return OptionKind.PICKLIST
    if column.kind is Kind.STRING and all(are_codes(value) for value, _label in pairs):
        return OptionKind.MULTISELECT
    return None


def _are_words(pairs: Sequence[tuple[int, str]]) -> bool:
    """Whether labels name codes: one label per code, none of them the number itself, not all of them amounts."""
    by_code: Mapping[int, str] = dict(pairs)
    is_one_each = all(by_code[value] == label for value, label in pairs)
    is_number = any(_NUMBER.fullmatch(label) for label in by_code.values())
    return is_one_each and not is_number and not all(_AMOUNT.fullmatch(label) for label in by_code.values())


def _hinted_kind(column: Column, pairs: Sequence[Pair]) -> OptionKind | None:
    if column.kind in _CODE_KINDS:
        return OptionKind.PICKLIST
    if column.kind is Kind.STRING and all(are_codes(value) for value, _label in pairs):
        return OptionKind.MULTISELECT
    return None
