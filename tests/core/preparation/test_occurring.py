"""Codes that rows of an adopted file hold are beside them, whether or not the earlier program had a label for them."""

# ruff: noqa: S608 - the files are looked at as the programs that read them do, by plain SQL

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from copies import Copy, entities
from earlier import EarlierProgram

from igh_sync_core.sandbox import Organisation, health_organisation

UNLABELLED = 100000008
"""An option that has a label in French alone, which the earlier program never asked for."""

TAG = 100000004
STATUS, PLATFORMS = "_optionset_vin_status", "_optionset_vin_platforms"


@pytest.fixture
def organisation() -> Organisation:
    """Nothing tells its changes but ``modifiedon``, so no run reads again what has not changed."""
    made = health_organisation(150)
    made.clock.set(datetime(2026, 1, 10, 12, tzinfo=UTC))
    made.set_change_tracking("vin_candidate", on=False)
    records = sorted(made.keys("vin_candidate"), key=lambda one: str(made.record("vin_candidate", one)["modifiedon"]))
    for one in records:
        made.update("vin_candidate", one, {"vin_status": 100000001, "vin_platforms": "100000000"}, touch=False)
    made.update("vin_candidate", records[0], {"vin_status": UNLABELLED}, touch=False)
    made.update("vin_candidate", records[-1], {"vin_name": "the latest"})
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bronze.db"


@pytest.fixture
def copy(organisation: Organisation, path: Path) -> Copy:
    selection = entities("vin_candidate")
    EarlierProgram(organisation, path).write(selection)
    organisation.clock.advance(86400)
    return Copy(organisation, {"sqlite_db_path": str(path)}, selection)


def ask(path: Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as file, file:
        return file.execute(query, values).fetchall()


def codes(path: Path, table: str) -> dict[int, str]:
    """Label of every code."""
    return dict(ask(path, f"SELECT code, label FROM {table}"))


def make_older(path: Path, *left_out: tuple[str, int]) -> None:
    """As if the file had been taken over, and found clean, before codes were added; without those *left_out*."""
    for table, code in left_out:
        ask(path, f"DELETE FROM {table} WHERE code = ?", code)
    ask(path, "UPDATE _sync_adoption SET is_clean = 1")
    ask(path, "DELETE FROM _sync_metadata WHERE name LIKE '%codes%'")


def test_a_code_without_a_label_is_added_when_the_file_is_taken_over(copy: Copy, path: Path) -> None:
    before = codes(path, STATUS)
    assert UNLABELLED not in before

    reports = [copy.sync() for _again in range(2)]

    held = {code for (code,) in ask(path, "SELECT DISTINCT vin_status FROM vin_candidates")}
    assert set(codes(path, STATUS)) == held == {*before, UNLABELLED}
    assert codes(path, STATUS)[UNLABELLED]
    told = [[note for note in report.notes if STATUS in note] for report in reports]
    assert told == [[f"{STATUS}: codes that rows of vin_candidates hold were missing, and were added: 1"], []]


def test_a_field_of_which_no_code_had_a_label_gets_its_codes(copy: Copy, path: Path) -> None:
    ask(path, f"DROP TABLE {STATUS}")

    copy.sync()

    assert set(codes(path, STATUS)) == {100000001, UNLABELLED}


def test_options_of_multiselects_count_each_by_itself_whatever_else_a_record_holds(copy: Copy, path: Path) -> None:
    changing = (
        "UPDATE vin_candidates SET json_response = json_set(json_response, '$.vin_platforms', ?) WHERE row_id = ?"
    )
    for row_id, value in enumerate((f"100000000,{TAG}", "nonsense", "", None), start=1):
        ask(path, changing, value, row_id)
    assert TAG not in codes(path, PLATFORMS)

    copy.sync()

    assert set(codes(path, PLATFORMS)) == {100000000, TAG}


def test_a_file_taken_over_earlier_is_mended_by_a_reconcile_run_and_once(copy: Copy, path: Path) -> None:
    copy.sync()
    make_older(path, (STATUS, UNLABELLED))

    copy.sync()
    assert UNLABELLED not in codes(path, STATUS)
    first = copy.sync(reconcile=True)
    assert UNLABELLED in codes(path, STATUS)
    ask(path, f"DELETE FROM {STATUS} WHERE code = ?", UNLABELLED)
    second = copy.sync(reconcile=True)

    assert [any(STATUS in note for note in report.notes) for report in (first, second)] == [True, False]
    assert UNLABELLED not in codes(path, STATUS)


def test_an_entity_set_aside_gets_its_codes_once_it_fits(copy: Copy, organisation: Organisation, path: Path) -> None:
    ask(path, f"DROP TABLE {STATUS}")
    organisation.change_type("vin_candidate", "vin_name", "Edm.Int32")
    assert copy.sync().failed_entities
    organisation.change_type("vin_candidate", "vin_name", "Edm.String")

    report = copy.sync()

    assert report.failed_entities == []
    assert [note for note in report.notes if STATUS in note]
    assert UNLABELLED in codes(path, STATUS)
