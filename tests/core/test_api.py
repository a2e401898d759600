"""``run_sync`` as existing programs call it: every clause of its contract, against a Dataverse over HTTPS."""

import asyncio
import inspect
import logging
import os
import sqlite3
import ssl
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import httpx
import pytest
from copies import config_of

import igh_sync_core
from igh_sync_core import run_sync, run_sync_workflow
from igh_sync_core.config import (
    Config,
    EntityConfig,
    load_config,
    load_entities,
    load_entity_configs,
    load_optionsets_config,
)
from igh_sync_core.sandbox import Fault, Server, health_organisation, serve
from igh_sync_core.sync.options import Options

TABLES = [EntityConfig("vin_disease", "vin_diseases"), EntityConfig("vin_rdpriority", "vin_rdpriorities")]
CORE = logging.getLogger("igh_sync_core")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(health_organisation(300)) as running:
        yield running


@pytest.fixture
def config(server: Server, tmp_path: Path) -> Config:
    return config_of(server, tmp_path / "bronze.db")


class Ledger(logging.Handler):
    """Keeps what a logger was given."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelno, record.getMessage()))


def logger_of(name: str) -> tuple[logging.Logger, Ledger]:
    logger, ledger = logging.getLogger(f"tests.{uuid.uuid4().hex}.{name}"), Ledger()
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(ledger)
    return logger, ledger


def count(config: Config, table: str) -> int:
    with closing(sqlite3.connect(str(config.sqlite_db_path))) as file:
        [[number]] = file.execute(f"SELECT count(*) FROM {table}")  # noqa: S608 - a table of this test
        return int(number)


def refused(config: Config) -> Config:
    return replace(config, client_secret="another~Secret")


class TestSignature:
    def test_is_the_one_that_programs_call(self) -> None:
        parameters = inspect.signature(run_sync).parameters

        assert list(parameters) == ["config", "entities_config", "optionsets_config", "verify_reference", "logger"]
        assert [one.default for one in parameters.values()][1:] == [None, None, False, None]
        assert inspect.iscoroutinefunction(run_sync)
        assert igh_sync_core.run_sync is run_sync

    def test_config_takes_the_old_fields_in_the_old_order(self) -> None:
        old = ("api_url", "client_id", "client_secret", "scope", "sqlite_db_path", "postgres_connection_string")
        positional = [one.name for one in fields(Config) if not one.kw_only]

        assert tuple(positional) == old
        assert Config("https://o.crm.dynamics.com", "i", "s", "x").get_db_type() == "sqlite"
        assert Config("u", "i", "s", "x", None, "postgresql://h/d").get_db_type() == "postgresql"

    def test_entity_config_takes_the_old_fields(self) -> None:
        entity = EntityConfig("account", "accounts", True, "Accounts")  # noqa: FBT003 - as programs write it

        assert (entity.name, entity.api_name, entity.filtered, entity.description) == (
            "account",
            "accounts",
            True,
            "Accounts",
        )
        with pytest.raises(FrozenInstanceError):
            entity.name = "contact"  # type: ignore[misc]

    def test_the_loaders_give_the_package_defaults(self) -> None:
        assert [one["name"] for one in load_entities()] == [one.name for one in load_entity_configs()]
        assert load_entities()[0].keys() == {"name", "api_name", "filtered", "description"}
        assert load_optionsets_config() == {}
        with pytest.raises(ValueError, match="DATAVERSE_API_URL is missing"):
            load_config()


class TestVerdict:
    def test_true_when_all_went_well(self, config: Config) -> None:
        assert asyncio.run(run_sync(config, TABLES)) is True
        assert count(config, "vin_diseases") > 0

    def test_true_with_verified_references(self, config: Config) -> None:
        assert asyncio.run(run_sync(config, TABLES, {"vin_disease": ["statecode"]}, verify_reference=True)) is True

    def test_the_default_entities_are_the_package_s(self, config: Config) -> None:
        assert asyncio.run(run_sync(config)) is True
        tables = [one.api_name for one in load_entity_configs()]
        assert all(count(config, table) >= 0 for table in tables)

    def test_false_when_an_entity_failed(self, config: Config, server: Server) -> None:
        server.sandbox.faults.add(Fault(kind="missing_value", match="vin_diseases", times=50))
        try:
            assert asyncio.run(run_sync(config, TABLES)) is False
        finally:
            server.sandbox.faults.clear()
        assert count(config, "vin_rdpriorities") > 0

    def test_false_when_validation_finds_errors(self, config: Config) -> None:
        asyncio.run(run_sync(config, TABLES))
        with closing(sqlite3.connect(str(config.sqlite_db_path))) as file, file:
            file.execute(
                'UPDATE _sync_shape SET value = replace(value, \'"key":"vin_disease\', \'"key":"old_disease\')'
            )

        assert asyncio.run(run_sync(config, TABLES)) is False
        [finding] = run_sync_workflow(config, TABLES)["validation_errors"]
        assert (finding["severity"], finding["entity"]) == ("error", "vin_disease")

    def test_false_when_references_dangle_and_true_when_nobody_asks(self, config: Config, server: Server) -> None:
        organisation, nowhere = server.organisation, "99999999-0000-0000-0000-000000000000"
        shape = organisation.tables["vin_rdpriority"].shape
        column = next(one for one in shape.columns if one.targets and one.is_writable)
        key = organisation.insert("vin_rdpriority", {column.name: (column.targets[0], nowhere)})
        target = organisation.tables[column.targets[0]].shape
        tables = [TABLES[1], EntityConfig(target.logical_name, target.entity_set)]
        try:
            assert asyncio.run(run_sync(config, tables)) is True
            assert asyncio.run(run_sync(config, tables, verify_reference=True)) is False
        finally:
            organisation.delete("vin_rdpriority", key)

    def test_runtime_error_when_the_credentials_are_refused(self, config: Config) -> None:
        with pytest.raises(RuntimeError) as caught:
            asyncio.run(run_sync(refused(config), TABLES))

        assert "another~Secret" not in str(caught.value)
        assert not Path(str(config.sqlite_db_path)).exists()

    @pytest.mark.parametrize("field", ["api_url", "client_id", "client_secret"])
    def test_value_error_when_a_field_is_missing(self, config: Config, field: str) -> None:
        with pytest.raises(ValueError, match=f"DATAVERSE_{field.upper()} is missing"):
            asyncio.run(run_sync(replace(config, **{field: ""}), TABLES))

    def test_value_error_when_no_database_is_named(self, config: Config) -> None:
        with pytest.raises(ValueError, match="SQLITE_DB_PATH is missing"):
            asyncio.run(run_sync(replace(config, sqlite_db_path=None), TABLES))


class TestReport:
    def test_the_workflow_gives_the_mapping(self, config: Config) -> None:
        report = run_sync_workflow(config, TABLES)

        assert report["success"] is True
        assert report["total_added"] == count(config, "vin_diseases") + count(config, "vin_rdpriorities")
        assert report["total_updated"] == 0
        assert (report["failed_entities"], report["validation_errors"], report["reference_errors"]) == ([], [], [])

    def test_failures_are_pairs_and_nothing_exits(self, config: Config, server: Server) -> None:
        server.sandbox.faults.add(Fault(kind="missing_value", match="vin_diseases", times=50))
        try:
            [(entity, error)] = run_sync_workflow(config, TABLES)["failed_entities"]
        finally:
            server.sandbox.faults.clear()
        assert entity == "vin_disease"
        assert error

    def test_options_reach_the_run(self, config: Config) -> None:
        run_sync_workflow(config, TABLES)

        report = run_sync_workflow(config, TABLES, options=Options(reconcile=True))
        assert any("reconciled" in entity["reason"] for entity in report["entities"])


class TestLogs:
    def test_silent_without_a_logger_even_where_there_is_something_to_say(
        self, config: Config, server: Server, capfd: pytest.CaptureFixture[str]
    ) -> None:
        server.sandbox.faults.add(Fault(kind="missing_value", match="vin_diseases", times=50))
        try:
            asyncio.run(run_sync(config, [*TABLES, EntityConfig("vin_nowhere", "vin_nowheres")]))
        finally:
            server.sandbox.faults.clear()

        assert capfd.readouterr() == ("", "")

    def test_silent_where_the_program_shows_every_log(self, config: Config, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.DEBUG):
            asyncio.run(run_sync(config, TABLES))

        assert {record.name for record in caplog.records} <= {"asyncio"}

    def test_other_requests_of_the_program_are_logged_as_before(
        self, config: Config, server: Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        asyncio.run(run_sync(config, TABLES))
        trust = ssl.create_default_context(cafile=str(server.ca_file))
        with caplog.at_level(logging.INFO):
            httpx.get(f"{server.api_url}/sandbox/requests", verify=trust)

        assert [record.name for record in caplog.records] == ["httpx"]

    def test_with_a_logger_every_message_goes_there(self, config: Config, capfd: pytest.CaptureFixture[str]) -> None:
        logger, ledger = logger_of("program")
        asyncio.run(run_sync(config, [*TABLES, EntityConfig("vin_nowhere", "vin_nowheres")], logger=logger))

        lines = [text for _, text in ledger.lines]
        assert sum(text.startswith("vin_disease: ") and "added" in text for text in lines) == 1
        assert any(level == logging.WARNING and "vin_nowhere" in text for level, text in ledger.lines)
        assert not any(config.client_secret in line for line in lines)
        assert capfd.readouterr() == ("", "")

    def test_the_level_of_the_logger_holds(self, config: Config) -> None:
        logger, ledger = logger_of("program")
        logger.setLevel(logging.ERROR)
        asyncio.run(run_sync(config, TABLES, logger=logger))

        assert ledger.lines == []

    def test_afterwards_logging_is_as_it_was(self, config: Config) -> None:
        before = (CORE.level, CORE.propagate, list(CORE.handlers))
        asyncio.run(run_sync(config, TABLES))

        assert (CORE.level, CORE.propagate, list(CORE.handlers)) == before


class TestLoops:
    def test_a_running_loop_stays_free(self, config: Config) -> None:
        async def program() -> tuple[bool, int]:
            ticks = 0
            running = asyncio.create_task(run_sync(config, TABLES))
            while not running.done():
                await asyncio.sleep(0.005)
                ticks += 1
            return running.result(), ticks

        result, ticks = asyncio.run(program())
        assert result is True
        assert ticks > 5

    def test_loops_one_after_the_other(self, config: Config) -> None:
        assert [asyncio.run(run_sync(config, TABLES)) for _ in range(3)] == [True, True, True]

    def test_several_in_one_loop_each_with_its_own_database_and_logger(self, server: Server, tmp_path: Path) -> None:
        configs = [config_of(server, tmp_path / f"{number}.db") for number in range(3)]
        loggers = [logger_of(f"program {number}") for number in range(3)]

        async def program() -> list[bool]:
            return await asyncio.gather(
                *(run_sync(one, [TABLES[at % 2]], logger=loggers[at][0]) for at, one in enumerate(configs))
            )

        assert asyncio.run(program()) == [True, True, True]
        for at, (_, ledger) in enumerate(loggers):
            own, other = TABLES[at % 2].name, TABLES[(at + 1) % 2].name
            text = "\n".join(line for _, line in ledger.lines)
            assert own in text
            assert other not in text

    def test_many_at_once_in_threads_with_loops_of_their_own(self, server: Server, tmp_path: Path) -> None:
        together = threading.Barrier(4)

        def worker(number: int) -> tuple[bool, str]:
            logger, ledger = logger_of(f"worker {number}")
            table = TABLES[number % 2]
            together.wait(30)
            result = asyncio.run(run_sync(config_of(server, tmp_path / f"{number}.db"), [table], logger=logger))
            return result, "\n".join(line for _, line in ledger.lines)

        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(worker, range(4)))
        for number, (result, text) in enumerate(results):
            assert result is True
            assert TABLES[number % 2].name in text
            assert TABLES[(number + 1) % 2].name not in text


PROGRAM = """
import asyncio, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"prefect", "flows"}:
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
from igh_sync_core import run_sync
from igh_sync_core.config import EntityConfig, load_config
print(asyncio.run(run_sync(load_config(), [EntityConfig("vin_region", "vin_regions")])))
print(sorted(name for name in sys.modules if name.partition(".")[0] in {"prefect", "flows"}))
"""


def test_prefect_is_neither_needed_nor_imported(server: Server, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "SQLITE_DB_PATH": "copy.db"} | server.environment()
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert (done.stdout.splitlines(), done.stderr) == (["True", "[]"], "")
