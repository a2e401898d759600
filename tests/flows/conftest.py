"""A real Prefect server for the whole session, and a Dataverse to sync from."""

import sys
from collections.abc import Iterator
from pathlib import Path

import prefect
import pytest
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    temporary_settings,
)
from prefect_processes import PrefectServer, await_health, copy_database, free_port, running

from igh_sync_core.sandbox import Server, health_organisation, serve


@pytest.fixture(scope="session")
def template(request: pytest.FixtureRequest) -> Path:
    """Where a migrated Prefect database is kept from session to session: it saves seven seconds a server."""
    return request.config.cache.mkdir("prefect") / f"{prefect.__version__}.db"


@pytest.fixture(scope="session")
def prefect_server(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A Prefect server; schedules every two seconds instead of every minute, and who waits in a queue asks often."""
    folder = tmp_path_factory.mktemp("prefect")
    port = free_port()
    server = PrefectServer(f"http://127.0.0.1:{port}/api", folder / "home")
    server.home.mkdir()
    if template.exists():
        copy_database(template, server.home / "prefect.db")
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    fast = {
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
        "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
        "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "0.3",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    }
    with running(command, server.environment(**fast), folder / "server.log") as process:
        await_health(server.api_url, process)
        if not template.exists():
            copy_database(server.home / "prefect.db", template)
        yield server
        # What is still to be sent would be tried for minutes once the server is gone.
        APILogWorker.drain_all(timeout=10)
        EventsWorker.drain_all(timeout=10)


@pytest.fixture
def prefect_api(prefect_server: PrefectServer) -> Iterator[PrefectServer]:
    """Flows of this process run on the session's server."""
    settings = {
        PREFECT_API_URL: prefect_server.api_url,
        PREFECT_HOME: prefect_server.home,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
    }
    with temporary_settings(settings):
        yield prefect_server


@pytest.fixture
def dataverse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A small Dataverse over HTTPS; the environment's settings lead there, and to a fresh SQLite file."""
    with serve(health_organisation(400)) as server:
        settings = server.environment() | {"SQLITE_DB_PATH": str(tmp_path / "copy.db")}
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        yield server
