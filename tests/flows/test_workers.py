"""Several process workers and PostgreSQL: what runs at once, what waits, what is refused, and what survives a kill.

Each flow run is a process of its own; both workers take one at a time, so two runs at once are on two workers.
"""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from subprocess import Popen
from threading import Event
from typing import Any
from uuid import UUID

import psycopg
import pytest
from prefect import Flow, get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, FlowRun
from prefect_processes import ROOT, PrefectServer, prefect_command, run_prefect, running, wait_for
from stored import chosen, copied

from flows.limits import LIMIT
from flows.saving import save_blocks
from igh_sync_core.config import Config, load_config
from igh_sync_core.sandbox import Server
from igh_sync_core.sandbox.queries.routes import Request
from igh_sync_core.sandbox.replies import Reply
from igh_sync_core.sync.options import Options
from igh_sync_core.workflow import run_workflow

pytestmark = pytest.mark.e2e
ENTITIES = ["vin_candidate", "vin_disease", "account"]
FEW = "vin_disease"
POOL = "pair"
LATENCY_S = 0.1
HOLD_LIMIT_S = 300
Expected = Mapping[str, list[tuple[str, ...]]]


Workers = Mapping[str, Popen[bytes]]


class Gate:
    """Lets data requests through, until those for one table are held.

    Attributes:
        times: When requests came in.
        reached: A request is held.
        opened: Held requests are answered.
    """

    def __init__(self) -> None:
        self.times: list[float] = []
        self.reached = Event()
        self.opened = Event()
        self._table = ""
        self._free = 0

    def hold(self, table: str, after: int = 0) -> None:
        """Hold the requests for *table* but for the next *after* ones."""
        self._table, self._free = table, after
        self.times.clear()

    def enter(self, request: Request) -> None:
        self.times.append(time.monotonic())
        if self._table and request.path.endswith(f"/{self._table}"):
            self._free -= 1
            if self._free < 0:
                self.reached.set()
                self.opened.wait(HOLD_LIMIT_S)


