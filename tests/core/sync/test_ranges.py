"""A table read whole in several ranges of ``createdon`` at once: the identical copy, however it is cut or cut short."""

from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pytest
from copies import Copy, entities
from msgspec import structs

from igh_sync_core.errors import SyncError
from igh_sync_core.model import Column, EntitySet, Kind, LogicalName, TableSpec
from igh_sync_core.sandbox import health_organisation
from igh_sync_core.sync.ranges import PIECES
from igh_sync_core.sync.run import Progress
from igh_sync_core.sync.strategy import choose

ROWS = 4_000
TABLE = "vin_clinicaltrials"
KEPT = ("vin_clinicaltrialid", "vin_name", "createdon", "modifiedon", "valid_from", "valid_to", "json_response")


def selection(ranges: int) -> list[Any]:
    [trial] = entities("vin_clinicaltrial")
    return [replace(trial, strategy="modifiedon", ranges=ranges)]


def a_copy(settings: dict[str, str], ranges: int) -> Copy:
    return Copy(health_organisation(ROWS), settings, selection(ranges))


def everything(copy: Copy) -> list[tuple[str, ...]]:
    return sorted(tuple(str(value) for value in row) for row in copy.rows(TABLE, *KEPT))


def filters(copy: Copy) -> set[str]:
    """Distinct filters by createdon of the full pages asked, next links aside."""
    asked = [unquote(entry.query) for entry in copy.asked if entry.path.endswith(f"/{TABLE}")]
    return {query for query in asked if "createdon " in query and "$skiptoken" not in query and "$top" not in query}


@pytest.fixture
def whole(database_settings: dict[str, str]) -> list[tuple[str, ...]]:
    """What a read page after page stores, in a database of the same kind that is emptied afterwards."""
    copy = a_copy(database_settings, 1)
    copy.sync_one()
    rows = everything(copy)
    with copy.database.writing() as conn:
        for name in (TABLE, "_sync_state"):
            conn.exec_driver_sql(f"DELETE FROM {name}")  # noqa: S608 - our own names
    return rows


@pytest.mark.parametrize("ranges", [2, 7, 16])
def test_the_copy_is_that_of_a_read_page_after_page(
    database_settings: dict[str, str], whole: list[tuple[str, ...]], ranges: int
) -> None:
    copy = a_copy(database_settings, ranges)
    report = copy.sync_one(page_size=10)

    assert everything(copy) == whole
    assert len(filters(copy)) == ranges * PIECES
    assert f"in ranges of createdon, {ranges} at once" in report.reason
    state = copy.state(TABLE)
    assert (state.state, state.next_link, state.records_count) == ("completed", None, len(whole))
    copy.organisation.clock.advance(60)
    copy.organisation.update("vin_clinicaltrial", copy.organisation.keys("vin_clinicaltrial")[0], {"vin_name": "other"})
    assert copy.sync_one().updated == 1


def test_a_read_cut_short_goes_on_in_every_range(
    database_settings: dict[str, str], whole: list[tuple[str, ...]]
) -> None:
    copy = a_copy(database_settings, 4)
    pages: list[Progress] = []

    def on_page(progress: Progress) -> None:
        pages.append(progress)
        if len(pages) == 7:
            message = "cut"
            raise SyncError(message)

    assert not copy.sync(page_size=10, on_page=on_page).success
    left = (copy.state(TABLE).next_link or "").splitlines()
    assert 1 <= len(left) <= 4 * PIECES
    report = copy.sync_one(page_size=10)
    assert everything(copy) == whole
    assert "goes on after its last stored page" in report.reason
    assert report.added < len(whole)


def test_what_is_absent_is_closed_once_all_ranges_are_read(database_settings: dict[str, str]) -> None:
    copy = Copy(health_organisation(ROWS), database_settings, [replace(selection(3)[0], strategy="snapshot")])
    copy.sync_one(page_size=10)
    keys = copy.organisation.keys("vin_clinicaltrial")
    for key in (keys[0], keys[-1]):
        copy.organisation.delete("vin_clinicaltrial", key)
    copy.organisation.clock.advance(60)

    report = copy.sync_one(page_size=10)
    assert (report.added, report.updated, report.closed) == (0, 0, 2)
    assert {key for (key,) in copy.open_rows(TABLE, "vin_clinicaltrialid")} == set(keys[1:-1])


def test_records_without_a_time_belong_to_the_first_range(database_settings: dict[str, str]) -> None:
    copy = a_copy(database_settings, 5)
    for key in copy.organisation.keys("vin_clinicaltrial")[:3]:
        copy.organisation.update("vin_clinicaltrial", key, {"createdon": None})

    assert copy.sync_one().added == len(copy.organisation.keys("vin_clinicaltrial"))


def test_a_record_created_in_the_year_1_is_in_the_first_range(
    database_settings: dict[str, str], whole: list[tuple[str, ...]]
) -> None:
    copy = a_copy(database_settings, 2)
    key = copy.organisation.keys("vin_clinicaltrial")[0]
    copy.organisation.update("vin_clinicaltrial", key, {"createdon": "0001-01-01T00:00:00Z"})

    assert copy.sync_one(page_size=10).added == len(whole)
    cuts = [query.partition(" ge ")[2].partition(" ")[0] for query in filters(copy)]
    assert all(cut.startswith(("1", "2")) for cut in cuts if cut)
    assert {key for (key,) in copy.rows(TABLE, KEPT[0])} == set(copy.organisation.keys("vin_clinicaltrial"))


def test_an_empty_table_and_one_of_a_single_moment_need_no_ranges(database_settings: dict[str, str]) -> None:
    copy = a_copy(database_settings, 5)
    [kept, *others] = copy.organisation.keys("vin_clinicaltrial")
    for key in others:
        copy.organisation.delete("vin_clinicaltrial", key)
    assert copy.sync_one().added == 1
    assert len(filters(copy)) == 2

    copy.organisation.delete("vin_clinicaltrial", kept)
    assert copy.sync_one(reconcile=True).closed == 1
    assert filters(copy) == set()


def test_a_server_that_refuses_the_order_is_read_in_one_chain(
    database_settings: dict[str, str], whole: list[tuple[str, ...]]
) -> None:
    copy = a_copy(database_settings, 4)
    copy.sandbox.refuse_order_by("vin_clinicaltrial")
    report = copy.sync_one()

    assert everything(copy) == whole
    assert filters(copy) == set()
    assert "to order by createdon was refused" in report.reason
    assert "read in one chain" in report.reason


def test_change_tracking_allows_no_ranges() -> None:
    key, created = Column("sampleid", Kind.GUID), Column("createdon", Kind.DATETIME)
    spec = TableSpec(LogicalName("sample"), EntitySet("samples"), "sampleid", (key, created), is_tracked=True)
    [entity] = [replace(one, strategy=None) for one in selection(4)]

    with pytest.raises(SyncError, match='"ranges" need "strategy": "modifiedon" or "snapshot"'):
        choose(spec, entity)
    with pytest.raises(SyncError, match="need a createdon column"):
        choose(structs.replace(spec, columns=(key,)), replace(entity, strategy="snapshot"))
    assert choose(spec, replace(entity, strategy="snapshot")).ranges == 4
