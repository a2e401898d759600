"""The state table of ``versions``, row by row, on both engines: load 1, load 2, load 3, whole-table asserts."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from loads import NOON, A, B, Loader, at, loading, record
from msgspec import Raw

from igh_sync_core.report import Counts
from igh_sync_core.store.database import Database
from igh_sync_core.store.dialect import second_after


@pytest.fixture
def load(database: Database) -> Iterator[Loader]:
    with loading(database) as loader:
        yield loader


@pytest.mark.parametrize("new", [True, False])
def test_a_record_opens_a_version_from_its_modifiedon(load: Loader, new: bool) -> None:
    assert load.write(record(name="one"), now=at(5), new=new) == Counts(added=1)

    assert load.versions("name") == [("one", NOON, None, None)]


@pytest.mark.parametrize("new", [True, False])
def test_a_record_without_modifiedon_opens_at_the_sync_time(load: Loader, new: bool) -> None:
    load.write(record(modified=None), now=at(5), new=new)

    assert load.versions() == [(at(5), None, None)]


def test_an_equal_record_writes_nothing(load: Loader) -> None:
    load.write(record(name="one", score=1.50))

    assert load.write(record(name="one", score=1.5), now=at(5)) == Counts(unchanged=1)
    assert load.versions("name") == [("one", NOON, None, None)]


def test_labels_and_version_numbers_are_refreshed_in_place(load: Loader) -> None:
    load.write(record(name="one", versionnumber=1))

    label = {"name@OData.Community.Display.V1.FormattedValue": "One"}
    assert load.write(record(name="one", versionnumber=2, **label), now=at(5)) == Counts(unchanged=1)
    [(version, document, *_)] = load.versions("versionnumber", "json_response")
    assert version == 2
    assert "FormattedValue" in str(document)


def test_a_changed_record_closes_the_old_version_where_the_new_one_begins(load: Loader) -> None:
    load.write(record(name="one"))

    assert load.write(record(name="two", modified=at(3)), now=at(5)) == Counts(updated=1)
    assert load.versions("name") == [("one", NOON, at(3), "updated"), ("two", at(3), None, None)]


@pytest.mark.parametrize(
    ("modified", "now", "boundary"),
    [(at(-60), at(5), at(5)), (NOON, at(5), at(5)), (NOON, NOON, at(1 / 60)), (at(-60), at(-30), at(1 / 60))],
    ids=["modifiedon going backwards", "rollup change without a new modifiedon", "same second", "clock behind"],
)
def test_a_boundary_never_makes_an_empty_interval(
    load: Loader, modified: datetime, now: datetime, boundary: datetime
) -> None:
    load.write(record(name="one"))

    load.write(record(name="two", modified=modified), now=now)
    assert load.versions("name") == [("one", NOON, boundary, "updated"), ("two", boundary, None, None)]


END_OF_TIME = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize("new", [True, False])
def test_a_modifiedon_at_the_end_of_time_leaves_room_for_what_follows(load: Loader, new: bool) -> None:
    load.write(record(name="one", modified=END_OF_TIME), record(B, name="kept"), new=new)
    for number in range(3):
        load.write(record(name=f"again {number}", modified=END_OF_TIME), now=at(number))
    load.write(record(name="back", modified=at(5)), now=at(6))
    load.delete(A, now=at(7))

    *intervals, last = [version[1:3] for version in load.versions("sampleid") if version[0] == A]
    assert len(intervals) == 4
    for (start, end), (following, _) in zip(intervals, [*intervals[1:], last], strict=True):
        assert start < end == following
    assert last[0] < last[1]
    assert {str(version[0])[:10] for version in load.versions("modifiedon")} == {"9999-12-31", "2024-05-01"}


@pytest.mark.parametrize("last", ["9999-12-31T23:59:59Z", END_OF_TIME, END_OF_TIME.replace(microsecond=999_999)])
def test_after_the_last_second_of_all_there_is_none(last: str | datetime) -> None:
    """Files of the earlier program may begin a version there; their table must not fail for ever."""
    assert second_after(last) == last
    assert second_after("9999-12-31T23:59:58Z") == "9999-12-31T23:59:59Z"


def test_a_decimal_that_changes_in_its_last_digit_is_another_without_a_new_modifiedon(load: Loader) -> None:
    """SQLite's numbers have some sixteen digits; a rollup in a document has all of them."""
    first, second, third = (
        Raw(bytes(record(name="one", score="#")).replace(b'"#"', digits))
        for digits in (b"12345678901.1234567891", b"12345678901.12345678910", b"12345678901.1234567892")
    )
    load.write(first)

    assert load.write(second, now=at(4)) == Counts(unchanged=1)
    assert load.write(third, now=at(5)) == Counts(updated=1)
    assert [version[1:] for version in load.versions("score")] == [(NOON, at(5), "updated"), (at(5), None, None)]