@pytest.fixture(scope="module")
def workers(prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Two workers of one pool, by name; the processes of their runs are their children."""
    folder = tmp_path_factory.mktemp("workers")
    environment = prefect_server.environment()
    run_prefect(environment, "work-pool", "create", POOL, "--type", "process")
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                running(
                    prefect_command("worker", "start", "-p", POOL, "-n", name, "--limit", "1"),
                    environment,
                    folder / name,
                )
            )
            for name in ("east", "west")
        }


@pytest.fixture(autouse=True)
def _deployed(workers: Workers, prefect_api: PrefectServer) -> None:
    """Two deployments of the flow: one whose runs wait for each other, and one that knows no limit."""
    assert workers
    assert prefect_api
    flow: Any = Flow.from_source(str(ROOT), entrypoint="flows/sync_dataverse.py:sync_dataverse")
    one = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
    for name, limit in (("free", None), ("queued", one)):
        flow.deploy(name, work_pool_name=POOL, concurrency_limit=limit, print_next_steps=False)


@pytest.fixture
def gate(dataverse: Server, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """In front of the data requests; each keeps its slot until it is answered."""
    gate = Gate()
    answer = dataverse.sandbox.respond

    def guarded(request: Request) -> Reply:
        if "authorization" in request.headers:
            gate.enter(request)
        return answer(request)

    monkeypatch.setattr(dataverse.sandbox, "respond", guarded)
    return gate


@pytest.fixture
def expected(dataverse: Server, tmp_path: Path) -> Expected:
    """What one process makes of the source, without Prefect."""
    assert dataverse
    config = replace(load_config(), sqlite_db_path=str(tmp_path / "alone.db"))
    assert run_workflow(config, chosen(ENTITIES), Options()).success
    return copied(config, ENTITIES)


def block(name: str, url: str) -> Config:
    """Save the settings as blocks of this name, with the PostgreSQL database at *url*."""
    config = replace(load_config(), postgres_connection_string=url)
    save_blocks(config, name)
    return config


def start(deployment: str, blocks: str, **parameters: Any) -> UUID:
    """Ask for a run, and go on at once."""
    wanted = {"credentials": blocks, "database": blocks, "entities": ENTITIES, **parameters}
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name(f"sync-dataverse/{deployment}")
        return client.create_flow_run_from_deployment(found.id, parameters=wanted).id


def read(run: UUID) -> FlowRun:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run)


def state_name(run: UUID) -> str:
    return str(read(run).state_name)


def worker_of(run: UUID) -> str:
    """Name of the worker that took *run*; one that only tried to, and was refused, is not it."""
    return str(read(run).labels["prefect.worker.name"])


def ended(run: UUID) -> FlowRun:
    wait_for(lambda: (state := read(run).state) and state.is_final())
    return read(run)


def test_two_databases_are_filled_at_once_within_one_limit(
    dataverse: Server, gate: Gate, expected: Expected, postgres_url: str, other_postgres_url: str
) -> None:
    configs = [block("one", postgres_url), block("other", other_postgres_url)]
    dataverse.sandbox.latency_s = LATENCY_S
    gate.hold("vin_diseases")
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(LIMIT, 1)
        try:
            started = [start("free", name, entities=[FEW]) for name in ("one", "other")]
            wait_for(lambda: [state_name(run) for run in started] == ["Running", "Running"])
            gate.opened.set()
            runs = [ended(run) for run in started]
        finally:
            client.delete_global_concurrency_limit_by_name(LIMIT)

    first, second = runs
    assert [run.state_name for run in runs] == ["Completed", "Completed"]
    assert {worker_of(run.id) for run in runs} == {"east", "west"}
    assert max(first.start_time, second.start_time) < min(first.end_time, second.end_time)
    assert all(later - earlier > 0.9 * LATENCY_S for earlier, later in pairwise(gate.times))
    for config in configs:
        assert copied(config, [FEW])["vin_diseases"] == expected["vin_diseases"]


def test_one_database_has_one_run_at_a_time_on_whichever_worker(
    gate: Gate, expected: Expected, postgres_url: str
) -> None:
    config = block("one", postgres_url)
    gate.hold("vin_candidates")
    holder = start("queued", "one")
    wait_for(gate.reached.is_set)
    with psycopg.connect(postgres_url) as conn:
        token, pid = conn.execute("SELECT token, pid FROM _sync_lock").fetchone() or ("", 0)
    refused = ended(start("free", "one"))
    waiting = start("queued", "one")
    wait_for(lambda: state_name(waiting) == "AwaitingConcurrencySlot")
    holder_then = state_name(holder)
    gate.opened.set()
    held, waited = ended(holder), ended(waiting)

    assert refused.state_name == "Failed"
    assert f"this database is held by run {token} (process {pid} on " in str(refused.state and refused.state.message)
    assert worker_of(refused.id) != worker_of(holder)
    assert (holder_then, held.state_name, waited.state_name) == ("Running", "Completed", "Completed")
    assert waited.start_time >= held.end_time
    assert copied(config, ENTITIES) == expected


def test_what_a_killed_worker_began_another_one_completes(
    gate: Gate, workers: Workers, expected: Expected, postgres_url: str
) -> None:
    """Comes last: the worker stays dead."""
    config = block("one", postgres_url)
    gate.hold("vin_candidates", after=2)
    killed = start("free", "one", page_size=5)
    wait_for(gate.reached.is_set)
    with psycopg.connect(postgres_url) as conn:
        wait_for(lambda: conn.execute("SELECT count(*) > 0 FROM vin_candidates").fetchone() == (True,))
        (pid,) = conn.execute("SELECT pid FROM _sync_lock").fetchone() or (0,)
    name = worker_of(killed)
    workers[name].kill()
    os.kill(pid, signal.SIGKILL)
    stored = copied(config, ENTITIES)
    gate.opened.set()

    again = ended(start("free", "one"))

    assert 0 < len(stored["vin_candidates"]) < len(expected["vin_candidates"])
    assert again.state_name == "Completed"
    assert worker_of(again.id) != name
    assert copied(config, ENTITIES) == expected
