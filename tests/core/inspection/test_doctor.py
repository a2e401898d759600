"""Each line of the doctor, when all is well and when it is not."""

import ssl
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from copies import IMPATIENT, Copy, entities
from shaping import wire_of
from sqlalchemy import insert
from sqlalchemy.engine import make_url

from igh_sync_core.config import Config
from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.inspection.doctor import Check, Status, doctor
from igh_sync_core.sandbox import Organisation, health_organisation
from igh_sync_core.sandbox.http.service import sent_address
from igh_sync_core.schema.ddl import create_control_tables
from igh_sync_core.store.control import SyncLock
from igh_sync_core.webapi.client import Client

READ = {"PrivilegeType": "Read", "PrivilegeId": "aaaaaaaa-0000-0000-0000-000000000001"}
TABLES = ("vin_disease", "vin_rdpriority")


@pytest.fixture
def organisation() -> Organisation:
    return health_organisation(100)


@pytest.fixture
def copy(organisation: Organisation, database_settings: dict[str, str]) -> Copy:
    return Copy(organisation, database_settings, entities(*TABLES))


def examine(copy: Copy, connect: Callable[[Config], Client] | None = None) -> dict[str, Check]:
    return {
        check.name: check for check in doctor(copy.config, copy.selection, connect=connect or wire_of(copy.sandbox))
    }


def with_privileges(
    copy: Copy, *depths: str | int, of_table: Sequence[dict[str, str]] = (READ,)
) -> Callable[[Config], Client]:
    """An environment that tells privileges, as real ones do: the user's, one per depth, and those of tables."""

    def handle(request: httpx.Request) -> httpx.Response:
        if "RetrieveUserPrivileges" in request.url.path:
            return httpx.Response(200, json={"RolePrivileges": [{"Depth": depth, **READ} for depth in depths]})
        if "Privileges" in sent_address(request):
            found: dict[str, Any] = {"Privileges": list(of_table), "EntitySetName": "vin_diseases"}
            return httpx.Response(200, json=found)
        return copy.sandbox.handle(request)

    return lambda config: Client(config, transport=httpx.MockTransport(handle), pace=IMPATIENT)


def test_all_is_well(copy: Copy) -> None:
    found = examine(copy)

    bad = {name for name, check in found.items() if check.status is not Status.OK}
    assert bad == {"vin_rdpriority: change tracking"}
    assert {found[f"{table}: read depth"].text for table in TABLES} == {"its role reads at depth Global"}
    assert list(found)[:4] == ["login", "application user", "clock", "metadata"]
    assert list(found)[-1] == "database"
    assert all(check.remedy for name, check in found.items() if name in bad)


@pytest.mark.parametrize("depth", ["Basic", "Local", "Deep"])
def test_a_role_that_does_not_see_everything_is_told(copy: Copy, depth: str) -> None:
    copy.sandbox.limit("vin_disease", depth)
    found = examine(copy)

    check = found["vin_disease: read depth"]
    assert (check.status, check.text) == (Status.WARNING, f"its role reads at depth {depth}: other records are hidden")
    assert found["vin_rdpriority: read depth"].status is Status.OK


@pytest.mark.parametrize(("depth", "status"), [("Global", Status.OK), (3, Status.OK), (2, Status.WARNING)])
def test_of_several_roles_the_one_that_reaches_farthest_counts(copy: Copy, depth: str | int, status: Status) -> None:
    check = examine(copy, with_privileges(copy, "Basic", depth, "Basic"))["vin_disease: read depth"]

    assert check.status is status


def test_a_table_the_role_may_not_read_has_no_depth(copy: Copy) -> None:
    copy.sandbox.deny("vin_disease")

    assert "no read privilege of its own" in examine(copy)["vin_disease: read depth"].text


@pytest.mark.parametrize("reply", [httpx.Response(403), httpx.Response(200, text="[]")])
def test_roles_that_cannot_be_read_are_one_line(copy: Copy, reply: httpx.Response) -> None:
    found = examine(copy, answering(copy, "RetrieveUserPrivileges", reply))

    assert (found["read depth"].status, bool(found["read depth"].remedy)) == (Status.WARNING, True)
    assert "vin_disease: read depth" not in found


