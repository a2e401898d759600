"""What a role of PostgreSQL lacks is told before a run finds out."""

import uuid
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql
from targets import config_for

from igh_sync_core.inspection.looking import reading
from igh_sync_core.inspection.rights import Lack, find_lack
from igh_sync_core.schema.ddl import create_control_tables
from igh_sync_core.store.database import Database

Grant = Callable[..., None]


@pytest.fixture
def role() -> str:
    return f"copier_{uuid.uuid4().hex[:8]}"


@pytest.fixture
def grant(postgres_url: str, role: str) -> Iterator[Grant]:
    """Executes statements in which ``{role}`` may do nothing at first, and ``{database}`` is the test's own."""
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        names = {"role": sql.Identifier(role), "database": sql.Identifier(conn.info.dbname)}

        def execute(*statements: str) -> None:
            for statement in statements:
                conn.execute(sql.SQL(statement).format(**names))

        execute("CREATE ROLE {role} LOGIN", "REVOKE ALL ON DATABASE {database} FROM PUBLIC")
        execute("GRANT CONNECT ON DATABASE {database} TO {role}")
        yield execute
        execute("DROP OWNED BY {role}", "DROP ROLE {role}")


@pytest.fixture
def lack(postgres_url: str, role: str) -> Callable[[], Lack | None]:
    config = config_for(postgres_connection_string=postgres_url.replace("//postgres:@", f"//{role}@"))

    def find() -> Lack | None:
        with reading(config) as conn:
            return find_lack(conn)

    return find


def test_each_right_is_asked_for_until_all_are_there(lack: Callable[[], Lack | None], grant: Grant, role: str) -> None:
    found = lack()
    assert (found is not None, found and found.remedy) == (True, f"grant CREATE on schema public to {role}")
    grant("GRANT CREATE ON SCHEMA public TO {role}")
    found = lack()
    assert found is not None
    assert (found.text, "grant TEMPORARY" in found.remedy) == ("temporary tables may not be made", True)
    grant("GRANT TEMPORARY ON DATABASE {database} TO {role}")
    assert lack() is None


def test_a_schema_that_is_not_there_is_told_as_that(lack: Callable[[], Lack | None], grant: Grant) -> None:
    grant("ALTER ROLE {role} IN DATABASE {database} SET search_path TO nowhere")

    found = lack()

    assert found is not None
    assert "search path (nowhere)" in found.text


def test_a_role_that_may_only_read_is_told_as_that(lack: Callable[[], Lack | None], grant: Grant) -> None:
    grant("ALTER ROLE {role} IN DATABASE {database} SET default_transaction_read_only TO on")

    found = lack()

    assert found is not None
    assert found.text == "it is read-only"


def test_tables_restored_by_another_role_are_told(
    lack: Callable[[], Lack | None], grant: Grant, postgres_url: str, role: str
) -> None:
    create_control_tables(Database(config_for(postgres_connection_string=postgres_url)))
    grant("GRANT CREATE ON SCHEMA public TO {role}", "GRANT TEMPORARY ON DATABASE {database} TO {role}")

    found = lack()

    assert found is not None
    assert found.remedy == f"grant postgres to {role}, or connect as postgres"
    grant("GRANT postgres TO {role}")
    assert lack() is None
