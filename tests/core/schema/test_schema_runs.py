"""Drift in whole runs: set aside, back-filled, kept; looked for only where something has moved."""

from collections.abc import Callable
from pathlib import Path

import pytest
from copies import Copy, at_noon, entities
from sqlalchemy import inspect, text

from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.errors import StoreError
from igh_sync_core.history import checkpoint
from igh_sync_core.preparation import drift
from igh_sync_core.sandbox import Organisation
from igh_sync_core.sandbox.data.columns import choice
from igh_sync_core.sandbox.organisations.health import custom
from igh_sync_core.sandbox.organisations.platform import platform_shapes
from igh_sync_core.schema import shapes

SEVEN = {
    "vin_one": ("Edm.Int32", "Edm.Boolean"),
    "vin_two": ("Edm.DateTimeOffset", "Edm.Date"),
    "vin_three": ("Edm.String", "Edm.DateTimeOffset"),
    "vin_four": ("Edm.Decimal", "Edm.Double"),
    "vin_five": ("Edm.Boolean", "Edm.Int32"),
    "vin_six": ("Edm.String", "Edm.Int32"),
    "vin_seven": ("Edm.Double", "Edm.String"),
}
NEIGHBOURS = ("vin_vin_candidate_account", "vin_vin_candidate_vin_region", "vin_vin_candidate_vin_country")


@pytest.fixture
def organisation() -> Organisation:
    return at_noon(300)


def test_one_entity_that_no_longer_fits_is_set_aside_and_the_others_sync(
    organisation: Organisation, copy_of: Callable[..., Copy]
) -> None:
    copy = copy_of("vin_disease", "vin_product")
    organisation.add_column("vin_disease", "vin_flag", "Edm.Int32", fixed=1)
    copy.sync()
    before = copy.rows("vin_diseases", "row_id", "json_response")
    organisation.clock.advance(3600)
    product = organisation.keys("vin_product")[0]
    organisation.update("vin_product", product, {"vin_name": "renamed"})
    organisation.change_type("vin_disease", "vin_flag", "Edm.Boolean")

    reports = [copy.sync() for _again in range(2)]

    for report in reports:
        assert not report.success
        [(entity, error)] = report.failed_entities
        assert (entity, "column vin_flag was int32 and is now boolean" in error) == ("vin_disease", True)
        assert [finding["details"]["column"] for finding in report.validation_errors] == ["vin_flag"]
    assert reports[0].total("updated") == 1
    assert copy.rows("vin_diseases", "row_id", "json_response") == before


def test_columns_added_in_dataverse_are_back_filled_by_one_full_read(
    organisation: Organisation, copy_of: Callable[..., Copy]
) -> None:
    copy = copy_of("vin_disease")
    copy.sync()
    versions = len(copy.rows("vin_diseases", "row_id"))
    organisation.clock.advance(3600)
    organisation.add_column("vin_disease", "vin_weight", "Edm.Int32", fixed=12)

    first, second = copy.sync(), copy.sync()

    assert (first.total("added"), first.total("updated")) == (0, 0)
    assert first.total("unchanged") >= versions
    assert set(copy.rows("vin_diseases", "vin_weight")) == {(12,)}
    assert len(copy.rows("vin_diseases", "row_id")) == versions
    assert second.total("unchanged") == 0


def test_columns_removed_in_dataverse_stay_and_make_no_versions(
    organisation: Organisation, copy_of: Callable[..., Copy]
) -> None:
    copy = copy_of("vin_disease")
    copy.sync()
    before = copy.rows("vin_diseases", "row_id", "vin_name", "valid_to")
    organisation.clock.advance(3600)
    organisation.remove_column("vin_disease", "vin_name")

    report = copy.sync()

    assert (report.success, report.total("updated")) == (True, 0)
    assert copy.rows("vin_diseases", "row_id", "vin_name", "valid_to") == before


@pytest.mark.parametrize(("before", "after"), list(SEVEN.values())[:3])
def test_real_drift_of_one_column_sets_its_table_aside(
    organisation: Organisation, copy_of: Callable[..., Copy], before: str, after: str
) -> None:
    copy = copy_of("vin_disease", "vin_region")
    organisation.add_column("vin_disease", "vin_drift", before)
    copy.sync()
    rows = copy.rows("vin_diseases", "row_id", "json_response")
    organisation.change_type("vin_disease", "vin_drift", after)

    report = copy.sync()

    assert [entity for entity, _error in report.failed_entities] == ["vin_disease"]
    assert [one.status for one in report.entities if one.entity == "vin_region"] == ["completed"]
    assert copy.rows("vin_diseases", "row_id", "json_response") == rows