def test_a_wrong_secret_ends_the_questions_to_the_source(copy: Copy) -> None:
    copy.config = Config(copy.config.api_url, copy.config.client_id, "wrong", "", sqlite_db_path="copy.db")

    found = examine(copy)

    assert list(found) == ["login", "database"]
    assert (found["login"].status, "expired" in found["login"].remedy) == (Status.FAILED, True)


def test_a_certificate_that_is_not_trusted_has_nothing_to_do_with_the_secret(copy: Copy) -> None:
    def handle(_request: httpx.Request) -> httpx.Response:
        msg = "certificate verify failed"
        raise httpx.ConnectError(msg) from ssl.SSLCertVerificationError(msg)

    check = examine(copy, lambda config: Client(config, transport=httpx.MockTransport(handle), pace=IMPATIENT))["login"]

    assert (check.status, check.remedy) == (Status.FAILED, "")
    assert "is not trusted; set DATAVERSE_CA_FILE" in check.text


def test_a_missing_application_user_has_its_own_remedy(copy: Copy) -> None:
    copy.sandbox.no_application_user = True

    check = examine(copy)["login"]

    assert (check.status, "application user" in check.remedy) == (Status.FAILED, True)


@pytest.mark.parametrize(
    ("off", "status"),
    [(0, Status.OK), (120, Status.WARNING), (-120, Status.WARNING), (600, Status.FAILED)],
)
def test_clocks_that_differ_are_told(copy: Copy, off: int, status: Status) -> None:
    copy.organisation.clock.set(datetime.now(UTC) + timedelta(seconds=off))

    assert examine(copy)["clock"].status is status


def test_rights_that_are_missing_are_named_with_their_remedy(copy: Copy) -> None:
    copy.sandbox.deny("vin_disease")
    copy.sandbox.deny_metadata()

    found = examine(copy)

    assert found["metadata"].status is Status.WARNING
    assert "prvReadEntity" in found["metadata"].remedy
    assert "unknown" in found["vin_disease: change tracking"].text
    assert found["vin_disease: read"].status is Status.FAILED
    assert "read on vin_disease" in found["vin_disease: read"].remedy
    assert found["vin_rdpriority: read"].status is Status.OK


def test_an_entity_unknown_to_the_environment_is_told(copy: Copy) -> None:
    copy.selection = [*copy.selection, EntityConfig("vin_gone", "vin_gones")]

    assert examine(copy)["vin_gone"].status is Status.WARNING


def test_a_database_held_by_a_run_is_told(copy: Copy) -> None:
    create_control_tables(copy.database)
    now = datetime.now(UTC)
    values = {"name": "run", "token": "t", "host": "elsewhere", "pid": 1, "since": now, "heartbeat": now}
    with copy.database.writing() as conn:
        conn.execute(insert(SyncLock.metadata.tables["_sync_lock"]).values(values))

    check = examine(copy)["database"]

    assert (check.status, "held by run t" in check.text) == (Status.WARNING, True)


