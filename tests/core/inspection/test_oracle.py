"""What a plan says of related tables, against what the next run does."""

from collections.abc import Sequence

import pytest
from copies import Copy
from graphs import FILTERED, SELECTION, Graph, key_of
from shaping import wire_of
from sqlalchemy import text

from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.inspection import dry_run
from igh_sync_core.inspection.forecast import Forecast
from igh_sync_core.report import EntityReport
from igh_sync_core.sandbox import Fault
from igh_sync_core.sandbox.data.columns import lookup

SITES = 5


def graph_of(sites: int) -> Graph:
    """Studies at as many accounts, each account with a contact; as many further accounts and contacts by themselves."""
    graph = Graph()
    for number in range(2 * sites):
        graph.add("contact", number)
        graph.add("account", number, _primarycontactid_value=("contact", key_of("contact", number)))
        if number < sites:
            graph.add("vin_study", number, _vin_site_value=("account", key_of("account", number)))
    return graph


@pytest.fixture
def copy(database_settings: dict[str, str]) -> Copy:
    return Copy(graph_of(SITES).organisation(), database_settings, SELECTION)


def told(copy: Copy, *, page_size: int = 5_000) -> dict[str, Forecast]:
    outlook = dry_run.plan(copy.config, copy.selection, page_size=page_size, connect=wire_of(copy.sandbox))
    assert outlook.passed
    return {one.entity: one for one in outlook.entities}


def done(copy: Copy) -> dict[str, EntityReport]:
    report = copy.sync()
    assert report.failed_entities == []
    return {one.entity: one for one in report.entities}


def figures(one: Forecast) -> tuple[str, int | None, int | None, int | None]:
    return one.read, one.rows, one.rows_at_most, one.requests


def untracked(copy: Copy, tables: Sequence[str] = FILTERED) -> None:
    for table in tables:
        copy.organisation.set_change_tracking(table, on=False)


def test_before_the_first_run_bounds_are_told_and_why(copy: Copy) -> None:
    before = told(copy, page_size=4)
    after = done(copy)

    assert figures(before["account"]) == ("keys", None, 2 * SITES, 3)
    assert "all 10 keys are read first" in before["account"].reason
    assert (
        "depends on the tables not read yet that point at it (2), at most the 10 there are, in about 3 requests"
        in before["account"].reason
    )
    for table in FILTERED:
        one = before[table]
        assert (one.strategy, one.is_whole) == ("related", False)
        assert after[table].added <= (one.rows_at_most or 0)
    assert after["account"].added == SITES


def test_with_nothing_new_the_requests_told_are_those_sent(copy: Copy) -> None:
    done(copy)
    before, after = told(copy), done(copy)

    assert {one: figures(before[one]) for one in FILTERED} == {
        "account": ("changes", None, 2 * SITES, 1),
        "contact": ("changes", None, 2 * SITES, 1),
        "systemuser": ("changes", None, 0, 1),
    }
    assert {one: after[one].requests for one in FILTERED} == dict.fromkeys(FILTERED, 1)
    assert "changed and deleted keys from its delta link" in before["account"].reason
    assert "more where records that change point at others" in before["account"].reason


def test_references_of_stored_rows_to_a_table_new_in_the_selection_are_counted(copy: Copy) -> None:
    copy.selection = [one for one in SELECTION if one.name != "contact"]
    done(copy)
    copy.selection = SELECTION
    before, after = told(copy)["contact"], done(copy)["contact"]

    assert figures(before) == ("keys", SITES, 2 * SITES, 2)
    assert f"{SITES} that stored rows point at are not stored yet" in before.reason
    assert (after.added, after.requests) == (SITES, 2)


def test_records_asked_in_vain_are_not_expected_again_where_a_key_feed_tells_of_them(copy: Copy) -> None:
    copy.organisation.update(
        "vin_study", key_of("vin_study", 0), {"_vin_site_value": ("account", key_of("account", 99))}
    )
    done(copy)
    before = told(copy)["account"]

    assert figures(before) == ("changes", None, 2 * SITES, 1)
    assert done(copy)["account"].requests == 1


