"""What goes wrong with a database: lost, full, read-only, contested; and what is said of it."""

import contextlib
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from copies import Copy, entities
from loads import NOON, SPEC, A, create_tables, loading, record
from msgspec import Raw
from sqlalchemy import MetaData, Table, event, func, insert, select, text

from igh_sync_core.config import Config
from igh_sync_core.errors import DataError, StoreError, StoreUnavailable
from igh_sync_core.history.choices import Choices
from igh_sync_core.history.rows import RowCodec
from igh_sync_core.model import Column, EntitySet, Kind, LogicalName, OptionKind, TableSpec
from igh_sync_core.sandbox import health_organisation
from igh_sync_core.schema.ddl import create_control_tables
from igh_sync_core.schema.optionsets import optionset_table
from igh_sync_core.schema.tables import entity_tables
from igh_sync_core.store import lock
from igh_sync_core.store.control import SyncSeen
from igh_sync_core.store.database import Database, Lease
from igh_sync_core.store.lock import exclusive_run

SEEN = SyncSeen.metadata.tables["_sync_seen"]
THREADS = 8
SECRET = "what-a-patient-said"
KICK = (
    "select pg_terminate_backend(pid) from pg_stat_activity "
    "where datname = current_database() and pid <> pg_backend_pid()"
)


@pytest.fixture
def ready(database: Database) -> Database:
    create_control_tables(database)
    return database


@pytest.fixture
def postgres(postgres_url: str) -> dict[str, str]:
    return {"postgres_connection_string": postgres_url}


def kick(database: Database) -> None:
    """End every other session, as a restarted server does."""
    with database.writing() as conn:
        conn.execute(text(KICK))


def some(count: int, entity: str = "some") -> list[tuple[str, str]]:
    return [(entity, f"{number} {SECRET}") for number in range(count)]


def fill(database: Database, count: int) -> None:
    with database.writing() as conn:
        database.load(conn, SEEN, ("entity_name", "key"), some(count))


def test_many_threads_and_a_heartbeat_share_one_file(
    ready: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.02)

    def write(number: int) -> None:
        with ready.connection() as conn:
            for part in range(20):
                with ready.transaction(conn):
                    lock.fence(conn, "mine")
                    ready.load(conn, SEEN, ("entity_name", "key"), some(50, f"{number} {part}"))

    with exclusive_run(ready, "mine"):
        in_threads([lambda number=number: write(number) for number in range(THREADS)])

    with ready.writing() as conn:
        assert len(conn.execute(select(SEEN.c.key)).all()) == THREADS * 20 * 50
    assert caplog.records == []


