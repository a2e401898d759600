"""The fingerprint of the schema, and the check that is left out as long as it stays."""

from collections.abc import Callable

import pytest
from copies import Copy, entities
from shaping import NOON
from sqlalchemy import text

from igh_sync_core import drift, fingerprint, schema, shapes
from igh_sync_core.database import Database
from igh_sync_core.sandbox import Organisation, health_organisation

CHANGES = (
    "create table other (a integer, b text)",
    "alter table other add column c integer",
    "create index ix_other on other (a, b)",
    "create view seen as select a from other",
    "drop view seen",
    "alter table other rename column c to d",
    "drop index ix_other",
    "drop table other",
    "insert into _sync_shape (table_name, value) values ('others', '{}')",
)


@pytest.fixture
def organisation() -> Organisation:
    made = health_organisation(300)
    made.clock.set(NOON)
    return made


@pytest.fixture
def copy_of(organisation: Organisation, database_settings: dict[str, str]) -> Callable[..., Copy]:
    return lambda *names: Copy(organisation, database_settings, entities(*names))


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


def of_schema(database: Database) -> object:
    with database.reading() as conn:
        return fingerprint.of_schema(conn)


def execute(database: Database, statement: str) -> None:
    with database.writing() as conn:
        conn.execute(text(statement))


def test_moves_with_every_change_of_the_schema(database: Database) -> None:
    schema.create_control_tables(database)
    before = of_schema(database)
    for statement in CHANGES:
        execute(database, statement)
        after = of_schema(database)
        assert after != before, statement
        before = after


def test_stays_while_rows_and_temporary_tables_come_and_go(database: Database) -> None:
    schema.create_control_tables(database)
    before = of_schema(database)
    execute(database, "insert into _sync_seen (entity_name, key) values ('some', 'one')")
    with database.writing() as conn:
        conn.execute(text("create temporary table passing (a integer)"))
        assert fingerprint.of_schema(conn) == before
    assert of_schema(database) == before


def test_a_run_after_another_looks_at_no_table(copy_of: Callable[..., Copy], looks: list[int]) -> None:
    copy = copy_of("vin_disease", "vin_product")
    copy.sync()
    looks.clear()

    assert copy.sync().success

    assert looks == []


def test_a_table_changed_by_hand_is_looked_at_again(copy_of: Callable[..., Copy], looks: list[int]) -> None:
    copy = copy_of("vin_disease")
    copy.sync()
    execute(copy.database, "drop view vin_diseases_current")
    looks.clear()

    copy.sync()

    assert looks
    execute(copy.database, "select vin_diseaseid from vin_diseases_current")


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
    execute(copy.database, "alter table vin_diseases rename column vin_flag to vin_flag_old")
    assert copy.sync().success


def test_the_verdict_kept_for_the_run_is_its_own(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of("vin_disease")
    copy.sync()
    with copy.database.reading() as conn:
        assert "new table vin_diseases" in [one.description for one in drift.kept(conn).findings]
    copy.sync()
    with copy.database.reading() as conn:
        assert drift.kept(conn).findings == ()