def test_a_tombstone_closes_as_deleted_at_the_sync_time(load: Loader) -> None:
    load.write(record(), record(B))

    assert load.delete(A, now=at(5)) == 1
    assert load.versions("sampleid") == [(A, NOON, at(5), "deleted"), (B, NOON, None, None)]


def test_a_tombstone_for_an_unknown_or_closed_key_is_nothing(load: Loader) -> None:
    load.write(record())
    load.delete(A, now=at(5))

    assert load.delete(A, B, now=at(9)) == 0
    assert load.versions() == [(NOON, at(5), "deleted")]


def test_a_row_missing_from_a_complete_read_closes_as_absent(load: Loader) -> None:
    load.write(record(), record(B))

    assert load.snapshot(record(B), now=at(5)) == 1
    assert load.versions("sampleid") == [(A, NOON, at(5), "absent"), (B, NOON, None, None)]


def test_an_empty_complete_read_closes_everything(load: Loader) -> None:
    load.write(record(), record(B))

    assert load.snapshot(now=at(5)) == 2
    assert [row[-1] for row in load.versions()] == ["absent", "absent"]


def test_a_record_that_comes_back_opens_a_new_version(load: Loader) -> None:
    load.write(record(name="one"))
    load.delete(A, now=at(5))

    assert load.write(record(name="one"), now=at(9)) == Counts(added=1)
    assert load.versions("name") == [("one", NOON, at(5), "deleted"), ("one", at(9), None, None)]


def test_a_record_that_comes_back_modified_later_starts_at_its_modifiedon(load: Loader) -> None:
    load.write(record())
    load.delete(A, now=at(5))
    load.write(record(modified=at(7)), now=at(9))

    assert load.versions() == [(NOON, at(5), "deleted"), (at(7), None, None)]


def test_one_page_may_hold_new_changed_and_equal_records(load: Loader) -> None:
    load.write(record(A, name="a"), record(B, name="b"))

    third = "cccccccc-0000-0000-0000-000000000003"
    counts = load.write(record(A, name="a"), record(B, name="B", modified=at(2)), record(third), now=at(5))
    assert counts == Counts(added=1, updated=1, unchanged=1)


def test_of_equal_keys_in_one_page_the_last_stays(load: Loader) -> None:
    assert load.write(record(name="one"), record(name="two"), new=True) == Counts(added=1)
    assert load.versions("name") == [("two", NOON, None, None)]


def test_a_first_page_that_meets_stored_keys_is_compared_instead(load: Loader) -> None:
    load.write(record(name="one"), new=True)

    assert load.write(record(name="one"), record(B), now=at(5), new=True) == Counts(added=1, unchanged=1)


def test_choices_are_a_snapshot_tied_to_each_version(load: Loader) -> None:
    load.write(record(tags="1,2"), new=True)
    load.write(record(tags="2", modified=at(3)), now=at(5))
    load.write(record(tags=None, modified=at(6)), now=at(9))

    assert load.versions("tags") == [
        (None, NOON, at(3), "updated"),
        ("2", at(3), at(6), "updated"),
        (None, at(6), None, None),
    ]
    assert load.picks() == [(A, 1, NOON, at(3)), (A, 2, NOON, at(3)), (A, 2, at(3), at(6))]


def test_a_change_between_two_sets_of_several_choices_is_a_change(load: Loader) -> None:
    load.write(record(tags="1,2"))

    assert load.write(record(tags="1,2,3"), now=at(5)) == Counts(updated=1)
    assert [code for _, code, _, end in load.picks() if end is None] == [1, 2, 3]


def test_a_deleted_record_has_no_open_choices(load: Loader) -> None:
    load.write(record(tags="1,2"))
    load.delete(A, now=at(5))

    assert load.picks() == [(A, 1, NOON, at(5)), (A, 2, NOON, at(5))]
