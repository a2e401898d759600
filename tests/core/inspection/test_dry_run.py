"""Looking without touching: the schema check and the plan, on both engines."""

import contextlib
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from copies import Copy, at_noon, entities
from shaping import wire_of
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from igh_sync_core import errors
from igh_sync_core.config import Config
from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.inspection import dry_run, looking
from igh_sync_core.inspection.explanation import explain_record
from igh_sync_core.inspection.forecast import Forecast, Outlook
from igh_sync_core.sandbox import Fault, Organisation, health_organisation
from igh_sync_core.store.database import Database

TRACKED, UNTRACKED, WHOLE = "vin_disease", "vin_rdpriority", "vin_clinicalusestatus"


@pytest.fixture
def organisation() -> Organisation:
    return at_noon(2_000)


@pytest.fixture
def copy(organisation: Organisation, database_settings: dict[str, str]) -> Copy:
    related = replace(entities("account")[0], filtered=True)
    return Copy(organisation, database_settings, [*entities(TRACKED, UNTRACKED, WHOLE), related])


def plan(copy: Copy, *, page_size: int = 5_000) -> Outlook:
    return dry_run.plan(copy.config, copy.selection, page_size=page_size, connect=wire_of(copy.sandbox))


def reads(outlook: Outlook) -> dict[str, tuple[str, str, int | None, int | None]]:
    return {one.entity: (one.strategy, one.read, one.rows, one.requests) for one in outlook.entities}