def test_without_change_tracking_every_stored_record_and_every_missing_one_is_asked(copy: Copy) -> None:
    untracked(copy)
    copy.organisation.update(
        "vin_study", key_of("vin_study", 0), {"_vin_site_value": ("account", key_of("account", 99))}
    )
    first = told(copy)["account"]
    done(copy)
    before, after = told(copy)["account"], done(copy)["account"]

    assert figures(first) == ("by_id", None, 2 * SITES, 0)
    assert figures(before) == ("by_id", SITES, 2 * SITES, 1), "four stored, one missing"
    assert f"the {SITES - 1} records stored are asked by id" in before.reason
    assert after.requests == 1


def test_a_large_untracked_table_is_asked_for_what_changed(database_settings: dict[str, str]) -> None:
    copy = Copy(graph_of(520).organisation(), database_settings, SELECTION)
    untracked(copy, ["account"])
    done(copy)
    before = told(copy)["account"]

    assert figures(before) == ("recent", None, 1_040, 1)
    assert "by modifiedon" in before.reason


def test_a_related_table_that_is_gone_will_be_filled_again(copy: Copy) -> None:
    done(copy)
    with copy.database.writing() as conn:
        for kind, name in (("VIEW", "accounts_current"), ("VIEW", "accounts_history"), ("TABLE", "accounts")):
            conn.execute(text(f"DROP {kind} {name}"))
    before, after = told(copy)["account"], done(copy)["account"]

    assert (before.rows, before.requests) == (after.added, after.requests) == (SITES, 2)


def test_a_link_that_expired_means_all_keys_anew(copy: Copy) -> None:
    done(copy)
    copy.organisation.clock.advance(7 * 86_400)
    before, after = told(copy)["account"], done(copy)["account"]

    assert (before.read, before.requests) == ("keys", 1)
    assert "days old" in before.reason
    assert "days old" in after.reason


def test_a_new_column_means_asking_for_every_stored_record(copy: Copy) -> None:
    done(copy)
    copy.organisation.add_column("account", "vin_weight", "Edm.Int32", fixed=7)
    before, after = told(copy)["account"], done(copy)["account"]

    assert (before.rows, before.requests) == (SITES, after.requests)
    assert f"the columns changed; all {SITES} stored are asked by id" in before.reason
    assert after.unchanged == SITES


def test_a_lookup_that_is_yet_to_be_added_is_no_reason_to_stumble(copy: Copy) -> None:
    done(copy)
    copy.organisation.tables["vin_study"].shape.columns.append(lookup("vin_reviewer", "contact", "systemuser"))
    copy.organisation.clock.advance(60)
    copy.organisation.add_column("vin_study", "vin_weight", "Edm.Int32")
    before = told(copy)

    assert any("_vin_reviewer_value" in one for one in before["vin_study"].ddl)
    assert before["contact"].read == "changes"


def test_what_an_interrupted_run_left_on_its_list_is_counted(copy: Copy) -> None:
    copy.sandbox.deny("contact")
    copy.sync()
    copy.sandbox.allow("contact")
    before, after = told(copy)["contact"], done(copy)["contact"]

    assert before.rows == SITES
    assert (after.added, after.requests) == (SITES, before.requests)


def test_a_table_nothing_points_at_is_said_to_be_one(copy: Copy) -> None:
    copy.selection = [EntityConfig("vin_study_systemuser", "vin_study_systemuserset"), *SELECTION[2:3]]
    before = told(copy)["account"]

    assert "no other table copied points at it" in before.reason
    assert (before.rows, before.rows_at_most) == (0, None)
    assert done(copy)["account"].added == 0


def test_where_the_server_tells_no_counts_nothing_is_made_up(copy: Copy) -> None:
    copy.sandbox.faults.add(Fault(kind="status", match="RetrieveTotalRecordCount", status=400))
    outlook = dry_run.plan(copy.config, copy.selection, connect=wire_of(copy.sandbox))

    account = next(one for one in outlook.entities if one.entity == "account")
    assert (account.rows, account.rows_at_most, account.requests) == (None, None, 1)
    assert "at most" not in account.reason
    assert any("record counts" in note for note in outlook.notes)
