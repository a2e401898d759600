"""Lines of a settings file that are not quite right are told by number; what they hold is never shown."""

from pathlib import Path

import pytest

from igh_sync_core.config import load_config
from igh_sync_core.config.settings import read_config, read_database
from igh_sync_core.errors import ConfigError

ENOUGH = "DATAVERSE_API_URL=https://org.crm.dynamics.com\nDATAVERSE_CLIENT_ID=a\nDATAVERSE_CLIENT_SECRET=s\n"
URL = "postgresql://u:hidden@h/d"


def faults_of(lines: str) -> tuple[str, ...]:
    """Of a ``.env`` with these lines behind all that is needed, in bytes just so."""
    Path(".env").write_bytes((ENOUGH + lines).encode())
    return read_config()[1]


@pytest.mark.parametrize(
    "line",
    [
        f"POSTGRES_CONNECTION_STRING: {URL}",
        f"POSTGRES_CONNECTION_STRING:{URL}?sslmode=require",
        f'POSTGRES_CONNECTION_STRING="{URL}',
        f"POSTGRES_CONNECTION_STRING='{URL}",
        f'POSTGRES_CONNECTION_STRING="{URL}" hidden',
        f'"POSTGRES_CONNECTION_STRING"={URL}',
        f"set POSTGRES_CONNECTION_STRING={URL}",
        f"$env:POSTGRES_CONNECTION_STRING = '{URL}'",
        "POSTGRES_CONNECTION_STRING",
        "postgres-conection-string",
        f"Sqlite_Path: {URL}",
        "SQLITE DB PATH=/data/copy.db",
        "postgresql://user:hidden@host/database",
    ],
)
def test_a_line_that_is_not_understood_is_told_by_its_number(line: str) -> None:
    (fault,) = faults_of(f"\n# a comment\n\n{line}\nSQLITE_DB_PATH=x.db\n")

    assert fault == ".env: line 7 is not understood; write NAME=value, and close every quote that is opened"
    assert read_database()[1] == (fault,)


FOREIGN = (
    "COMPOSE_PROJECT_NAME",
    "POSTGRES_PASSWORD",
    "export PATH",
    "ConnectionStrings:Default=Server=hidden;Database=x",
    'QUOTED="hidden',
    "=hidden",
)


@pytest.mark.parametrize("line", FOREIGN)
def test_another_programs_line_is_a_fault_in_a_file_named_by_hand_only(line: str) -> None:
    assert faults_of(f"SQLITE_DB_PATH=x.db\n{line}\n") == ()
    assert read_config()[0].sqlite_db_path == "x.db"
    assert read_database()[1] == ()
    assert read_config(".env")[1] == (
        "--env-file .env: line 5 is not understood; write NAME=value, and close every quote that is opened",
    )


def test_another_programs_lines_are_told_where_what_is_missing_may_have_been_meant() -> None:
    lines = "\n".join(FOREIGN)
    Path(".env").write_text(f"DATAVERSE_API_URL=https://org.crm.dynamics.com\nDATAVERSE_CLIENT_ID=a\n{lines}\n")
    faults = read_config()[1]

    assert [fault.split(";")[0] for fault in faults] == [
        ".env: lines 6, 7, 8 are not understood",
        "DATAVERSE_CLIENT_SECRET is missing",
    ]


def test_many_such_lines_are_one_fault() -> None:
    (fault,) = faults_of("".join(f"SQLITE_{number}: hidden\n" for number in range(12)))

    assert ": lines 4, 5, 6, 7, 8 are not understood (and 7 more); " in fault


def test_it_is_told_with_the_other_faults_and_names_the_file() -> None:
    Path("prod.env").write_text("DATAVERSE_API_URL=https://org.crm.dynamics.com\nDATAVERSE_CLIENT_ID: a\n")

    with pytest.raises(ConfigError) as caught:
        load_config("prod.env")

    assert [fault.split(";")[0] for fault in caught.value.faults] == [
        "--env-file prod.env: line 2 is not understood",
        "DATAVERSE_CLIENT_ID is missing",
        "DATAVERSE_CLIENT_SECRET is missing",
    ]


