"""What a PostgreSQL database has for settings of its own changes nothing for this program."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from urllib.parse import quote

import psycopg
import pytest
from copies import Copy, at_noon, entities
from psycopg import sql
from sqlalchemy import Connection, func, select, text

from igh_sync_core.config import Config
from igh_sync_core.store.database import Database

STYLES = ["German, DMY", "SQL, DMY", "Postgres, MDY", "ISO, YMD"]
ISOLATIONS = ["serializable", "repeatable read", "read committed"]

Tune = Callable[[str, str], None]


@pytest.fixture
def tune(postgres_url: str) -> Tune:
    """Sets something for whoever connects from now on."""

    def settle(name: str, value: str) -> None:
        with psycopg.connect(postgres_url, autocommit=True) as conn:
            altering = sql.SQL("ALTER DATABASE {} SET {} TO {}")
            own = sql.Identifier(conn.info.dbname)
            conn.execute(altering.format(own, sql.Identifier(name), sql.Literal(value)))

    return settle


def database_at(url: str) -> Database:
    return Database(Config("https://org.crm.dynamics.com", "", "", "", postgres_connection_string=url))


def shown(conn: Connection, name: str) -> str:
    return str(conn.scalar(select(func.current_setting(name))))


@pytest.mark.parametrize("style", STYLES)
def test_dates_are_read_whatever_style_the_database_prefers(postgres_url: str, tune: Tune, style: str) -> None:
    tune("DateStyle", style)
    database = database_at(postgres_url)

    for _again in range(2):
        with database.writing() as conn:
            row = conn.execute(text("SELECT DATE '2024-03-02', TIMESTAMPTZ '2024-03-02 01:00:00Z'")).one()

        assert tuple(row) == (date(2024, 3, 2), datetime(2024, 3, 2, 1, tzinfo=UTC))


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_every_transaction_sees_what_others_have_committed(postgres_url: str, tune: Tune, isolation: str) -> None:
    """Entities that are written at the same time would refuse each other otherwise."""
    tune("default_transaction_isolation", isolation)
    database = database_at(postgres_url)

    for block in (database.writing, database.reading):
        with block() as conn:
            assert shown(conn, "transaction_isolation") == "read committed"


def test_options_in_the_connection_string_hold(postgres_url: str, tune: Tune) -> None:
    tune("DateStyle", "German")
    options = quote("-c statement_timeout=54321 -c TimeZone=Asia/Kathmandu")
    database = database_at(f"{postgres_url}&options={options}")

    with database.writing() as conn:
        assert (shown(conn, "statement_timeout"), shown(conn, "TimeZone")) == ("54321ms", "Asia/Kathmandu")
        assert shown(conn, "DateStyle").startswith("ISO")


def test_the_name_of_a_database_may_be_escaped_as_anywhere_in_an_address(postgres_server: str) -> None:
    name = "Zäune / 50% @home?"
    with psycopg.connect(postgres_server, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    database = database_at(postgres_server.replace("/postgres?", f"/{quote(name, safe='')}?"))

    with database.reading() as conn:
        found = conn.scalar(select(func.current_database()))

    database.engine.dispose()
    with psycopg.connect(postgres_server, autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    assert found == name


def test_a_run_fares_as_well_in_a_database_with_settings_of_its_own(postgres_url: str, tune: Tune) -> None:
    for name, value in {"DateStyle": "SQL, DMY", "default_transaction_isolation": "serializable"}.items():
        tune(name, value)
    organisation = at_noon(150)
    selection = entities("vin_candidate", "vin_product", "vin_vin_candidate_account", "account", "contact")
    copy = Copy(organisation, {"postgres_connection_string": postgres_url}, selection)

    first = copy.sync(page_size=20)
    organisation.clock.advance(3600)
    candidate = organisation.keys("vin_candidate")[0]
    organisation.update("vin_candidate", candidate, {"vin_name": "another"})
    second = copy.sync(page_size=20, reconcile=True)

    assert [report.failed_entities for report in (first, second)] == [[], []]
    assert second.total("updated") == 1
