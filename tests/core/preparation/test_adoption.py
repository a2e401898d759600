"""A file of the program before this one, synced by this one: nothing lost, nothing doubled, its faults told."""

# ruff: noqa: S608 - the files are looked at as the programs that read them do, by plain SQL

import base64
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from copies import Copy, entities
from earlier import EarlierProgram
from shaping import wire_of

from igh_sync_core.config.entities import EntityConfig, load_entity_configs
from igh_sync_core.errors import StoreError
from igh_sync_core.inspection.dry_run import plan, validate_schema
from igh_sync_core.inspection.forecast import Outlook
from igh_sync_core.sandbox import Organisation, health_organisation

START = datetime(2026, 1, 10, 12, 0, 0, tzinfo=UTC)
TRACKED, UNTRACKED, WHOLE = "vin_disease", "vin_rdpriority", "vin_clinicalusestatus"
OPEN = "WHERE valid_to IS NULL"


@pytest.fixture
def organisation() -> Organisation:
    made = health_organisation(500)
    made.clock.set(START)
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bronze.db"


@pytest.fixture
def adopted(organisation: Organisation, path: Path) -> Callable[..., Copy]:
    """A copy whose file the earlier program wrote an hour ago."""

    def make(*names: str, keeps_targets: bool = True, without: tuple[str, ...] = ()) -> Copy:
        selection = entities(*names) if names else load_entity_configs()
        EarlierProgram(organisation, path, keeps_targets).write(selection, without=without)
        organisation.clock.advance(3600)
        return Copy(organisation, {"sqlite_db_path": str(path)}, selection)

    return make


def ask(path: Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as file, file:
        return file.execute(query, values).fetchall()


def columns_of(path: Path, table: str) -> list[str]:
    return [row[1] for row in ask(path, f"PRAGMA table_info({table})")]


def contents(path: Path, table: str, columns: list[str]) -> list[tuple[Any, ...]]:
    return ask(path, f"SELECT {', '.join(columns)} FROM {table} ORDER BY row_id")


def figures(copy: Copy, **options: Any) -> tuple[int, int, int]:
    report = copy.sync(**options)
    assert report.failed_entities == []
    assert report.validation_errors == ()
    return report.total("added"), report.total("updated"), report.total("closed")


def foretold(copy: Copy) -> Outlook:
    return plan(copy.config, copy.selection, connect=wire_of(copy.sandbox))


def insert_again(path: Path, entity: EntityConfig, key: str, **changes: str) -> None:
    """Insert the open version of a record once more, with some columns changed, as the earlier program did."""
    table = entity.api_name
    names = [name for name in columns_of(path, table) if name not in {"row_id", "closed_reason"}]
    shown = [f"'{changes[name]}'" if name in changes else name for name in names]
    insert = f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(shown)} FROM {table}"
    ask(path, f"{insert} {OPEN} AND {entity.name}id = ?", key)


@pytest.mark.parametrize("keeps_targets", [True, False])
def test_unchanged_records_make_no_versions_whatever_the_table(
    adopted: Callable[..., Copy], path: Path, *, keeps_targets: bool
) -> None:
    copy = adopted(keeps_targets=keeps_targets)
    before = {one.api_name: ask(path, f"SELECT count(*) FROM {one.api_name}") for one in copy.selection}

    assert figures(copy) == (0, 0, 0)
    assert figures(copy) == (0, 0, 0)
    after = {one.api_name: ask(path, f"SELECT count(*) FROM {one.api_name}") for one in copy.selection}
    assert after == before


@pytest.mark.parametrize("keeps_targets", [True, False])
def test_every_stored_value_stays_and_new_columns_hold_what_the_records_tell(
    adopted: Callable[..., Copy], organisation: Organisation, path: Path, *, keeps_targets: bool
) -> None:
    copy = adopted("vin_candidate", "account", keeps_targets=keeps_targets)
    tables = {"vin_candidates": [], "accounts": []}
    images = {
        column.name
        for name in ("vin_candidate", "account")
        for column in organisation.tables[name].shape.columns
        if column.edm == "Edm.Binary"
    }
    for table in tables:
        tables[table] = [name for name in columns_of(path, table) if name != "json_response" and name not in images]
    before = {table: contents(path, table, names) for table, names in tables.items()}
    copy.sync()

    assert {table: contents(path, table, names) for table, names in tables.items()} == before
    untyped = "SELECT count(*) FROM accounts WHERE _ownerid_value IS NOT NULL AND _ownerid_type IS NULL"
    assert ask(path, untyped) == [(0,)]


