"""The README's deployment commands, run for real; runs, schedules, and no secret left behind."""

import json
import logging
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from prefect_processes import ROOT, PrefectServer, prefect_command, run_prefect, running, wait_for

from igh_sync_core.config.entities import load_entity_configs
from igh_sync_core.sandbox import Server, health_organisation, serve

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class Deployed:
    """A worker that waits for runs.

    Attributes:
        dataverse: What is synced.
        server: The Prefect server.
        copy: The SQLite file.
        environment: Of the commands.
    """

    dataverse: Server
    server: PrefectServer
    copy: Path
    environment: dict[str, str]

    def prefect(self, *arguments: str, status: int = 0) -> str:
        """Run a ``prefect`` command in the checkout; gives what it printed."""
        return run_prefect(self.environment, *arguments, status=status)

    def run(self, name: str, *, status: int = 0) -> str:
        """``prefect deployment run … --watch``."""
        return self.prefect("deployment", "run", f"sync-dataverse/{name}", "--watch", status=status)

    def ask(self, path: str, **body: object) -> list[dict[str, object]]:
        """The server's answer to a filter."""
        found: list[dict[str, object]] = httpx.post(f"{self.server.api_url}/{path}", json=body).json()
        return found


@pytest.fixture(scope="module")
def deployed(prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """As the README says: blocks from the settings, a work pool, all deployments, a worker."""
    folder = tmp_path_factory.mktemp("deployed")
    with serve(health_organisation(300)) as dataverse:
        settings = dataverse.environment() | {"SQLITE_DB_PATH": str(folder / "copy.db")}
        environment = prefect_server.environment()
        setup = Deployed(dataverse, prefect_server, folder / "copy.db", environment | settings)
        setup.prefect("work-pool", "create", "dataverse", "--type", "process")
        setup.prefect("block", "register", "-m", "flows.blocks")
        saving = [sys.executable, "-m", "flows.sync_dataverse", "--save-blocks", "dataverse"]
        subprocess.run(saving, env=setup.environment, cwd=folder, check=True, capture_output=True, timeout=60)  # noqa: S603 - our own command
        without = Deployed(dataverse, prefect_server, folder / "copy.db", environment)
        without.prefect("--no-prompt", "deploy", "--all")
        with running(prefect_command("worker", "start", "--pool", "dataverse"), environment, folder / "worker.log"):
            yield without


def newest_run(deployed: Deployed) -> dict[str, object]:
    runs = deployed.ask("flow_runs/filter", sort="EXPECTED_START_TIME_DESC", limit=200)
    return next(run for run in runs if run["state_type"] in ("COMPLETED", "FAILED"))


def test_runs_of_a_deployment_copy_what_is_there_and_what_changed(deployed: Deployed) -> None:
    deployed.run("nightly")
    first = newest_run(deployed)
    deployed.dataverse.organisation.insert("vin_candidate", {"vin_name": "one more"})
    deployed.run("weekly-reconcile")

    keys = {one["key"] for one in deployed.ask("artifacts/latest/filter", limit=50)}
    assert first["state_type"] == "COMPLETED"
    assert "entities" in str(first["state"])
    assert str(newest_run(deployed)["name"]).startswith("reconcile of all entities, 20")
    assert keys >= {"sync-report", "schema-check", "reference-check", "sync-progress"}
    with closing(sqlite3.connect(deployed.copy)) as conn:
        for entity in load_entity_configs():
            if not entity.filtered:
                counted = f"SELECT count(*) FROM {entity.api_name} WHERE valid_to IS NULL"  # noqa: S608 - names of our own file
                assert conn.execute(counted).fetchone() == (deployed.dataverse.organisation.count(entity.name),)


def test_a_run_that_must_fail_says_why(deployed: Deployed) -> None:
    deployed.dataverse.sandbox.deny("vin_product")

    deployed.run("full-validation", status=1)

    state = newest_run(deployed)["state"]
    assert isinstance(state, dict)
    assert state["type"] == "FAILED"
    assert "entities failed: vin_product: " in str(state["message"])
    chosen = {"flow_run_id": {"any_": [newest_run(deployed)["id"]]}, "level": {"ge_": logging.ERROR}}
    told = [str(line["message"]) for line in deployed.ask("logs/filter", logs=chosen)]
    assert str(state["message"]) in told
    assert not [line for line in told if "Traceback" in line]


def test_schedules_yield_scheduled_runs(deployed: Deployed) -> None:
    """With some versions of SQLAlchemy they silently do not."""

    def scheduled() -> set[object]:
        runs = deployed.ask("flow_runs/filter", flow_runs={"state": {"type": {"any_": ["SCHEDULED"]}}}, limit=200)
        return {run["deployment_id"] for run in runs if run["auto_scheduled"]}

    ours = {"name": {"any_": ["dataverse"]}}
    names = {one["name"]: one for one in deployed.ask("deployments/filter", work_pools=ours)}
    active = {names[name]["id"] for name in ("nightly", "weekly-reconcile")}

    wait_for(lambda: scheduled() == active)

    assert names.keys() == {"nightly", "weekly-reconcile", "full-validation"}
    for one in names.values():
        assert one["global_concurrency_limit"]["limit"] == 1  # type: ignore[index]  # JSON
        assert one["concurrency_options"]["collision_strategy"] in ("CANCEL_NEW", "ENQUEUE")  # type: ignore[index]  # JSON
        assert one["description"]
        assert one["tags"]


def test_the_form_of_a_run_explains_itself(deployed: Deployed) -> None:
    (nightly,) = [one for one in deployed.ask("deployments/filter") if one["name"] == "nightly"]

    schema = json.loads(json.dumps(nightly["parameter_openapi_schema"]))

    assert list(schema["properties"])[:3] == ["credentials", "database", "entities"]
    assert all(field["title"] and field["description"] for field in schema["properties"].values())
    assert schema["properties"]["concurrency"]["maximum"] == 16


def test_the_readme_gives_these_commands() -> None:
    """Those of the fixture and of the first test here, in their order."""
    lines = (ROOT / "README.md").read_text().splitlines()
    told = [line.removeprefix("$ ").removesuffix(" &") for line in lines if line.startswith("$ ")]

    assert [line for line in told if line.startswith("prefect ") or "--save-blocks" in line] == [
        "prefect server start",
        "prefect work-pool create dataverse --type process",
        "prefect block register -m flows.blocks",
        "python -m flows.sync_dataverse --save-blocks dataverse",
        "prefect --no-prompt deploy --all",
        "prefect worker start --pool dataverse",
        "prefect deployment run sync-dataverse/nightly --watch",
    ]


def test_no_secret_and_no_row_stays_with_prefect(deployed: Deployed) -> None:
    """Comes last: reads every byte that the server and the worker have written by then."""
    candidate = deployed.dataverse.organisation.keys("vin_candidate")[0]
    secrets = {
        "client secret": deployed.dataverse.client_secret.encode(),
        "token": b"eyJ0eXAiOiJKV1Qi",
        "key of a record": candidate.encode(),
    }

    kept = {path: path.read_bytes() for path in deployed.server.home.rglob("*") if path.is_file()}

    assert any(path.name == "prefect.db" for path in kept)
    found = [(name, path.name) for name, value in secrets.items() for path, content in kept.items() if value in content]
    assert found == []
