"""The commands as people run them: processes of their own, against a Dataverse over HTTPS."""

import json
import os
import pty
import sqlite3
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from igh_sync_core.cli import generate_optionset_config
from igh_sync_core.config.entities import load_entity_configs
from igh_sync_core.sandbox import Fault, Server, health_organisation, serve

SMALL = ("vin_disease", "vin_rdpriority")
REPORT = {
    "success",
    "run_id",
    "total_added",
    "total_updated",
    "total_closed",
    "requests",
    "failed_entities",
    "validation_errors",
    "reference_errors",
    "entities",
}
ENTITY = {
    "entity",
    "table",
    "strategy",
    "reason",
    "added",
    "updated",
    "closed",
    "unchanged",
    "requests",
    "seconds",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(health_organisation(300)) as running:
        yield running


@dataclass
class Shell:
    """A working directory with settings, and what a command does there."""

    folder: Path
    settings: Mapping[str, str]
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.env_file = self.folder / "settings.env"
        self.env_file.write_text("".join(f"{name}={value}\n" for name, value in self.settings.items()))

    def run(self, command: str, *arguments: str, stderr: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
        """One command by the name of its function."""
        code = f"import sys; from igh_sync_core.cli import {command}; sys.exit({command}())"
        return subprocess.run(  # noqa: S603 - our own commands
            [sys.executable, "-c", code, *arguments],
            cwd=self.folder,
            env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | self.environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            timeout=120,
            check=False,
        )

    def sync(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A run with the settings of the file."""
        return self.run("sync_dataverse", *arguments, "--env-file", str(self.env_file))

    def report(self, *arguments: str) -> dict[str, Any]:
        """The report of a run that ended well."""
        done = self.sync("--json", *arguments)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def tables(self) -> list[str]:
        """Tables of the copy."""
        with closing(sqlite3.connect(self.folder / "copy.db")) as file:
            return [name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]


@pytest.fixture
def shell(server: Server, tmp_path: Path) -> Shell:
    return Shell(tmp_path, server.environment() | {"SQLITE_DB_PATH": "copy.db"})


def names_of(*entities: str) -> tuple[str, ...]:
    return ("--entities", *entities)


def watch(terminal: int) -> str:
    """What a terminal shows until its other end closes."""
    shown = b""
    with suppress(OSError):
        while piece := os.read(terminal, 1 << 16):
            shown += piece
    os.close(terminal)
    return shown.decode()


def test_the_installed_commands_are_these() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    commands = {"sync-dataverse", "validate-schema", "generate-optionset-config"}

    scripts = project["project"]["scripts"]
    assert commands <= scripts.keys()
    for command in commands:
        module, _, function = scripts[command].partition(":")
        assert callable(getattr(import_module(module), function))


class TestSync:
    def test_json_is_the_report_and_nothing_else(self, shell: Shell) -> None:
        report = shell.report(*names_of(*SMALL))

        assert report.keys() >= REPORT
        assert report["success"] is True
        assert [entity["entity"] for entity in report["entities"]] == list(SMALL)
        assert all(entity.keys() >= ENTITY for entity in report["entities"])
        assert report["total_added"] == sum(entity["added"] for entity in report["entities"]) > 0

    def test_a_log_gets_plain_lines(self, shell: Shell) -> None:
        done = shell.sync(*names_of(*SMALL))

        assert done.returncode == 0
        assert "\x1b" not in done.stderr + done.stdout
        assert any(line.endswith("s)") and " INFO vin_disease: " in line for line in done.stderr.splitlines())
        assert "2 entities" in done.stdout

    def test_a_terminal_gets_live_progress(self, shell: Shell) -> None:
        shell.environment |= {"TERM": "xterm-256color", "COLUMNS": "100"}
        terminal, end = pty.openpty()
        with ThreadPoolExecutor(1) as pool:
            screen = pool.submit(watch, terminal)
            done = shell.run("sync_dataverse", *names_of(*SMALL), "--env-file", str(shell.env_file), stderr=end)
            os.close(end)
            shown = screen.result()

        assert done.returncode == 0
        assert "\x1b[" in shown
        assert "entities" in shown
        assert "INFO" not in shown

    def test_tables_are_named_by_logical_name_or_entity_set(self, shell: Shell) -> None:
        report = shell.report(*names_of("vin_diseases", "vin_rdpriority"))

        assert [entity["table"] for entity in report["entities"]] == ["vin_diseases", "vin_rdpriorities"]

    def test_a_second_run_has_no_news(self, shell: Shell) -> None:
        shell.report(*names_of(*SMALL))

        again = shell.report(*names_of(*SMALL), "--page-size", "100", "--concurrency", "2", "--reconcile")
        assert (again["total_added"], again["total_updated"], again["total_closed"]) == (0, 0, 0)

    def test_an_entities_file_in_the_old_format_says_what_is_copied(self, shell: Shell) -> None:
        entity = {"name": "vin_region", "api_name": "vin_regions", "filtered": False, "description": "Regions"}
        (shell.folder / "entities.json").write_text(json.dumps({"entities": [entity]}))

        report = shell.report("--entities-config", "entities.json")
        assert [one["entity"] for one in report["entities"]] == ["vin_region"]

    def test_a_table_that_metadata_does_not_know_is_skipped_and_said_so(self, shell: Shell) -> None:
        known, unknown = ({"name": name, "api_name": f"{name}s"} for name in ("vin_region", "vin_nowhere"))
        (shell.folder / "entities.json").write_text(json.dumps({"entities": [known, unknown]}))

        done = shell.sync("--entities-config", "entities.json")
        assert done.returncode == 0
        assert "skipped: vin_nowhere" in done.stdout

    def test_verify_fails_the_run_where_references_dangle(self, shell: Shell, server: Server) -> None:
        organisation = server.organisation
        key = organisation.insert("vin_candidate", {"vin_name": "lost"})
        column = next(
            one.name for one in organisation.tables["vin_candidate"].shape.columns if one.targets == ("vin_disease",)
        )
        organisation.update("vin_candidate", key, {column: ("vin_disease", "99999999-0000-0000-0000-000000000000")})
        chosen = names_of("vin_candidate", "vin_disease")

        done = shell.sync(*chosen, "--verify")
        organisation.delete("vin_candidate", key)
        assert done.returncode == 1
        assert f"vin_candidates.{column} → vin_diseases: 1 of" in done.stdout
        assert shell.sync(*chosen, "--verify").returncode == 0

    def test_one_failed_entity_is_named_and_the_others_are_stored(self, shell: Shell, server: Server) -> None:
        access = server.sandbox._access  # noqa: SLF001 - the server's own switch of rights
        access.denied.add("vin_disease")
        done = shell.sync(*names_of(*SMALL))
        access.denied.clear()

        assert done.returncode == 1
        assert "1 of 2 entities failed: vin_disease" in done.stdout
        assert "Traceback" not in done.stderr

    def test_the_settings_of_the_working_directory_do(self, shell: Shell) -> None:
        shell.env_file.rename(shell.folder / ".env")

        assert shell.run("sync_dataverse", *names_of("vin_region")).returncode == 0
        assert "vin_regions" in shell.tables()

    def test_the_environment_does(self, shell: Shell) -> None:
        shell.env_file.unlink()
        shell.environment |= shell.settings

        assert shell.run("sync_dataverse", *names_of("vin_region")).returncode == 0
        assert "vin_regions" in shell.tables()


class TestQuestions:
    def test_plan_tells_and_writes_nothing(self, shell: Shell) -> None:
        done = shell.sync("plan", *names_of(*SMALL), "--ddl")
        assert done.returncode == 0, "the first word chooses the question"
        found = shell.run("sync_dataverse", "plan", "--env-file", "settings.env", "--json", *names_of(*SMALL))

        assert [one["strategy"] for one in json.loads(found.stdout)["entities"]] == ["delta", "modifiedon"]
        assert "CREATE TABLE" in done.stdout
        assert not (shell.folder / "copy.db").exists()

    def test_doctor_says_how_each_thing_stands(self, shell: Shell) -> None:
        done = shell.sync("doctor", *names_of(*SMALL))

        assert done.returncode == 0, done.stdout
        *lines, summary = done.stdout.splitlines()
        found = Counter(line.split()[0] for line in lines)
        assert found.keys() <= {"ok", "warning"}
        assert summary == f"{found['ok']} ok, {found['warning']} warning, 0 failed"
        assert not (shell.folder / "copy.db").exists()

    def test_doctor_fails_with_a_remedy(self, shell: Shell) -> None:
        shell.env_file.write_text(
            shell.env_file.read_text().replace(shell.settings["DATAVERSE_CLIENT_SECRET"], "another~Secret")
        )
        done = shell.sync("doctor")

        assert done.returncode == 1
        assert done.stdout.startswith("failed  login: ")
        assert "another~Secret" not in done.stdout + done.stderr

    def test_explain_says_why_a_record_is_here(self, shell: Shell, server: Server) -> None:
        key = server.organisation.keys("vin_disease")[0]
        shell.report(*names_of("vin_disease"))

        assert "copied whole" in shell.sync("explain", "vin_diseases", key).stdout
        assert shell.sync("explain", "vin_diseases", key[::-1]).returncode == 1

    def test_explain_needs_no_setting_but_the_database(self, shell: Shell, server: Server) -> None:
        key = server.organisation.keys("vin_disease")[0]
        shell.report(*names_of("vin_disease"))
        shell.env_file.write_text("SQLITE_DB_PATH=copy.db\n")

        done = shell.sync("explain", "vin_diseases", key)
        assert (done.returncode, done.stderr) == (0, "")
        assert "copied whole" in done.stdout

    def test_explain_tells_faults_of_the_database(self, shell: Shell) -> None:
        shell.env_file.write_text("SQLITE_DB_PTH=copy.db\nDATAVERSE_CLIENTID=x\nPOSTGRES_CONNECTION_STRING=mysql://x\n")

        assert_told(
            shell.sync("explain", "vin_diseases", "1"),
            "SQLITE_DB_PTH is no setting; did you mean SQLITE_DB_PATH?",
            "POSTGRES_CONNECTION_STRING is malformed",
        )


class TestValidateSchema:
    def validate(self, shell: Shell, *arguments: str) -> subprocess.CompletedProcess[str]:
        return shell.run("validate_schema", "--env-file", "settings.env", *arguments)

    def test_passes_where_nothing_is_stored_and_writes_only_its_reports(self, shell: Shell) -> None:
        done = self.validate(shell, "--db-type", "sqlite", "--json-report", "r.json", "--md-report", "r.md")

        assert done.returncode == 0, done.stderr
        verdict = json.loads((shell.folder / "r.json").read_text())
        assert (verdict["passed"], len(verdict["findings"])) == (True, len(load_entity_configs()))
        assert (shell.folder / "r.md").read_text().startswith("# Schema check: passed")
        assert sorted(one.name for one in shell.folder.iterdir()) == ["r.json", "r.md", "settings.env"]

    def test_fails_where_a_stored_column_fits_no_more(self, shell: Shell) -> None:
        shell.report(*names_of(*SMALL))
        with closing(sqlite3.connect(shell.folder / "copy.db")) as file, file:
            file.execute(
                'UPDATE _sync_shape SET value = replace(value, \'"modifiedon":"datetime"\', \'"modifiedon":"date"\')'
            )

        done = self.validate(shell)
        assert done.returncode == 1
        assert "error: vin_disease: column modifiedon was date and is now datetime" in done.stdout

    def test_the_engine_named_is_the_one_that_is_checked(self, shell: Shell, postgres_url: str, tmp_path: Path) -> None:
        shell.report(*names_of(*SMALL))
        selection = tmp_path / "two.json"
        chosen = [one for one in load_entity_configs() if one.name in SMALL]
        selection.write_text(json.dumps({"entities": [{"name": one.name, "api_name": one.api_name} for one in chosen]}))
        shell.env_file.write_text(f"{shell.env_file.read_text()}\nPOSTGRES_CONNECTION_STRING={postgres_url}\n")
        found = {
            kind: self.validate(shell, "--db-type", kind, "--entities-config", str(selection))
            for kind in ("sqlite", "postgresql")
        }

        assert {done.returncode for done in found.values()} == {0}
        assert found["sqlite"].stdout == "schema check passed: 0 error, 0 warning, 0 info\n"
        assert "new table vin_diseases" in found["postgresql"].stdout

    def test_an_engine_without_settings_is_a_fault(self, shell: Shell) -> None:
        done = self.validate(shell, "--db-type", "postgresql")

        assert (done.returncode, done.stdout) == (1, "")
        assert "POSTGRES_CONNECTION_STRING" in done.stderr


class TestGenerateOptionsetConfig:
    def test_prints_what_the_hint_file_takes_and_talks_on_the_other_stream(self, shell: Shell) -> None:
        shell.report(*names_of("vin_candidate", "vin_disease"))

        done = shell.run("generate_optionset_config", "--db", "copy.db")
        found = json.loads(done.stdout)
        assert done.returncode == 0
        assert "statecode" in found["vin_candidate"]
        assert "modifiedon" not in found["vin_candidate"]
        assert "choice columns" in done.stderr
        (shell.folder / "hints.json").write_text(done.stdout)
        assert shell.report("--optionsets-config", "hints.json", *names_of("vin_disease"))["success"]

    def test_needs_no_setting_but_the_database(self, shell: Shell) -> None:
        shell.report(*names_of("vin_disease"))
        shell.env_file.write_text("SQLITE_DB_PATH=copy.db\n")

        done = shell.run("generate_optionset_config", "--env-file", "settings.env")
        assert done.returncode == 0, done.stderr
        assert "statecode" in json.loads(done.stdout)["vin_disease"]

    def test_a_file_that_is_not_there_is_not_made(self, shell: Shell) -> None:
        done = shell.run("generate_optionset_config", "--db", "nowhere.db")

        assert (done.returncode, done.stdout) == (1, "")
        assert "nowhere.db: no such file" in done.stderr
        assert not (shell.folder / "nowhere.db").exists()

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--db", ""), "error: --db: no such file"),
            (("--db", "copy.db", "--env-file", "settings.env"), "error: --env-file: without meaning beside --db"),
        ],
    )
    def test_no_other_file_is_looked_into_than_is_named(
        self, arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert generate_optionset_config(arguments) == 1
        assert capsys.readouterr().err.startswith(words)

    def test_a_copy_in_the_home_folder_is_found(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "copy.db").touch()

        assert generate_optionset_config(["--db", "~/copy.db"]) == 0
        assert capsys.readouterr().out == "{}\n"


def test_an_option_set_file_that_names_an_unknown_table_is_told(shell: Shell) -> None:
    hints = {name: ["statuscode"] for name in ("vin_region", "vin_diseases", "vin_regoin")}
    (shell.folder / "hints.json").write_text(json.dumps(hints))

    done = shell.sync("--json", "--optionsets-config", "hints.json", *names_of("vin_region"))

    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert (done.returncode, json.loads(done.stdout)["success"]) == (0, True)
    assert warnings == ["warning: hints.json: 'vin_regoin' is not in the entities file, so it is ignored"]


class TestOutput:
    def test_what_its_encoding_lacks_is_spelled(self, shell: Shell, server: Server) -> None:
        account = server.organisation.keys("account")[0]
        candidate = server.organisation.keys("vin_candidate")[0]
        column = next(
            one.name for one in server.organisation.tables["vin_candidate"].shape.columns if one.targets == ("account",)
        )
        server.organisation.update("vin_candidate", candidate, {column: ("account", account)})
        shell.report(*names_of("vin_candidate", "account"))
        shell.environment |= {"PYTHONIOENCODING": "latin-1"}

        done = shell.sync("explain", "accounts", account)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"{column} \\u2192\n" in done.stdout

    @pytest.mark.parametrize("question", [[], ["plan"]])
    def test_json_for_a_closed_stream_is_refused_before_anything_is_done(
        self, shell: Shell, question: list[str]
    ) -> None:
        code = "import os, sys; os.close(1); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        command = "import sys; from igh_sync_core.cli import sync_dataverse; sys.exit(sync_dataverse())"
        done = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-c", code, "-c", command, *question, "--json", "--env-file", str(shell.env_file)],
            cwd=shell.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

        assert_told(done, "standard output is closed")
        assert not (shell.folder / "copy.db").exists()


def without(name: str) -> Callable[[Shell], list[str]]:
    return changed(name, "")


def changed(name: str, value: str) -> Callable[[Shell], list[str]]:
    def apply(shell: Shell) -> list[str]:
        settings = dict(shell.settings) | {name: value}
        shell.env_file.write_text("".join(f"{one}={text}\n" for one, text in settings.items()))
        return []

    return apply


def file_of(content: str) -> Callable[[Shell], list[str]]:
    def apply(shell: Shell) -> list[str]:
        (shell.folder / "entities.json").write_text(content)
        return ["--entities-config", "entities.json"]

    return apply


def given(*arguments: str) -> Callable[[Shell], list[str]]:
    return lambda _shell: list(arguments)


BAD = {
    "a missing setting": (without("DATAVERSE_CLIENT_ID"), "DATAVERSE_CLIENT_ID is missing"),
    "a malformed setting": (changed("DATAVERSE_API_URL", "org crm"), "DATAVERSE_API_URL"),
    "a wrong secret": (changed("DATAVERSE_CLIENT_SECRET", "wrong~Secret"), "secret"),
    "an unreachable host": (changed("DATAVERSE_API_URL", "https://localhost:1"), "localhost:1"),
    "an unwritable database": (changed("SQLITE_DB_PATH", "/proc/nowhere/copy.db"), "SQLITE_DB_PATH"),
    "a database that is none": (changed("SQLITE_DB_PATH", "settings.env"), "is no SQLite database"),
    "an unknown entity": (given("--entities", "vin_nothing"), "'vin_nothing' is not in the entities file"),
    "an entities file that is no JSON": (file_of("entities:"), "entities.json: is no JSON"),
    "an entities file of wrong fields": (
        file_of('{"entities": [{"name": 7, "api_name": "x"}]}'),
        '"name" must be text',
    ),
    "an entities file that is not there": (given("--entities-config", "none.json"), "none.json: cannot be read"),
    "an option-set file that is no JSON": (given("--optionsets-config", "settings.env"), "is no JSON"),
    "an unknown argument": (given("--everything"), "--everything"),
    "a number out of bounds": (given("--page-size", "9000"), "--page-size"),
}


@pytest.mark.parametrize(("spoil", "words"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_clear_line_and_nothing_is_written(
    shell: Shell, spoil: Callable[[Shell], list[str]], words: str
) -> None:
    arguments = spoil(shell)
    before = {one.name: one.read_bytes() for one in shell.folder.iterdir()}

    done = shell.sync(*arguments)
    errors = [line for line in done.stderr.splitlines() if " WARNING " not in line]
    assert (done.returncode, done.stdout) == (1, "")
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("error: ")
    assert words in errors[0]
    assert {one.name: one.read_bytes() for one in shell.folder.iterdir()} == before


def test_an_address_that_is_no_dataverse_is_one_clear_line(shell: Shell, server: Server) -> None:
    server.sandbox.faults.add(Fault(kind="not_json", times=100))
    done = shell.sync(*names_of(*SMALL))
    server.sandbox.faults.clear()

    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "Dataverse" in done.stderr
    assert not (shell.folder / "copy.db").exists()


def test_all_faults_of_settings_and_files_come_at_once(shell: Shell) -> None:
    shell.env_file.write_text("")
    (shell.folder / "entities.json").write_text("[]")
    done = shell.sync("--entities-config", "entities.json")

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 4
    assert all(line.startswith("error: ") for line in done.stderr.splitlines())


FAULTS = (
    "DATAVERSE_CLIENT_ID is missing",
    "DATAVERSE_CLIENT_SECRET is missing",
    "SQLITE_DB_PATH: /nowhere/copy.db lies in a folder that does not exist",
    "--entities: 'vin_nothing' is not in the entities file",
    "hints.json: cannot be read",
)


@pytest.mark.parametrize("question", [[], ["plan"], ["doctor"]])
@pytest.mark.parametrize("name", ["ALL_PROXY", "SSL_CERT_FILE"])
def test_a_network_setting_of_the_machine_that_cannot_be_used_is_one_line(
    shell: Shell, question: list[str], name: str
) -> None:
    shell.environment[name] = "gopher://svc:hunter2@proxy"
    done = shell.sync(*question)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {name}")
    assert len(done.stderr.splitlines()) == 1
    assert name == "SSL_CERT_FILE" or "hunter2" not in done.stderr
    assert not (shell.folder / "copy.db").exists()


@pytest.mark.parametrize("question", [[], ["plan"]])
def test_so_do_those_of_arguments_and_of_the_folder_of_the_database(shell: Shell, question: list[str]) -> None:
    shell.env_file.write_text("DATAVERSE_API_URL=https://org.crm.dynamics.com\nSQLITE_DB_PATH=/nowhere/copy.db\n")
    done = shell.sync(*question, "--entities", "vin_nothing", "--optionsets-config", "hints.json")

    assert_told(done, *FAULTS)


def test_so_do_those_of_a_schema_check(shell: Shell) -> None:
    shell.env_file.write_text("DATAVERSE_API_URL=https://org.crm.dynamics.com\nDATAVERSE_CLIENT_ID=app\n")
    done = shell.run(
        "validate_schema",
        *("--env-file", "settings.env", "--db-type", "postgresql", "--optionsets-config", "hints.json"),
    )

    assert_told(done, FAULTS[1], "--db-type postgresql: POSTGRES_CONNECTION_STRING is not set", FAULTS[4])


def test_doctor_tells_of_the_database_among_the_other_things(shell: Shell) -> None:
    shell.env_file.write_text(shell.env_file.read_text().replace("=copy.db", "=/nowhere/copy.db"))
    done = shell.sync("doctor", *names_of(*SMALL))

    assert (done.returncode, done.stderr) == (1, "")
    assert "ok      login: " in done.stdout
    assert "failed  database: SQLITE_DB_PATH: /nowhere/copy.db lies in a folder that does not exist" in done.stdout


def assert_told(done: subprocess.CompletedProcess[str], *faults: str) -> None:
    """The command ended with these faults, one a line, and no other."""
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert len(lines) == len(faults), done.stderr
    assert all(line.startswith(f"error: {fault}") for line, fault in zip(lines, faults, strict=True)), done.stderr