def test_seven_columns_that_drift_at_once_are_seven_errors_of_one_table(
    organisation: Organisation, copy_of: Callable[..., Copy]
) -> None:
    copy = copy_of("vin_disease", "vin_region")
    for name, (before, _after) in SEVEN.items():
        organisation.add_column("vin_disease", name, before)
    copy.sync()
    for name, (_before, after) in SEVEN.items():
        organisation.change_type("vin_disease", name, after)

    report = copy.sync()

    assert [entity for entity, _error in report.failed_entities] == ["vin_disease"]
    assert {finding["details"]["column"] for finding in report.validation_errors} == set(SEVEN)


def test_three_tables_and_36_columns_dropped_between_two_runs_hurt_nobody(
    organisation: Organisation, copy_of: Callable[..., Copy]
) -> None:
    copy = copy_of("vin_candidate", *NEIGHBOURS, "vin_disease")
    copy.sync()
    own = [one.name for one in organisation.tables["vin_candidate"].shape.columns if one.name.startswith("vin_")]
    gone = [name for name in own if name not in ("vin_candidateid", "vin_name")][:36]
    tables = ("vin_candidates", *(entity.api_name for entity in copy.selection[1:4]))
    before = {table: copy.rows(table, "row_id", "json_response", "valid_to") for table in tables}
    for name in gone:
        organisation.remove_column("vin_candidate", name)
    for name in NEIGHBOURS:
        organisation.remove_table(name)
    first, second = copy.sync(), copy.sync()

    assert len(gone) == 36
    for report in (first, second):
        assert report.success
        assert {one.entity for one in report.entities if one.status == "skipped"} == set(NEIGHBOURS)
        assert (report.total("added"), report.total("updated"), report.total("closed")) == (0, 0, 0)
    assert {
        table: [row[::2] for row in copy.rows(table, "row_id", "json_response", "valid_to")] for table in tables
    } == {table: [row[::2] for row in rows] for table, rows in before.items()}


def test_longer_texts_and_larger_numbers_are_widened_between_two_runs(
    organisation: Organisation, copy_of: Callable[..., Copy]
) -> None:
    copy = copy_of("vin_disease")
    organisation.add_column("vin_disease", "vin_code", "Edm.String", max_length=10, fixed="x" * 10)
    organisation.add_column("vin_disease", "vin_count", "Edm.Int32", fixed=7)
    copy.sync()
    organisation.clock.advance(3600)
    organisation.add_column("vin_disease", "vin_code", "Edm.String", max_length=40, fixed="x" * 40)
    organisation.add_column("vin_disease", "vin_count", "Edm.Int64", fixed=2**40)
    report = copy.sync(reconcile=True)

    with copy.database.writing() as conn:
        types = {one["name"]: str(one["type"]) for one in inspect(conn).get_columns("vin_diseases")}
    assert report.success
    assert (types["vin_code"], types["vin_count"]) == (
        ("VARCHAR(40)", "BIGINT") if copy.database.is_postgres else ("TEXT", "INTEGER")
    )
    key = organisation.keys("vin_disease")[0]
    organisation.update("vin_disease", key, {"vin_name": "renamed"})
    copy.sync()
    assert ("x" * 40, 2**40) in copy.open_rows("vin_diseases", "vin_code", "vin_count")


def test_options_renamed_and_removed_in_dataverse_make_no_versions(
    organisation: Organisation, copy_of: Callable[..., Copy]
) -> None:
    copy = copy_of("vin_product")
    first, second = list(organisation.tables["vin_product"].shape.by_name["vin_status"].options.options)[:2]
    for product, code in zip(organisation.keys("vin_product"), (first, second), strict=False):
        organisation.update("vin_product", product, {"vin_status": code})
    copy.sync()
    rows = copy.rows("vin_products", "row_id", "vin_status", "valid_to")
    old = {code: label for code, label, language in told(copy) if language == 1033}
    organisation.clock.advance(3600)
    organisation.rename_option("vin_product", "vin_status", first, "New; or, as some say, fresh")
    organisation.remove_option("vin_product", "vin_status", second)
    report = copy.sync()

    assert (report.success, report.total("added"), report.total("updated")) == (True, 0, 0)
    assert copy.rows("vin_products", "row_id", "vin_status", "valid_to") == rows
    shown = dict(copy.rows_of("SELECT vin_status, vin_status_label FROM vin_products_current"))
    assert shown[first] == "New; or, as some say, fresh"
    assert shown[second] == old[second]
    ended = {code: label for code, label, language in told(copy, ended=True) if language == 1033}
    assert ended == {first: old[first], second: old[second]}