def in_threads(jobs: list[Callable[[], None]]) -> None:
    """All at once; the first error of any of them is raised here."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()


@pytest.mark.parametrize("how", ["statement", "bulk"])
def test_a_connection_lost_in_a_transaction_may_be_tried_again(postgres: dict[str, str], how: str) -> None:
    database = Database(Config("https://org.crm.dynamics.com", "", "", "", **postgres))
    create_control_tables(database)

    def lose() -> None:
        with database.writing() as conn:
            database.load(conn, SEEN, ("entity_name", "key"), some(1))
            kick(database)
            if how == "bulk":
                database.load(conn, SEEN, ("entity_name", "key"), some(1, "other"))
            else:
                conn.execute(select(SEEN.c.key))

    with pytest.raises(StoreUnavailable) as lost:
        lose()
    assert lost.value.retryable
    with database.writing() as conn:
        assert conn.execute(select(SEEN.c.key)).all() == []


def test_a_run_that_lost_its_connections_fails_and_the_next_is_fine(postgres: dict[str, str]) -> None:
    copy = Copy(health_organisation(2_000), postgres, entities("vin_disease"))
    pages: list[object] = []

    def on_page(progress: object) -> None:
        pages.append(progress)
        if len(pages) == 3:
            kick(copy.database)

    [(_, error)] = copy.sync(page_size=3, on_page=on_page).failed_entities
    assert "the database is not available" in error
    assert copy.sync_one().added == copy.organisation.count("vin_disease") - 9


def test_a_full_disk_is_an_error_that_says_so(tmp_path: Path) -> None:
    ready = Database(Config("https://org.crm.dynamics.com", "", "", "", sqlite_db_path=str(tmp_path / "copy.db")))
    create_control_tables(ready)
    event.listen(ready.engine, "connect", lambda raw, _: raw.execute("PRAGMA max_page_count = 60"))

    with pytest.raises(StoreError, match="database or disk is full") as full:
        fill(ready, 100_000)
    assert not full.value.retryable
    assert SECRET not in str(full.value)


def test_a_read_only_database_is_an_error_that_says_so(ready: Database) -> None:
    event.listen(ready.engine, "connect", make_read_only)

    with pytest.raises(StoreError, match=r"read-?only") as refused:
        fill(ready, 1)
    assert not refused.value.retryable


def make_read_only(raw: Any, _record: object) -> None:
    if isinstance(raw, sqlite3.Connection):
        raw.execute("PRAGMA query_only = ON")
    else:
        raw.read_only = True


def test_a_refused_row_is_not_shown(ready: Database) -> None:
    fill(ready, 1)

    with pytest.raises(StoreError) as refused:
        fill(ready, 1)
    assert SECRET not in str(refused.value)
    assert SECRET not in str(refused.value.__cause__).partition("DETAIL")[0]

    with pytest.raises(StoreError) as refused, ready.writing() as conn:
        conn.execute(insert(SEEN), [{"entity_name": "some", "key": f"0 {SECRET}"}])
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("new", [True, False], ids=["straight", "staged"])
def test_a_value_postgresql_refuses_is_named_and_not_shown(postgres: dict[str, str], new: bool) -> None:
    spec = TableSpec(
        LogicalName("sample"),
        EntitySet("samples"),
        "sampleid",
        (Column("sampleid", Kind.GUID), Column("other", Kind.GUID), Column("modifiedon", Kind.DATETIME)),
    )
    odd = "not-a-guid-" + "x" * 25
    with loading(Database(Config("https://org.crm.dynamics.com", "", "", "", **postgres)), spec) as loader:
        good = A.replace("1", "2")
        with pytest.raises(DataError) as refused:
            loader.write(record(good), record(A, other=odd), new=new)
        assert f"sample {A}: column `other`" in str(refused.value)
        assert odd not in str(refused.value)
        assert loader.versions() == []


@pytest.mark.parametrize("new", [True, False], ids=["straight", "staged"])
def test_records_are_kept_in_the_characters_they_came_in(database: Database, new: bool) -> None:
    words = "na\u00efve S\u00f8ren \u4e16\u754c \U0001f600"
    with loading(database) as loader:
        loader.write(record(A, name="before"))
        loader.write(Raw(f'{{"sampleid":"{A}","name":"{words}","note":"{words}"}}'.encode()), new=new)
        assert loader.versions("name")[-1][0] == words
        with database.connection() as conn:
            documents = conn.execute(text("select cast(json_response as text) from samples order by row_id")).scalars()
            assert json.loads(list(documents)[-1])["note"] == words
            if not database.is_postgres:
                assert set(conn.execute(text("select typeof(json_response) from samples")).scalars()) == {"text"}


def test_a_postgresql_database_of_another_encoding_keeps_what_it_can(latin_postgres_url: str) -> None:
    config = Config("https://org.crm.dynamics.com", "", "", "", postgres_connection_string=latin_postgres_url)
    with loading(Database(config)) as loader:
        loader.write(Raw(f'{{"sampleid":"{A}","name":"Z\u00fcrich","note":"Z\u00fcrich"}}'.encode()), new=True)
        with pytest.raises(DataError, match=f'sample {A.replace("1", "2")}: .* no equivalent in encoding "LATIN1"'):
            loader.write(Raw(f'{{"sampleid":"{A.replace("1", "2")}","name":"\u4e16"}}'.encode()), new=True)
        shown = loader.versions("name", "json_response")

    [(name, document, *_)] = shown
    assert (name, document["note"]) == ("Z\u00fcrich", "Z\u00fcrich")


def test_a_refused_record_is_named_whatever_it_says(postgres: dict[str, str]) -> None:
    with loading(Database(Config("https://org.crm.dynamics.com", "", "", "", **postgres))) as loader:
        odd = Raw(f'{{"sampleid":"{A}","note":"12 High Street, line 99, column name","size":1e200000}}'.encode())
        with pytest.raises(DataError, match=f"sample {A}: column `json_response` cannot hold the value received"):
            loader.write(record(A.replace("1", "2")), odd, new=True)


def test_entities_that_share_a_field_do_not_wait_for_each_other_in_a_ring(ready: Database) -> None:
    fields = ("kind", "mood")
    specs = [shared(f"entity{number}", fields[:: 1 if number % 2 else -1]) for number in range(THREADS)]
    with ready.writing() as conn:
        create_tables(conn, specs)

    def note(number: int) -> None:
        spec, codec = specs[number], RowCodec(specs[number], ready.kind)
        with ready.connection() as conn:
            for page in range(5):
                numbers = range(page * 20, page * 20 + 20)[:: 1 if number % 2 else -1]
                rows = [chosen(spec, code) for code in numbers]
                with ready.transaction(conn):
                    Choices(spec, 1033).note(conn, codec.decode(rows), NOON)

    in_threads([lambda number=number: note(number) for number in range(THREADS)])

    with ready.writing() as conn:
        for field in fields:
            assert sorted(conn.scalars(select(optionset_table(field).c.code))) == list(range(100))


def shared(name: str, fields: tuple[str, ...]) -> TableSpec:
    choices = (Column(field, Kind.INT32, option=OptionKind.PICKLIST) for field in fields)
    return TableSpec(LogicalName(name), EntitySet(f"{name}s"), "id", (Column("id", Kind.GUID), *choices))


def chosen(spec: TableSpec, code: int) -> Raw:
    record = {"id": f"{code:08d}-0000-0000-0000-000000000000"} | {column.name: code for column in spec.choices}
    return Raw(json.dumps(record).encode())


def opened(database: Database) -> list[object]:
    """Grows with each connection that is really opened."""
    connections: list[object] = []
    event.listen(database.engine, "connect", lambda raw, _record: connections.append(raw))
    return connections


def test_connections_are_kept_while_somebody_wants_them_and_closed_afterwards(database: Database) -> None:
    connections = opened(database)
    with database.keeping_connections():
        with database.keeping_connections():
            for _ in range(3):
                with database.reading() as conn:
                    conn.execute(select(1))
        with database.reading() as conn:
            conn.execute(select(1))
        assert len(connections) == 1
    for _ in range(2):
        with database.reading() as conn:
            conn.execute(select(1))

    assert len(connections) == 3


def test_a_kept_connection_that_died_while_it_rested_is_replaced(postgres: dict[str, str]) -> None:
    database = Database(Config("https://org.crm.dynamics.com", "", "", "", **postgres))
    other = Database(Config("https://org.crm.dynamics.com", "", "", "", **postgres))
    with database.keeping_connections():
        with database.reading() as conn:
            conn.execute(select(1))
        kick(other)
        time.sleep(1.1)
        with database.reading() as conn:
            assert conn.execute(select(1)).scalar_one() == 1


def test_a_kept_connection_in_use_is_not_asked_each_time(postgres: dict[str, str]) -> None:
    database = Database(Config("https://org.crm.dynamics.com", "", "", "", **postgres))
    asked: list[object] = []
    database.engine.dialect.do_ping = asked.append  # type: ignore[method-assign,assignment]
    with database.keeping_connections():
        for _ in range(5):
            with database.reading() as conn:
                conn.execute(select(1))

    assert asked == []


def test_a_kept_connection_is_as_if_it_were_new(database: Database) -> None:
    connections = opened(database)
    keys = entity_tables(SPEC).keys
    with database.keeping_connections():
        for _ in range(2):
            with database.connection() as conn, database.apart(conn):
                database.empty_temporary(conn, keys)
                database.load(conn, keys, ("key",), [(A,)])
                assert conn.execute(select(func.count()).select_from(keys)).scalar_one() == 1

        assert len(connections) == 1


def test_a_temporary_table_of_another_shape_makes_way(database: Database) -> None:
    other = Table("_keys", MetaData(), sa.Column("id", sa.Integer), prefixes=["TEMPORARY"])
    with database.connection() as conn, database.apart(conn):
        for table, column in ((entity_tables(SPEC).keys, "key"), (other, "id"), (entity_tables(SPEC).keys, "key")):
            database.empty_temporary(conn, table)
            assert conn.execute(select(table.c[column])).all() == []


def test_a_connection_that_met_a_fault_is_not_kept(database: Database) -> None:
    connections = opened(database)
    with database.keeping_connections():
        for _ in range(2):
            with pytest.raises(StoreError), database.writing() as conn:
                conn.execute(text("SELECT nothing FROM nowhere"))

        assert len(connections) == 2


@pytest.mark.parametrize("count", [1, 19, 20, 21, 1_234])
def test_any_number_of_rows_is_loaded_whole(database: Database, count: int) -> None:
    create_control_tables(database)
    with database.writing() as conn:
        database.load(conn, SEEN, ("entity_name", "key"), some(count))
        assert sorted(conn.scalars(select(SEEN.c.key))) == sorted(key for _entity, key in some(count))


def test_values_go_into_the_columns_named_in_whatever_order(database: Database) -> None:
    create_control_tables(database)
    with database.writing() as conn:
        database.load(conn, SEEN, ("key", "entity_name"), [(A, "samples")])
        assert conn.execute(select(SEEN.c.entity_name, SEEN.c.key)).all() == [("samples", A)]


def test_to_look_at_a_file_gives_up_no_lock_on_it(tmp_path: Path) -> None:
    """Another process that closes the file as if it were the last would take the log away, and rows with it."""
    path = tmp_path / "copy.db"
    settings = Config("https://org.crm.dynamics.com", "", "", "", sqlite_db_path=str(path))
    database = Database(settings)
    with database.keeping_connections(), database.connection():
        create_control_tables(database)
        Database(settings)
        look = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT * FROM _sync_seen').fetchall()"
        subprocess.run([sys.executable, "-c", look, str(path)], check=True)  # noqa: S603 - our own command
        assert Path(f"{path}-wal").exists()
        with database.writing() as conn:
            database.load(conn, SEEN, ("entity_name", "key"), some(10))

    with contextlib.closing(sqlite3.connect(path)) as reader:
        assert reader.execute("SELECT count(*) FROM _sync_seen").fetchone() == (10,)


def test_a_lease_has_a_connection_from_when_it_is_needed_to_the_end_of_a_transaction(ready: Database) -> None:
    opened: list[object] = []
    event.listen(ready.engine, "checkout", lambda *_: opened.append(1))
    with ready.lease() as lease:
        assert opened == []
        conn = lease.conn
        with ready.apart(lease.conn):
            assert lease.conn is conn
        with lease.writing() as same:
            assert same is conn
            ready.load(conn, SEEN, ("entity_name", "key"), some(1))
        assert (len(opened), conn.closed) == (1, True)
        with lease.writing() as other:
            assert other is lease.conn
            assert other.scalars(select(SEEN.c.key)).all() == [key for _entity, key in some(1)]
        left = lease.conn
    assert (len(opened), left.closed) == (3, True)


def test_a_lease_whose_transaction_fails_writes_nothing_and_keeps_no_connection(ready: Database) -> None:
    closed: list[object] = []
    event.listen(ready.engine, "invalidate", lambda *_: closed.append(1))

    def fail(lease: Lease) -> None:
        with lease.writing() as conn:
            ready.load(conn, SEEN, ("entity_name", "key"), some(1))
            raise ZeroDivisionError

    with ready.keeping_connections():
        with pytest.raises(ZeroDivisionError), ready.lease() as lease:
            fail(lease)
        assert len(closed) == 1
        with ready.reading() as conn:
            assert conn.scalars(select(SEEN.c.key)).all() == []


@pytest.mark.parametrize("way", ["writing", "leased", "reading"])
def test_who_waits_for_a_turn_holds_no_connection(tmp_path: Path, way: str) -> None:
    """On SQLite: in PostgreSQL several read and write at once."""
    file = Database(Config("https://org.crm.dynamics.com", "", "", "", sqlite_db_path=str(tmp_path / "copy.db")))
    create_control_tables(file)
    opened: list[object] = []
    event.listen(file.engine, "connect", lambda *_: opened.append(1))

    def use(number: int) -> None:
        with file.lease() as lease:
            if way == "reading":
                with lease.reading() as conn:
                    conn.scalars(select(SEEN.c.key)).all()
                    time.sleep(0.001)  # or each might be done before the next begins
                return
            with (lease if way == "leased" else file).writing() as conn:
                file.load(conn, SEEN, ("entity_name", "key"), some(50, str(number)))

    with file.keeping_connections():
        in_threads([lambda number=number: use(number) for number in range(THREADS)])

    assert len(opened) == 1


def test_a_refusal_that_quotes_a_row_is_on_record_without_it(postgres: dict[str, str]) -> None:
    organisation = health_organisation(300)
    copy = Copy(organisation, postgres, entities("vin_disease"))
    copy.sync()
    with copy.database.writing() as conn:
        conn.execute(text(f"alter table vin_diseases add constraint decent check (vin_name <> '{SECRET}')"))
    organisation.clock.advance(60)
    organisation.update("vin_disease", organisation.keys("vin_disease")[0], {"vin_name": SECRET})

    [(_entity, error)] = copy.sync().failed_entities

    [(told,)] = copy.rows_of("select error_message from _sync_log where error_message is not null")
    assert told == error
    assert "decent" in told
    assert SECRET not in told


def test_threads_that_ask_together_get_the_same_tables() -> None:
    spec = msgspec.structs.replace(SPEC, entity_set=EntitySet("asked_together"))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(lambda _: entity_tables(spec), range(THREADS)))
    finally:
        sys.setswitchinterval(interval)

    assert all(one is found[0] for one in found)