@pytest.mark.parametrize("place", ["missing/copy.db", "folder"])
def test_a_file_that_cannot_be_written_is_told(copy: Copy, tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    secret = copy.config.client_secret
    copy.config = Config(copy.config.api_url, copy.config.client_id, secret, "", sqlite_db_path=str(tmp_path / place))

    assert examine(copy)["database"].status is Status.FAILED


def test_a_postgresql_that_is_not_there_is_told(copy: Copy) -> None:
    copy.config = Config(
        copy.config.api_url,
        copy.config.client_id,
        copy.config.client_secret,
        "",
        postgres_connection_string="postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=2",
    )

    check = examine(copy)["database"]

    assert (check.status, "nobody@" in check.text) == (Status.FAILED, False)


def test_a_postgresql_user_who_may_make_no_tables_is_told_with_the_remedy(copy: Copy, postgres_url: str) -> None:
    role = f"reader_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        conn.execute(f'CREATE ROLE "{role}" LOGIN')
        conn.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    limited = make_url(postgres_url).set(username=role).render_as_string(hide_password=False)
    copy.config = replace(copy.config, postgres_connection_string=limited)
    check = examine(copy)["database"]
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        conn.execute(f'DROP ROLE "{role}"')

    assert (check.status, check.text) == (Status.FAILED, "tables may not be made")
    assert "grant CREATE" in check.remedy


@pytest.mark.parametrize("depth", ["RecordFilter", 4, -1])
def test_a_depth_nobody_knows_is_said_to_be_unknown(copy: Copy, depth: str | int) -> None:
    check = examine(copy, with_privileges(copy, depth))["vin_disease: read depth"]

    assert (check.status, check.remedy) == (Status.WARNING, "give its role read at organization level")
    assert f"unknown: its role reads at a depth told as {depth!r}" in check.text
    assert "Basic" not in check.text


def test_a_known_depth_counts_beside_an_unknown_one(copy: Copy) -> None:
    check = examine(copy, with_privileges(copy, "Global", "RecordFilter"))["vin_disease: read depth"]

    assert (check.status, check.text) == (Status.OK, "its role reads at depth Global")


def test_a_user_without_any_privilege_gets_a_line_on_depth(copy: Copy) -> None:
    check = examine(copy, with_privileges(copy))["vin_disease: read depth"]

    assert (check.status, bool(check.remedy)) == (Status.WARNING, True)
    assert check.text == "its role has no read privilege of its own"


def test_a_table_that_names_no_privilege_gets_a_line_on_depth(copy: Copy) -> None:
    check = examine(copy, with_privileges(copy, "Global", of_table=()))["vin_disease: read depth"]

    assert (check.status, "unknown" in check.text, bool(check.remedy)) == (Status.WARNING, True, True)


def answering(copy: Copy, part: str, reply: httpx.Response) -> Callable[[Config], Client]:
    """An environment that gives one answer of its own to every address holding *part*."""

    def handle(request: httpx.Request) -> httpx.Response:
        return reply if part in request.url.path else copy.sandbox.handle(request)

    return lambda config: Client(config, transport=httpx.MockTransport(handle), pace=IMPATIENT)


@pytest.mark.parametrize("status", [500, 501, 503])
def test_a_server_that_fails_on_definitions_is_no_question_of_rights(copy: Copy, status: int) -> None:
    check = examine(copy, answering(copy, "/EntityDefinitions", httpx.Response(status)))["metadata"]

    assert (check.status, "try again" in check.remedy) == (Status.FAILED, True), "a run would fail there, too"
    assert "role" not in check.remedy
    assert str(status) in check.text


def test_definitions_refused_for_another_reason_than_rights_are_told_as_that(copy: Copy) -> None:
    check = examine(copy, answering(copy, "/EntityDefinitions", httpx.Response(400, text="what?")))["metadata"]

    assert (check.status, "role" in check.remedy, "what?" in check.text) == (Status.WARNING, False, True)


@pytest.mark.parametrize("status", [500, 501, 503])
def test_a_server_that_fails_at_login_is_not_said_to_have_a_wrong_address(copy: Copy, status: int) -> None:
    check = examine(copy, answering(copy, "/WhoAmI", httpx.Response(status)))["login"]

    assert (check.status, "try again" in check.remedy) == (Status.FAILED, True)


@pytest.mark.parametrize(("status", "word"), [(501, "try again"), (404, "leave the table out"), (403, "give the role")])
def test_each_refusal_of_a_table_has_its_own_remedy(copy: Copy, status: int, word: str) -> None:
    check = examine(copy, answering(copy, "/vin_diseases", httpx.Response(status)))["vin_disease: read"]

    assert (check.status, word in check.remedy) == (Status.FAILED, True)


def test_one_table_that_stays_away_leaves_the_other_lines_standing(copy: Copy) -> None:
    found = examine(copy, answering(copy, "/vin_diseases", httpx.Response(503)))

    assert found["vin_disease: read"].status is Status.FAILED
    assert found["vin_rdpriority: read"].status is Status.OK
    assert found["database"].status is Status.OK


def test_an_address_that_answers_with_a_page_for_people_is_told(copy: Copy) -> None:
    found = examine(copy, answering(copy, "/WhoAmI", httpx.Response(200, text="<html>sign in</html>")))

    assert found["login"].status is Status.FAILED
    assert found["database"].status is Status.OK