def test_it_is_of_no_interest_to_who_is_given_every_setting() -> None:
    Path(".env").write_text("OTHER: line\n")
    fields = ("scope", "tenant_id", "authority", "certificate_file", "certificate_password", "ca_file")
    given = dict.fromkeys((*fields, "postgres_connection_string"), "")
    given |= {"api_url": "https://org.crm.dynamics.com", "client_id": "a", "client_secret": "s"}

    assert load_config(given=given | {"sqlite_db_path": "x.db"}).sqlite_db_path == "x.db"


@pytest.mark.parametrize(
    "line", ["postgres_connection_string", "Postgres_Connection_String", "POSTGRES-CONNECTION-STRING"]
)
def test_case_and_dashes_make_a_name_misspelt(line: str) -> None:
    (fault,) = faults_of(f"{line}={URL}\n")

    assert fault == f"{line} is no setting; did you mean POSTGRES_CONNECTION_STRING?"


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("SQLITE_DB_PATH=C:\\new\\table.db", "C:\\new\\table.db"),
        ("SQLITE_DB_PATH='C:\\new\\table.db'", "C:\\new\\table.db"),
        ("export SQLITE_DB_PATH = 'my db.sqlite'  # here", "my db.sqlite"),
        ("  SQLITE_DB_PATH  =  my db.sqlite  # here\r", "my db.sqlite"),
        ("SQLITE_DB_PATH=a#b.db", "a#b.db"),
        ("SQLITE_DB_PATH=${HOME}/x.db", "${HOME}/x.db"),
        ("SQLITE_DB_PATH=x.db\r\nspring.datasource-url=y\r\nOTHER=", "x.db"),
    ],
)
def test_what_people_write_is_understood(line: str, path: str) -> None:
    assert faults_of(f"{line}\n") == ()
    assert read_config()[0].sqlite_db_path == path


@pytest.mark.parametrize(
    "lines",
    [
        'SQLITE_DB_PATH="C:\\new\\table.db"',
        'DATAVERSE_CLIENT_ID="a\\tb"',
        f'POSTGRES_CONNECTION_STRING="{URL}\nSQLITE_DB_PATH=x.db\nOTHER="',
        'DATAVERSE_CA_FILE="ca.pem\nDATAVERSE_CERTIFICATE_PASSWORD=hidden\nOTHER="',
    ],
)
def test_what_double_quotes_make_of_a_backslash_or_of_the_next_lines_is_told(lines: str) -> None:
    (fault,) = faults_of(f"{lines}\n")

    assert fault.startswith(f"{lines.partition('=')[0]} holds a line break, a tab or another such sign; ")
    assert "without quotes" in fault
    assert "hidden" not in fault


def test_pem_text_may_have_its_lines_in_double_quotes() -> None:
    lines = 'DATAVERSE_CERTIFICATE_FILE="-----BEGIN PRIVATE KEY-----\\nAAAA\\n-----END PRIVATE KEY-----\\n"\n'

    assert [fault for fault in faults_of(lines) if "line break" in fault] == []


@pytest.mark.parametrize("content", [b"DATAVERSE_CLIENT_ID=\xff", "DATAVERSE_CLIENT_ID=a\n".encode("utf-16")])
def test_a_file_that_cannot_be_read_is_named_as_it_was_found(content: bytes) -> None:
    Path(".env").write_bytes(content)

    with pytest.raises(ConfigError, match=r"^\.env: cannot be read \(not UTF-8 text\)"):
        load_config()
    with pytest.raises(ConfigError, match=r"^--env-file \.env: cannot be read \(not UTF-8 text\)"):
        load_config(".env")


def test_a_name_misspelt_in_a_named_file_is_told_though_the_environment_says_it_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POSTGRES_CONNECTION_STRING", URL)
    Path("prod.env").write_text(f"{ENOUGH}POSTGRES_CONECTION_STRING=postgresql://u:hidden@prod/d\n")

    _, faults = read_config("prod.env")

    assert faults == ("POSTGRES_CONECTION_STRING is no setting; did you mean POSTGRES_CONNECTION_STRING?",)