def told(copy: Copy, *, ended: bool = False) -> list[tuple[int, str, int]]:
    """Code, label and language of the labels of a product's status that hold, or that no longer do."""
    query = (
        "SELECT code, label, language, last_seen FROM _optionset WHERE entity = 'vin_product' AND field = 'vin_status'"
    )
    return [row[:3] for row in copy.rows_of(query) if (row[3] is not None) is ended]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each look at all tables."""
    seen: list[int] = []
    read = shapes.read

    def counted(conn: object, specs: object) -> shapes.Stored:
        seen.append(1)
        return read(conn, specs)  # type: ignore[arg-type]

    monkeypatch.setattr(shapes, "read", counted)
    return seen


def execute(copy: Copy, statement: str) -> None:
    with copy.database.writing() as conn:
        conn.execute(text(statement))


def test_a_run_after_another_looks_at_no_table(copy_of: Callable[..., Copy], looks: list[int]) -> None:
    copy = copy_of("vin_disease", "vin_product")
    copy.sync()
    looks.clear()

    assert copy.sync().success

    assert looks == []


def test_a_table_changed_by_hand_is_looked_at_again(copy_of: Callable[..., Copy], looks: list[int]) -> None:
    copy = copy_of("vin_disease")
    copy.sync()
    execute(copy, "drop view vin_diseases_current")
    looks.clear()

    copy.sync()

    assert looks
    execute(copy, "select vin_diseaseid from vin_diseases_current")


def test_another_selection_is_looked_at_for_itself_and_so_is_the_first_one_again(
    copy_of: Callable[..., Copy], looks: list[int]
) -> None:
    for names in (("vin_disease",), ("vin_disease", "vin_product"), ("vin_disease",)):
        looks.clear()
        assert copy_of(*names).sync().success
        assert looks, names


def test_what_is_set_aside_stays_so_until_something_moves(
    organisation: Organisation, copy_of: Callable[..., Copy], looks: list[int]
) -> None:
    copy = copy_of("vin_disease", "vin_product")
    organisation.add_column("vin_disease", "vin_flag", "Edm.Int32", fixed=1)
    copy.sync()
    organisation.change_type("vin_disease", "vin_flag", "Edm.Boolean")
    first = copy.sync()
    looks.clear()

    again = copy.sync()

    assert looks == []
    assert [report.failed_entities for report in (first, again)] == [first.failed_entities] * 2
    assert again.validation_errors == first.validation_errors != ()
    execute(copy, "alter table vin_diseases rename column vin_flag to vin_flag_old")
    assert copy.sync().success


def test_the_verdict_kept_for_the_run_is_its_own(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of("vin_disease")
    copy.sync()
    with copy.database.reading() as conn:
        assert "new table vin_diseases" in [one.description for one in drift.kept(conn).findings]
    copy.sync()
    with copy.database.reading() as conn:
        assert drift.kept(conn).findings == ()


def test_a_state_that_cannot_be_read_fails_its_entity_alone(organisation: Organisation, tmp_path: Path) -> None:
    """On SQLite: PostgreSQL keeps times as times."""
    copy = Copy(organisation, {"sqlite_db_path": str(tmp_path / "copy.db")}, entities("vin_disease", "vin_product"))
    copy.sync()
    execute(copy, "update _sync_state set last_sync_time = 'noon' where entity_name = 'vin_diseases'")

    report = copy.sync()

    [(entity, error)] = report.failed_entities
    assert (entity, "vin_diseases in _sync_state cannot be read" in error) == ("vin_disease", True)
    with copy.database.reading() as conn, pytest.raises(StoreError, match="a line in _sync_state cannot be read"):
        checkpoint.glimpse(conn)


def test_a_table_too_wide_for_its_view_is_copied_without_it(database_settings: dict[str, str]) -> None:
    """PostgreSQL gives no query more than 1664 columns, and each choice is shown with its label."""
    wide = custom("vin_wide", "vin_wides", [choice(f"vin_c{at}", "A|B", table="wide") for at in range(900)])
    organisation = Organisation([*platform_shapes(), wide], {"organization": 1, "vin_wide": 5}, seed=1)
    copy = Copy(organisation, database_settings, [EntityConfig("vin_wide", "vin_wides")])
    is_shown = not copy.database.is_postgres

    first = copy.sync()
    organisation.clock.advance(3600)
    organisation.update("vin_wide", organisation.keys("vin_wide")[0], {"vin_name": "another"})
    second = copy.sync()

    assert (first.success, second.success, second.total("updated")) == (True, True, 1)
    assert len(copy.open_rows("vin_wides", "vin_wideid")) == 5
    told = [note for note in first.notes if "vin_wides is copied without its views" in note]
    assert bool(told) is not is_shown
    with copy.database.writing() as conn:
        standing = {name for name in inspect(conn).get_view_names() if name.startswith("vin_wides")}
    assert standing == ({"vin_wides_current", "vin_wides_history"} if is_shown else set())
