"""Columns removed in Dataverse while a run is under way: an absent member is no null."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from copies import Copy
from graphs import SELECTION, Graph

from igh_sync_core.sandbox import Organisation, health_organisation
from igh_sync_core.sandbox.http.service import sent_address
from igh_sync_core.sync.run import Progress


@pytest.fixture
def organisation() -> Organisation:
    return health_organisation(2000)


def once(action: Callable[[], object]) -> Callable[[Progress], None]:
    """Does something after the first page of a run."""
    actions = [action]

    def listen(_progress: Progress) -> None:
        if actions:
            actions.pop()()

    return listen


def failure(copy: Copy, entity: str, action: Callable[[], object], **options: Any) -> str:
    """What becomes of one entity in a run in which something happens after the first page."""
    report = copy.sync(page_size=3, on_page=once(action), **options)
    return next(one.error for one in report.entities if one.entity == entity)


def test_a_column_removed_during_a_run_empties_no_row_and_makes_no_version(
    organisation: Organisation, copy_of: Callable[..., Copy]
) -> None:
    entity, shown = "vin_clinicalusestatus", ("vin_clinicalusestatuses", "row_id", "vin_code", "valid_to")
    copy = copy_of(entity)
    copy.sync_one()
    before = copy.rows(*shown)

    error = failure(copy, entity, lambda: organisation.remove_column(entity, "vin_code"))

    told = f"{entity}: the metadata changed during the run, and records come without vin_code now; "
    assert error.startswith(told)
    assert copy.rows(*shown) == before
    again = copy.sync_one()
    assert (again.updated, copy.rows(*shown)) == (0, before)


def test_options_stay_where_their_column_is_removed_during_a_run(
    organisation: Organisation, copy_of: Callable[..., Copy]
) -> None:
    entity, options = "vin_candidate", "SELECT * FROM _junction_vin_candidates_vin_platforms ORDER BY junction_id"
    for key in organisation.keys(entity):  # several of each, so that the table itself shows none
        organisation.update(entity, key, {"vin_platforms": "100000000,100000001"})
    copy = copy_of(entity)
    copy.sync_one()
    before = copy.rows_of(options)
    organisation.clock.advance(3600)

    def remove() -> None:
        organisation.remove_column(entity, "vin_platforms")
        for key in organisation.keys(entity):
            organisation.update(entity, key, {"vin_name": "renamed"})

    organisation.update(entity, organisation.keys(entity)[0], {"vin_name": "renamed first"})
    error = failure(copy, entity, remove, reconcile=True)

    assert "records come without vin_platforms now" in error
    assert [row[:3] for row in copy.rows_of(options)][: len(before)] == [row[:3] for row in before]
    assert copy.sync_one().updated == organisation.count(entity)


def test_related_records_are_not_emptied_either(database_settings: dict[str, str]) -> None:
    graph = Graph()
    accounts = [graph.add("account", number) for number in range(9)]
    for number, account in enumerate(accounts):
        graph.add("vin_study", number, _vin_site_value=account)
    copy = Copy(graph.organisation(), database_settings, SELECTION)
    for _table, key in accounts:
        copy.organisation.update("account", key, {"name": f"account {key}"})
    copy.sync()
    before = copy.rows("accounts", "row_id", "name", "valid_to")

    def remove() -> None:
        copy.organisation.remove_column("account", "name")
        for _table, key in accounts:
            copy.organisation.update("account", key, {"accountnumber": "1"})

    copy.organisation.update("vin_study", copy.organisation.keys("vin_study")[0], {"vin_name": "renamed"})
    error = failure(copy, "account", remove, reconcile=True)

    assert "records come without name now" in error
    assert copy.rows("accounts", "row_id", "name", "valid_to") == before


def test_where_no_version_is_told_records_without_their_nulls_are_no_fault(
    organisation: Organisation, copy_of: Callable[..., Copy]
) -> None:
    entity, column = "vin_disease", "vin_seldom"
    organisation.add_column(entity, column, "Edm.String")
    copy = copy_of(entity)
    [emptied, *others] = organisation.keys(entity)
    for key in others:
        organisation.update(entity, key, {column: "held"})
    answer = copy.sandbox.handle

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/organizations"):
            return httpx.Response(403, json={"error": {"code": "0x80040220", "message": "no privilege"}})
        reply = answer(request)
        if reply.status_code != httpx.codes.OK or f"/{copy.selection[0].api_name}" not in sent_address(request):
            return reply
        told = reply.json()
        told["value"] = [{name: one for name, one in each.items() if one is not None} for each in told["value"]]
        return httpx.Response(200, headers={"Date": reply.headers["Date"]}, json=told)

    copy.sandbox.handle = handle  # type: ignore[method-assign]
    copy.sync_one()
    organisation.clock.advance(7200)
    copy.sync_one()
    organisation.clock.advance(7200)
    organisation.update(entity, emptied, {column: None, "vin_name": "renamed"})

    assert copy.sync_one().updated == 1


def test_other_metadata_that_takes_nothing_away_disturbs_no_run(
    organisation: Organisation, copy_of: Callable[..., Copy]
) -> None:
    entity = "vin_clinicalusestatus"
    copy = copy_of(entity)
    organisation.add_column(entity, "vin_empty", "Edm.String")
    copy.sync_one()

    def change() -> None:
        organisation.remove_column(entity, "vin_empty")
        organisation.add_column(entity, "vin_further", "Edm.Int32", fixed=1)

    assert failure(copy, entity, change) == ""
