"""What users gave to our views and built on them outlives what a run changes; on PostgreSQL, where it might not."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from copies import Copy, at_noon, entities
from psycopg import sql
from shaping import FRENCH, MULTI, Store, key, spec_of, text_column
from targets import config_for

from igh_sync_core.errors import DataError
from igh_sync_core.model import Column, Kind
from igh_sync_core.schema import obstacles
from igh_sync_core.store.database import Database

BEFORE = spec_of(text_column("name", 10), Column("tags", Kind.STRING, option=MULTI))
GROWN = spec_of(*BEFORE.columns[1:], Column("weight", Kind.INT32))
RIGHTS = """
    SELECT relname, attname, coalesce(pg_get_userbyid(nullif(grantee, 0)), 'PUBLIC'), privilege_type, is_grantable
    FROM (SELECT relname, NULL AS attname, (aclexplode(relacl)).* FROM pg_class WHERE relkind = 'v'
    UNION ALL SELECT relname, attname, (aclexplode(attacl)).* FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE relkind = 'v') AS given WHERE relname LIKE 'samples%' ORDER BY 1, 2, 3, 4, 5
"""


@pytest.fixture
def store(postgres_url: str) -> Store:
    return Store(Database(config_for(postgres_connection_string=postgres_url)))


@pytest.fixture
def reader(postgres_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres_url, application_name="report") as conn:
        yield conn


@pytest.fixture
def role(postgres_server: str) -> Iterator[sql.Identifier]:
    """A role whose name needs quotes; whoever made its rights must take them back."""
    name = sql.Identifier('Ana "lyst" %')
    with psycopg.connect(postgres_server, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE ROLE {}").format(name))
    yield name
    with psycopg.connect(postgres_server, autocommit=True) as conn:
        conn.execute(sql.SQL("DROP ROLE {}").format(name))


@pytest.fixture
def administer(postgres_url: str, role: sql.Identifier) -> Iterator[Callable[[str], None]]:
    """Executes a statement in which ``{}`` is the role."""
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        yield lambda statement: conn.execute(sql.SQL(statement).format(role))
        conn.execute(sql.SQL("DROP OWNED BY {}").format(role))


@pytest.mark.parametrize("then", ["grown", "widened", "translated", "room"])
def test_rights_on_views_outlive_views_made_anew(store: Store, administer: Callable[[str], None], then: str) -> None:
    store.become(BEFORE)
    administer("GRANT SELECT ON samples_current, samples_history TO {} WITH GRANT OPTION")
    administer("GRANT SELECT (sampleid, name) ON samples_history TO PUBLIC")
    administer("REVOKE INSERT, UPDATE ON samples_current FROM CURRENT_USER")
    before = store.rows(RIGHTS)

    if then == "room":
        store.write(BEFORE, {"sampleid": key(1), "name": "x" * 11})
    else:
        wider = spec_of(text_column("name", 40), *BEFORE.columns[2:])
        spec = {"grown": GROWN, "widened": wider, "translated": BEFORE}[then]
        assert store.become(spec, language=FRENCH).failed == ()

    assert store.rows(RIGHTS) == before != []


def test_default_privileges_give_nothing_that_was_taken_away(store: Store, administer: Callable[[str], None]) -> None:
    administer("ALTER DEFAULT PRIVILEGES GRANT SELECT, DELETE ON TABLES TO {}")
    store.become(BEFORE)
    administer("REVOKE SELECT ON samples_history FROM {}")
    before = store.rows(RIGHTS)

    store.become(GROWN)

    assert store.rows(RIGHTS) == before


def test_who_makes_views_of_another_role_anew_has_rights_on_them(
    store: Store, administer: Callable[[str], None]
) -> None:
    """Without them nobody could read: the current view asks in the name of its owner for what the history shows."""
    store.become(BEFORE)
    for view in ("samples_current", "samples_history"):
        administer(f"ALTER VIEW {view} OWNER TO {{}}")

    store.become(GROWN)

    readers = "SELECT relname, (aclexplode(relacl)).* FROM pg_class WHERE relkind = 'v' AND relname LIKE 'samples%'"
    query = f"SELECT pg_get_userbyid(grantee) FROM ({readers}) AS given WHERE privilege_type = 'SELECT' ORDER BY 1"  # noqa: S608 - the test's own
    assert store.rows(query) == [('Ana "lyst" %',), ('Ana "lyst" %',), ("postgres",), ("postgres",)]


def test_comments_and_options_of_views_are_kept(store: Store) -> None:
    store.become(BEFORE)
    store.run("COMMENT ON VIEW samples_current IS 'ours; 100% it''s'")
    store.run("COMMENT ON COLUMN samples_current.name IS 'a name'")
    store.run("ALTER VIEW samples_history SET (security_barrier = true)")
    told = (
        "SELECT obj_description('samples_current'::regclass), reloptions, (SELECT description FROM pg_description "
        "WHERE objoid = 'samples_current'::regclass AND objsubid > 0) FROM pg_class WHERE relname = 'samples_history'"
    )
    before = store.rows(told)

    store.become(GROWN)

    assert store.rows(told) == before == [("ours; 100% it's", ["security_barrier=true"], "a name")]


def test_a_view_of_somebody_else_does_not_stop_a_table_from_growing(store: Store) -> None:
    store.become(BEFORE)
    store.run("CREATE VIEW theirs AS SELECT name FROM samples_current")

    applied = [store.become(GROWN) for _again in range(2)]
    store.write(GROWN, {"sampleid": key(1), "name": "a", "weight": 3})

    assert [(one.failed, one.is_settled) for one in applied] == [((), False)] * 2
    assert "view theirs depends on view samples_current" in applied[1].unseen[0][1]
    assert store.rows("SELECT s.name, weight FROM samples s JOIN theirs USING (name)") == [("a", 3)]
    store.run("DROP VIEW theirs")
    assert store.become(GROWN).unseen == ()
    assert store.rows("SELECT weight FROM samples_current") == [(3,)]


def test_views_left_on_a_renamed_table_move_to_the_new_one_once_they_may(store: Store) -> None:
    store.become(BEFORE)
    store.run("CREATE VIEW theirs AS SELECT name FROM samples_current")
    store.run("ALTER TABLE samples RENAME TO samples_old")
    [(_entity, note)] = store.become(BEFORE).unseen
    store.write(BEFORE, {"sampleid": key(1), "name": "a"}, new=True)
    store.run("DROP VIEW theirs")

    again = store.become(BEFORE)

    assert ("the views of samples stay as they were" in note, again.unseen, again.is_settled) == (True, (), True)
    assert store.rows("SELECT name FROM samples_current") == [("a",)]


def test_an_index_made_again_leaves_views_alone(store: Store) -> None:
    store.become(BEFORE)
    store.run("CREATE VIEW theirs AS SELECT name FROM samples_current")
    store.run("DROP INDEX ix_samples_closed")

    applied = store.become(BEFORE)

    assert (applied.failed, applied.unseen, applied.is_settled) == ((), (), True)
    assert store.rows("SELECT 1 FROM pg_indexes WHERE indexname = 'ix_samples_closed'") == [(1,)]


def test_texts_may_get_longer_under_a_view_of_somebody_else_until_one_is(store: Store) -> None:
    store.become(BEFORE)
    store.run("CREATE VIEW theirs AS SELECT name FROM samples")
    longer = spec_of(text_column("name", 20), *BEFORE.columns[2:])

    assert store.become(longer).failed == ()
    store.write(longer, {"sampleid": key(1), "name": "fits"})

    with pytest.raises(DataError, match=r"name must be widened to text, but .* view theirs depends on"):
        store.write(longer, {"sampleid": key(2), "name": "x" * 15})


def test_a_number_that_cannot_be_widened_names_what_is_built_on_it(store: Store) -> None:
    store.become(spec_of(Column("size", Kind.INT32)))
    store.run("CREATE VIEW theirs AS SELECT size FROM samples")

    [(_entity, why)] = store.become(spec_of(Column("size", Kind.INT64))).failed

    assert "view theirs depends on column" in why


def test_a_table_that_is_being_read_is_waited_for_and_not_for_ever(
    store: Store, reader: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(obstacles, "PATIENCE", "200ms")
    store.become(BEFORE)
    reader.execute("SELECT 1 FROM samples_current")

    applied = store.become(GROWN)

    [(entity, why)] = applied.failed
    assert (entity, f"process {reader.info.backend_pid} of postgres (report) did not let go" in why) == ("sample", True)
    reader.rollback()
    assert store.become(GROWN).failed == ()


def test_views_that_are_being_read_wait_for_another_run(
    store: Store, reader: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(obstacles, "PATIENCE", "200ms")
    store.become(BEFORE)
    reader.execute("SELECT 1 FROM samples_current")

    applied = store.become(BEFORE, language=FRENCH)

    assert (applied.failed, applied.is_settled) == ((), False)
    assert "the views of samples stay as they were: process" in applied.unseen[0][1]
    reader.rollback()
    again = store.become(BEFORE, language=FRENCH)
    assert (again.unseen, again.is_settled) == ((), True)


def test_a_run_beside_a_reader_sets_one_table_aside_and_the_next_one_catches_up(
    postgres_url: str, reader: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(obstacles, "PATIENCE", "200ms")
    organisation = at_noon(300)
    copy = Copy(organisation, {"postgres_connection_string": postgres_url}, entities("vin_disease", "vin_product"))
    copy.sync()
    reader.execute("SELECT 1 FROM vin_diseases_current")
    organisation.clock.advance(3600)
    organisation.add_column("vin_disease", "vin_weight", "Edm.Int32", fixed=12)
    for entity in ("vin_disease", "vin_product"):
        organisation.update(entity, organisation.keys(entity)[0], {"vin_name": "another"})

    beside = copy.sync()
    reader.rollback()
    after = copy.sync()

    assert ([name for name, _why in beside.failed_entities], beside.total("updated")) == (["vin_disease"], 1)
    assert (after.success, after.total("updated")) == (True, 1)
    assert {weight for (weight,) in copy.open_rows("vin_diseases", "vin_weight")} == {12}


def test_a_run_says_each_time_that_views_were_left(postgres_url: str) -> None:
    organisation = at_noon(300)
    copy = Copy(organisation, {"postgres_connection_string": postgres_url}, entities("vin_disease"))
    copy.sync()
    with copy.database.writing() as conn:
        conn.exec_driver_sql("CREATE SCHEMA elsewhere")
        conn.exec_driver_sql("CREATE VIEW elsewhere.theirs AS SELECT * FROM vin_diseases_current")
    organisation.add_column("vin_disease", "vin_weight", "Edm.Int32", fixed=12)

    beside = [copy.sync() for _again in range(2)]
    with copy.database.writing() as conn:
        conn.exec_driver_sql("DROP VIEW elsewhere.theirs")
    after = copy.sync()

    assert [(one.success, len(one.notes)) for one in (*beside, after)] == [(True, 1), (True, 1), (True, 0)]
    assert {row[0] for row in copy.rows_of("SELECT vin_weight FROM vin_diseases_current")} == {12}