def test_images_kept_as_text_become_the_same_bytes(adopted: Callable[..., Copy], path: Path) -> None:
    copy = adopted("account", "vin_candidate")
    text = "SELECT row_id, entityimage FROM accounts WHERE entityimage IS NOT NULL ORDER BY row_id"
    before = ask(path, text)
    copy.sync()

    assert before
    assert ask(path, text) == [(row_id, base64.b64decode(image)) for row_id, image in before]


def test_images_kept_in_lines_become_the_same_bytes(adopted: Callable[..., Copy], path: Path) -> None:
    copy = adopted("account", "vin_disease")
    ask(path, f"UPDATE accounts SET entityimage = '{base64.encodebytes(bytes(100)).decode()}' WHERE row_id = 1")
    report = copy.sync()

    assert not [note for note in report.notes if "no image" in note]
    assert ask(path, "SELECT entityimage FROM accounts WHERE row_id = 1") == [(bytes(100),)]


def test_images_that_are_none_stay_as_they_are_and_are_told(
    adopted: Callable[..., Copy], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("igh_sync_core.preparation.takeover._IMAGES_AT_ONCE", 2)
    copy = adopted("account", "vin_disease")
    ask(path, "UPDATE accounts SET entityimage = 'YWJj'")
    ask(path, "UPDATE accounts SET entityimage = CASE row_id WHEN 1 THEN 'é' ELSE 'abc' END WHERE row_id < 8")
    rows = [row_id for (row_id,) in ask(path, "SELECT row_id FROM accounts ORDER BY row_id")]
    assert len(rows) > 10

    report = copy.sync()

    assert report.success
    told = "accounts: entityimage holds no image in 7 rows, which keep their text: row_id 1, 2, 3, 4, 5, …"
    assert [note for note in report.notes if "no image" in note] == [told]
    kept = ask(path, "SELECT entityimage FROM accounts ORDER BY row_id")
    assert kept[: len(rows)] == [("é",), *[("abc",)] * 6, *[(b"abc",)] * (len(rows) - 7)]


def test_the_next_run_goes_on_at_the_watermark(adopted: Callable[..., Copy]) -> None:
    copy = adopted(UNTRACKED)
    watermark = ask(Path(copy.settings["sqlite_db_path"]), "SELECT last_timestamp FROM _sync_state")[0][0]
    copy.sync()

    [asked] = [entry.query for entry in copy.asked if entry.path.endswith("/vin_rdpriorities")]
    since = datetime.fromisoformat(watermark).astimezone(UTC)
    assert "modifiedon%20ge%20" in asked or "modifiedon ge " in asked
    assert f"{since:%Y-%m-%d}" in asked


def test_a_tracked_table_is_read_whole_once_and_by_its_changes_from_then_on(adopted: Callable[..., Copy]) -> None:
    copy = adopted(TRACKED)
    copy.sync()
    assert copy.state("vin_diseases").delta_link is not None

    assert copy.sync_one().requests == 1


@pytest.mark.parametrize("entity", [TRACKED, UNTRACKED, WHOLE])
def test_what_changed_since_arrives_as_one_version_each(
    adopted: Callable[..., Copy], organisation: Organisation, entity: str
) -> None:
    copy = adopted(entity)
    first, second, *_ = organisation.keys(entity)
    organisation.update(entity, first, {"vin_name": "renamed"})
    added = organisation.insert(entity, {"vin_name": "added"})

    assert figures(copy) == (1, 1, 0)
    versions = copy.rows(copy.selection[0].api_name, f"{entity}id", "closed_reason")
    assert [reason for key, reason in versions if key == first] == ["updated", None]
    assert [reason for key, reason in versions if key in (second, added)] == [None, None]


@pytest.mark.parametrize("entity", [TRACKED, WHOLE])
def test_deletions_that_were_never_noticed_are_closed(
    adopted: Callable[..., Copy], organisation: Organisation, entity: str
) -> None:
    copy = adopted(entity)
    gone = organisation.keys(entity)[0]
    organisation.delete(entity, gone)

    assert figures(copy) == (0, 0, 1)
    assert dict(copy.rows(copy.selection[0].api_name, f"{entity}id", "closed_reason"))[gone] == "absent"


def test_versions_the_earlier_program_closed_count_as_updated(adopted: Callable[..., Copy], path: Path) -> None:
    copy = adopted(UNTRACKED)
    [[key]] = ask(path, "SELECT vin_rdpriorityid FROM vin_rdpriorities WHERE row_id = 1")
    insert_again(path, copy.selection[0], key)
    ask(path, "UPDATE vin_rdpriorities SET valid_to = '2026-01-10T12:00:00.000001+00:00' WHERE row_id = 1")

    assert figures(copy) == (0, 0, 0)
    assert copy.rows("vin_rdpriorities", "closed_reason")[0] == ("updated",)


def test_a_run_that_failed_leaves_a_watermark_nobody_trusts(adopted: Callable[..., Copy], path: Path) -> None:
    copy = adopted(UNTRACKED)
    ask(path, "UPDATE _sync_state SET state = 'failed'")

    assert figures(copy) == (0, 0, 0)
    assert "modifiedon" not in next(entry.query for entry in copy.asked if entry.path.endswith("/vin_rdpriorities"))


def test_state_under_the_logical_name_is_found(adopted: Callable[..., Copy], path: Path) -> None:
    copy = adopted(UNTRACKED)
    ask(path, "UPDATE _sync_state SET entity_name = 'vin_rdpriority'")
    copy.sync()

    assert "modifiedon" in next(entry.query for entry in copy.asked if entry.path.endswith("/vin_rdpriorities"))
    assert ask(path, "SELECT entity_name, state FROM _sync_state") == [("vin_rdpriorities", "completed")]


def test_users_kept_by_their_owner_id_get_the_key_that_metadata_names(adopted: Callable[..., Copy], path: Path) -> None:
    copy = adopted("vin_candidate", "systemuser", without=("systemuserid",))
    users = ask(path, "SELECT count(*) FROM systemusers")

    assert figures(copy) == (0, 0, 0)
    assert ask(path, "SELECT count(*) FROM systemusers WHERE systemuserid = ownerid") == users


def test_everything_or_nothing_is_taken_over(adopted: Callable[..., Copy], path: Path) -> None:
    copy = adopted(TRACKED, UNTRACKED)
    ask(path, "CREATE TRIGGER stop BEFORE UPDATE ON vin_rdpriorities BEGIN SELECT RAISE(ABORT, 'stop'); END")
    before = [columns_of(path, table) for table in ("vin_diseases", "vin_rdpriorities", "_sync_state", "_sync_log")]

    with pytest.raises(StoreError, match="stop"):
        copy.sync()
    after = [columns_of(path, table) for table in ("vin_diseases", "vin_rdpriorities", "_sync_state", "_sync_log")]
    assert after == before

    ask(path, "DROP TRIGGER stop")
    assert figures(copy) == (0, 0, 0)


def test_tables_left_out_at_first_are_taken_over_when_they_are_synced(adopted: Callable[..., Copy]) -> None:
    copy = adopted(TRACKED, UNTRACKED)
    selection, copy.selection = copy.selection, copy.selection[:1]
    assert figures(copy) == (0, 0, 0)

    copy.selection = selection
    assert "1 tables" in " ".join(copy.sync().notes)
    assert figures(copy) == (0, 0, 0)


def test_taking_over_is_told_once(adopted: Callable[..., Copy]) -> None:
    copy = adopted("vin_vin_candidate_vin_region")

    assert "taken over" in " ".join(copy.sync().notes)
    assert copy.sync().notes == ()


def test_plan_and_check_of_a_file_not_yet_taken_over_pass_and_write_nothing(
    adopted: Callable[..., Copy], path: Path
) -> None:
    copy = adopted(TRACKED, UNTRACKED, "account")
    before = path.read_bytes()

    assert validate_schema(copy.config, copy.selection, connect=wire_of(copy.sandbox)).passed
    assert foretold(copy).verdict.passed
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_plan_tells_that_the_file_would_be_taken_over(adopted: Callable[..., Copy], path: Path) -> None:
    copy = adopted(TRACKED, UNTRACKED, WHOLE, "account")
    [[diseases]] = ask(path, "SELECT count(*) FROM vin_diseases")
    outlook = foretold(copy)

    assert outlook.notes[0].startswith("would be taken over from an earlier program: 4 tables with")
    assert all("taken over" in one.reason for one in outlook.entities)
    assert f"taken over with {diseases} versions" in outlook.entities[0].reason
    assert [finding.description for finding in outlook.verdict.findings] == [
        f"table {one.api_name} was made by an earlier program; the next run takes it over as it is"
        for one in copy.selection
    ]


@pytest.mark.parametrize("keeps_targets", [True, False])
def test_reads_and_requests_foretold_are_those_of_the_run_that_takes_over(
    adopted: Callable[..., Copy], *, keeps_targets: bool
) -> None:
    copy = adopted(TRACKED, UNTRACKED, WHOLE, "account", "vin_candidate", keeps_targets=keeps_targets)
    expected = {one.entity: one for one in foretold(copy).entities}
    report = copy.sync()

    assert expected[UNTRACKED].read == ("increment" if keeps_targets else "snapshot")
    assert {name: expected[name].read for name in (TRACKED, WHOLE)} == {TRACKED: "snapshot", WHOLE: "snapshot"}
    assert expected["account"].read == "keys"
    # Where the records do not tell the lookups' types, every member is asked by id.
    assert (expected["account"].rows is None) is keeps_targets
    for one in report.entities:
        assert (one.entity, one.strategy, one.requests) == (
            one.entity,
            expected[one.entity].strategy,
            expected[one.entity].requests,
        )


def test_a_watermark_that_a_plan_does_not_trust_is_told(adopted: Callable[..., Copy], path: Path) -> None:
    copy = adopted(UNTRACKED)
    ask(path, "UPDATE _sync_state SET state = 'failed', entity_name = 'vin_rdpriority'")

    assert [one.read for one in foretold(copy).entities] == ["snapshot"]


@pytest.mark.parametrize("doubled", [True, False])
def test_the_statements_foretold_make_the_tables_the_run_makes(
    adopted: Callable[..., Copy], organisation: Organisation, path: Path, *, doubled: bool
) -> None:
    copy = adopted(TRACKED, "systemuser", "vin_candidate", without=("systemuserid",))
    organisation.add_column(TRACKED, "vin_weight", "Edm.Int32")
    if doubled:
        names = ", ".join(name for name in columns_of(path, "vin_diseases") if name != "row_id")
        ask(path, f"INSERT INTO vin_diseases ({names}) SELECT {names} FROM vin_diseases LIMIT 3")
    outlook = foretold(copy)
    rehearsal = path.with_name("rehearsal.db")
    rehearsal.write_bytes(path.read_bytes())
    for statement in (*outlook.ddl, *(one for forecast in outlook.entities for one in forecast.ddl)):
        ask(rehearsal, statement)
    copy.sync()

    schema = "SELECT type, name, tbl_name FROM sqlite_master ORDER BY 1, 2"
    assert ask(rehearsal, schema) == ask(path, schema)
    for kind, table, _ in ask(path, schema):
        if kind in ("table", "view"):
            assert sorted(columns_of(rehearsal, table)) == sorted(columns_of(path, table)), table


def test_a_table_made_before_a_lookup_or_an_image_existed_is_taken_over(adopted: Callable[..., Copy]) -> None:
    copy = adopted("account", "vin_disease", without=("entityimage", "_ownerid_value"))
    entity = foretold(copy).entities[0]

    assert any('"_ownerid_value"' in one and "ADD COLUMN" in one for one in entity.ddl)
    assert figures(copy) == (0, 0, 0)
    assert set(copy.open_rows("accounts", "_ownerid_value")) != {(None,)}


class TestDoubledVersions:
    """Two open versions of one record, of which the newer one is true."""

    @pytest.fixture
    def copy(self, adopted: Callable[..., Copy], organisation: Organisation, path: Path) -> Copy:
        copy = adopted(TRACKED)
        self.key, self.other, *_ = organisation.keys(TRACKED)
        name = organisation.record(TRACKED, self.key)["vin_name"]
        ask(path, "UPDATE vin_diseases SET vin_name = 'stale' WHERE vin_diseaseid = ?", self.key)
        insert_again(path, copy.selection[0], self.key, vin_name=str(name), valid_from="2026-01-10T11:59:00Z")
        return copy

    def versions(self, copy: Copy, *columns: str) -> list[tuple[Any, ...]]:
        return [row[1:] for row in copy.rows("vin_diseases", "vin_diseaseid", *columns) if row[0] == self.key]

    def test_are_told_in_every_run_and_stay_as_they_are(self, copy: Copy) -> None:
        before = self.versions(copy, "vin_name", "valid_from", "valid_to")
        for _ in range(2):
            assert "vin_diseases: 1 records have more than one open version" in " ".join(copy.sync().notes)

        assert self.versions(copy, "vin_name", "valid_from", "valid_to") == before

    def test_do_not_keep_the_rest_from_syncing(self, copy: Copy, organisation: Organisation) -> None:
        organisation.update(TRACKED, self.other, {"vin_name": "renamed"})
        organisation.insert(TRACKED, {"vin_name": "added"})

        assert figures(copy) == (1, 1, 0)

    def test_end_when_their_record_changes(self, copy: Copy, organisation: Organisation) -> None:
        copy.sync()
        organisation.clock.advance(60)
        organisation.update(TRACKED, self.key, {"vin_name": "renamed"})

        assert figures(copy) == (0, 1, 0)
        found = self.versions(copy, "vin_name", "closed_reason")
        assert [reason for _, reason in found] == ["updated", "updated", None]
        assert found[-1] == ("renamed", None)
        assert "more than one" not in " ".join(copy.sync().notes)

    def test_end_when_their_record_is_deleted(self, copy: Copy, organisation: Organisation) -> None:
        copy.sync()
        organisation.delete(TRACKED, self.key)

        assert figures(copy) == (0, 0, 1)
        assert self.versions(copy, "closed_reason") == [("updated",), ("deleted",)]

    def test_are_closed_by_a_reconcile_run_where_the_next_one_begins(self, copy: Copy, path: Path) -> None:
        before = self.versions(copy, "vin_name", "valid_from")
        report = copy.sync(reconcile=True)

        assert "1 superseded versions" in " ".join(report.notes)
        (first, second) = self.versions(copy, "vin_name", "valid_from", "valid_to", "closed_reason")
        assert (first[:2], second[:2]) == tuple(before)
        assert first[2] > first[1]
        assert (first[3], second[2:]) == ("updated", (None, None))
        assert copy.sync().notes == tuple(note for note in report.notes if note.startswith("made from numbers"))
        with pytest.raises(sqlite3.IntegrityError):
            insert_again(path, copy.selection[0], self.key)


class TestOptionsLeftOpen:
    """A multi-select that was cleared, and whose rows nobody closed."""

    @pytest.fixture
    def junction(self, organisation: Organisation) -> str:
        shape = organisation.tables["vin_candidate"].shape
        self.field = next(column.name for column in shape.columns if column.kind == "MultiSelectPicklist")
        return f"_junction_vin_candidates_{self.field}"

    @pytest.fixture
    def copy(self, adopted: Callable[..., Copy], organisation: Organisation, path: Path, junction: str) -> Copy:
        chosen = (
            key for key in organisation.keys("vin_candidate") if organisation.record("vin_candidate", key)[self.field]
        )
        self.key = next(chosen)
        organisation.update("vin_candidate", self.key, {self.field: None})
        copy = adopted("vin_candidate")
        insert = f"INSERT INTO {junction} (entity_id, option_code, valid_from) VALUES (?, 1, '2025-12-31T00:00:00Z')"
        ask(path, insert, self.key)
        return copy

    def rows(self, path: Path, junction: str) -> list[tuple[Any, ...]]:
        return ask(path, f"SELECT option_code, valid_to FROM {junction} WHERE entity_id = ?", self.key)

    def test_are_told_in_every_run_and_stay(self, copy: Copy, path: Path, junction: str) -> None:
        for _ in range(2):
            assert f"{junction}: 1 open rows" in " ".join(copy.sync().notes)

        assert self.rows(path, junction) == [(1, None)]

    def test_are_closed_by_a_reconcile_run(self, copy: Copy, path: Path, junction: str) -> None:
        others = ask(path, f"SELECT count(*) FROM {junction} {OPEN}")[0][0] - 1
        assert f"{junction}: 1 rows" in " ".join(copy.sync(reconcile=True).notes)

        [(code, end)] = self.rows(path, junction)
        assert (code, end is None) == (1, False)
        assert ask(path, f"SELECT count(*) FROM {junction} {OPEN}") == [(others,)]


def test_option_tables_made_from_numbers_are_told_and_never_dropped(adopted: Callable[..., Copy], path: Path) -> None:
    copy = adopted("vin_candidate")
    tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '\\_optionset\\_%' ESCAPE '\\'"
    before = set(ask(path, tables))

    for reconcile in (False, True):
        [note] = [note for note in copy.sync(reconcile=reconcile).notes if note.startswith("made from numbers")]
    stale = {name for (name,) in before if name in note}
    assert stale
    assert "_optionset_statecode" not in note
    assert before <= set(ask(path, tables))


def test_what_a_file_with_doubles_needs_does_not_reach_other_databases_of_the_process(
    adopted: Callable[..., Copy], organisation: Organisation, path: Path, tmp_path: Path
) -> None:
    copy = adopted(TRACKED)
    names = ", ".join(name for name in columns_of(path, "vin_diseases") if name != "row_id")
    ask(path, f"INSERT INTO vin_diseases ({names}) SELECT {names} FROM vin_diseases LIMIT 3")
    figures(copy)

    for name in ("first.db", "second.db"):
        fresh = Copy(organisation, {"sqlite_db_path": str(tmp_path / name)}, entities(TRACKED))
        figures(fresh)
        figures(fresh)
        found = ask(
            tmp_path / name, "SELECT name FROM sqlite_master WHERE type = 'index' AND name LIKE '%diseases_open'"
        )
        assert found == [("uq_vin_diseases_open",)]
