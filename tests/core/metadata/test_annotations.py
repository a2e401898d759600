"""Which columns are choices where only types and annotations tell."""

import msgspec
import pytest

from igh_sync_core.metadata import annotations
from igh_sync_core.model import Column, EntitySet, Kind, LogicalName, OptionKind, TableSpec

LABEL = "@OData.Community.Display.V1.FormattedValue"


def detected(kind: Kind, *pairs: tuple[object, str | None], hinted: bool = False) -> OptionKind | None:
    spec = TableSpec(LogicalName("t"), EntitySet("ts"), "tid", (Column("tid", Kind.GUID), Column("c", kind)))
    records = [msgspec.Raw(msgspec.json.encode({"c": value, f"c{LABEL}": label})) for value, label in pairs]
    found = annotations.detect(spec, records, ["c"] if hinted else [])
    return found[0].kind if found else None


@pytest.mark.parametrize(
    ("kind", "pairs", "expected"),
    [
        (Kind.INT32, [(1, "Good"), (2, "Bad")], OptionKind.PICKLIST),
        (Kind.INT32, [(1, "Phase 1"), (2, "Phase 2")], OptionKind.PICKLIST),
        (Kind.INT32, [(6200, "6,200")], None),
        (Kind.INT32, [(6200, "6\u202f200")], None),
        (Kind.INT32, [(-5, "-5"), (1, "1")], None),
        (Kind.INT32, [(-5, "(5)")], None),
        (Kind.INT32, [(30, "30 minutes"), (60, "1 hour")], None),
        (Kind.INT32, [(1, "Good"), (1, "Fine")], None),
        (Kind.INT32, [(1, None)], None),
        (Kind.INT32, [], None),
        (Kind.INT64, [(1, "Good")], None),
        (Kind.DECIMAL, [(5000, "$5,000.00")], None),
        (Kind.BOOLEAN, [], OptionKind.BOOLEAN),
        (Kind.STRING, [("1,2", "Business; Family"), ("2", "Family")], OptionKind.MULTISELECT),
        (Kind.STRING, [("1,2", None)], None),
        (Kind.STRING, [("account", "Account")], None),
        (Kind.STRING, [("12", "Twelve"), ("x", "X")], None),
    ],
)
def test_a_choice_is_known_by_its_annotations(
    kind: Kind, pairs: list[tuple[object, str | None]], expected: OptionKind | None
) -> None:
    assert detected(kind, *pairs) == expected


@pytest.mark.parametrize(
    ("kind", "pairs", "expected"),
    [
        (Kind.INT32, [(1, "1")], OptionKind.PICKLIST),
        (Kind.STRING, [("1,2", None)], OptionKind.MULTISELECT),
        (Kind.STRING, [("plain", None)], None),
        (Kind.DECIMAL, [(1, "One")], None),
    ],
)
def test_a_hint_counts_where_the_column_can_be_a_choice(
    kind: Kind, pairs: list[tuple[object, str | None]], expected: OptionKind | None
) -> None:
    assert detected(kind, *pairs, hinted=True) == expected