def test_a_first_run_is_foretold_table_by_table(copy: Copy, organisation: Organisation) -> None:
    diseases, priorities, statuses = (organisation.count(name) for name in (TRACKED, UNTRACKED, WHOLE))

    outlook = plan(copy, page_size=100)

    def pages(rows: int) -> int:
        return max(1, -(-rows // 100))

    assert reads(outlook) == {
        TRACKED: ("delta", "first", diseases, pages(diseases) + 1 + pages(diseases)),
        UNTRACKED: ("modifiedon", "first", priorities, pages(priorities)),
        WHOLE: ("snapshot", "first", statuses, pages(statuses)),
        "account": ("related", "keys", 0, pages(organisation.count("account"))),
    }
    assert outlook.verdict.counts() == {"error": 0, "warning": 0, "info": 4}
    assert all(one.reason and one.ddl[0].startswith("CREATE TABLE") for one in outlook.entities)


@pytest.mark.parametrize("page_size", [100, 5_000])
def test_what_is_foretold_is_what_happens(copy: Copy, page_size: int) -> None:
    copy.selection = entities(TRACKED, UNTRACKED, WHOLE, "vin_vin_candidate_account", "vin_candidate")
    copy.organisation.clock.advance(2 * 365 * 86_400)  # past the last change, so that the overlap brings nothing
    for _run in range(2):
        outlook = plan(copy, page_size=page_size)
        foretold = {one.entity: one for one in outlook.entities}
        report = copy.sync(page_size=page_size)
        assert outlook.requests == report.requests - sum(done.requests for done in report.entities) > 0
        for done in report.entities:
            told = foretold[done.entity]
            assert (told.strategy, told.requests) == (done.strategy, done.requests)
            assert told.rows in (None, done.added or done.unchanged)
            assert told.is_whole is (told.rows is not None)


def test_the_questions_for_metadata_that_may_not_be_read_are_foretold(copy: Copy) -> None:
    copy.selection = entities(TRACKED)
    copy.sandbox.faults.add(Fault(kind="status", status=403, match="Definitions", times=1_000))
    copy.sync()
    outlook = plan(copy)
    report = copy.sync()

    areas = ("columns", "definitions", "relationships")
    assert outlook.requests == report.requests - report.entities[0].requests == 1 + len(areas)


def test_a_read_in_ranges_is_foretold(copy: Copy) -> None:
    [trial] = entities("vin_clinicaltrial")
    copy.selection = [replace(trial, strategy="modifiedon", ranges=4)]
    [told] = plan(copy).entities
    [done] = copy.sync().entities

    assert (told.rows, told.requests) == (done.added, done.requests)
    assert "in ranges of createdon, 4 at once" in told.reason


def test_an_empty_table_has_no_ranges_to_foretell(copy: Copy) -> None:
    [trial] = entities("vin_clinicaltrial")
    copy.selection = [replace(trial, strategy="modifiedon", ranges=4)]
    for key in copy.organisation.keys("vin_clinicaltrial"):
        copy.organisation.delete("vin_clinicaltrial", key)
    [told] = plan(copy).entities
    [done] = copy.sync().entities

    assert (told.rows, told.requests) == (0, done.requests)


def test_pages_that_grow_too_big_are_foretold_smaller(tmp_path: Path) -> None:
    copy = Copy(health_organisation(20_000), {"sqlite_db_path": str(tmp_path / "copy.db")}, entities("vin_candidate"))
    [told] = plan(copy).entities
    [done] = copy.sync().entities

    assert (told.rows, told.requests) == (done.added, done.requests)
    assert done.requests > 5


def test_metadata_that_has_not_moved_is_not_asked_again_for_a_look(copy: Copy) -> None:
    copy.sync()
    before = len(copy.sandbox.log)
    plan(copy)
    dry_run.validate_schema(copy.config, copy.selection, connect=wire_of(copy.sandbox))
    asked = {
        entry.path.rpartition("/")[2].partition("(")[0] for entry in copy.sandbox.log[before:] if entry.status == 200
    }

    assert asked - {"token", "openid-configuration"} == {"organizations", "RetrieveTotalRecordCount"}


def test_a_folder_that_is_not_there_is_told_before_a_run_finds_out(copy: Copy, tmp_path: Path) -> None:
    copy.config = replace(copy.config, sqlite_db_path=str(tmp_path / "no" / "copy.db"), postgres_connection_string=None)

    with pytest.raises(errors.ConfigError, match="folder that does not exist"):
        plan(copy)


def test_looking_writes_nothing(copy: Copy, database_settings: dict[str, str]) -> None:
    plan(copy)
    dry_run.validate_schema(copy.config, copy.selection, connect=wire_of(copy.sandbox))

    if path := database_settings.get("sqlite_db_path"):
        assert list(Path(path).parent.glob(Path(path).name + "*")) == []
    else:
        with copy.database.writing() as conn:
            assert inspect(conn).get_table_names() == []


def test_the_statements_told_for_a_new_database_are_those_a_run_executes(copy: Copy, database: Database) -> None:
    outlook = plan(copy)
    told = {
        name for one in (*outlook.ddl, *(one for each in outlook.entities for one in each.ddl)) for name in _made(one)
    }
    copy.sync()

    with database.writing() as conn:
        found = inspect(conn)
        tables = found.get_table_names()
        indexes = {index["name"] for table in tables for index in found.get_indexes(table)}
        assert told == {*tables, *found.get_view_names(), *indexes}


def _made(statement: str) -> list[str]:
    return re.findall(r'^CREATE (?:UNIQUE )?(?:TABLE|INDEX|VIEW) "?(\w+)"?', statement)


def test_a_log_that_a_killed_run_left_is_left_as_it_is(stored: tuple[Copy, Path]) -> None:
    copy, path = stored
    killed = subprocess.run([sys.executable, "-c", _DIES, str(path)], check=False)  # noqa: S603 - the script below
    assert killed.returncode == 9
    log = Path(f"{path}-wal")
    before = path.read_bytes(), log.read_bytes()

    assert before[1]
    assert plan(copy).passed
    assert (path.read_bytes(), log.read_bytes()) == before

    link = path.with_name("link.db")
    link.symlink_to(path)
    with looking.reading(replace(copy.config, sqlite_db_path=str(link))) as conn:
        assert conn.execute(text("SELECT max(records_count) FROM _sync_state")).scalar_one() == 1007
    assert (path.read_bytes(), log.read_bytes()) == before


_DIES = """
import os, sqlite3, sys
file = sqlite3.connect(sys.argv[1])
file.execute("UPDATE _sync_state SET records_count = 1007")
file.commit()
os._exit(9)
"""


def test_a_connection_for_looking_cannot_write(copy: Copy) -> None:
    copy.sync()
    with looking.reading(copy.config) as conn, pytest.raises((DBAPIError, errors.StoreError)):
        conn.execute(text("DELETE FROM vin_diseases"))


@pytest.fixture
def stored(organisation: Organisation, tmp_path: Path) -> tuple[Copy, Path]:
    """A copy in a file, and that file."""
    path = tmp_path / "copy.db"
    made = Copy(organisation, {"sqlite_db_path": str(path)}, entities(WHOLE))
    made.sync()
    return made, path


def test_a_locked_file_is_an_error_of_ours(stored: tuple[Copy, Path]) -> None:
    copy, path = stored
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(errors.StoreUnavailable, match="locked"):
            plan(copy)


def test_a_damaged_file_is_an_error_of_ours(stored: tuple[Copy, Path]) -> None:
    copy, path = stored
    path.write_bytes(path.read_bytes()[:9_000])

    with pytest.raises(errors.StoreError, match="malformed"):
        dry_run.validate_schema(copy.config, copy.selection, connect=wire_of(copy.sandbox))


def test_a_plan_shows_what_a_change_of_metadata_leads_to(copy: Copy, organisation: Organisation) -> None:
    copy.selection = entities(TRACKED, UNTRACKED)
    organisation.add_column(UNTRACKED, "vin_flag", "Edm.Int32", fixed=1)
    copy.sync()
    settled = plan(copy)
    organisation.add_column(TRACKED, "vin_weight", "Edm.Int32")
    organisation.change_type(UNTRACKED, "vin_flag", "Edm.Boolean")

    moved = plan(copy)

    assert {one: read[1] for one, read in reads(settled).items()} == {TRACKED: "delta", UNTRACKED: "increment"}
    assert {one.ddl for one in settled.entities} == {()}
    grown, broken = moved.entities
    assert (grown.read, [one for one in grown.ddl if "ADD COLUMN" in one]) == (
        "snapshot",
        ['ALTER TABLE "vin_diseases" ADD COLUMN "vin_weight" INTEGER'],
    )
    assert (broken.strategy, broken.reason) == ("", moved.verdict.errors[0].description)
    assert dry_run.validate_schema(copy.config, copy.selection, connect=wire_of(copy.sandbox)) == moved.verdict


def test_what_cannot_be_read_is_said(copy: Copy) -> None:
    copy.selection = [EntityConfig("gone", "gones"), replace(entities(WHOLE)[0], strategy="delta")]

    gone, demanded = plan(copy).entities

    assert (gone.strategy, gone.reason) == ("", "not in the environment's metadata")
    assert "needs change tracking" in demanded.reason


def test_the_plan_reads_as_json(copy: Copy) -> None:
    told = json.loads(json.dumps(plan(copy).as_dict()))

    assert [Forecast(**one).entity for one in told["entities"]] == [one.name for one in copy.selection]
    assert told["verdict"]["passed"]


def test_a_run_that_will_certainly_fail_is_foretold_as_failing(copy: Copy) -> None:
    copy.selection = [replace(one, strategy="delta") if one.name == UNTRACKED else one for one in copy.selection]

    outlook = plan(copy)
    assert not outlook.passed
    assert [one.entity for one in outlook.entities if one.error] == [UNTRACKED]


def test_a_damaged_file_is_one_clear_error(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"SQLite format 3\0" + b"\1" * 5_000)
    config = Config("https://org.crm.dynamics.com", "id", "secret", "", sqlite_db_path=str(damaged))

    with pytest.raises(errors.ConfigError, match="is no SQLite database, or a damaged one"), looking.reading(config):
        pass


@pytest.mark.parametrize(
    "opened",
    [
        looking.reading,
        lambda config: Database(config).writing(),
        lambda config: nullcontext(explain_record(config, [], table="contact", key="x")),
    ],
    ids=["looked at", "to be written", "explained"],
)
def test_a_file_of_another_encoding_is_one_clear_error_and_stays_as_it_is(
    tmp_path: Path, opened: Callable[[Config], AbstractContextManager[object]]
) -> None:
    other = tmp_path / "utf-16.db"
    with closing(sqlite3.connect(other)) as conn:
        conn.execute("pragma encoding = 'UTF-16le'")
        conn.execute("create table somebody_elses (id integer)")
    before = other.read_bytes()
    config = Config("https://org.crm.dynamics.com", "id", "secret", "", sqlite_db_path=str(other))

    refused = pytest.raises(errors.ConfigError, match="UTF-16le instead of UTF-8; name another file")
    with refused, opened(config):
        pass

    assert other.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["utf-16.db"]
