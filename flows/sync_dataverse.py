"""The flow: keeps a SQL copy of Microsoft Dataverse, with history. A table of contents; the work is in the core.

python -m flows.sync_dataverse              sync what the environment's settings name
python -m flows.sync_dataverse --sandbox    try it on a Dataverse of its own
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

from prefect import State, runtime
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows import tasks
from flows.logs import core_logs
from flows.order import Order
from flows.outcome import end_state, refused
from flows.standalone import StandaloneFlow, complete_records
from igh_sync_core import workflow
from igh_sync_core.database import Database
from igh_sync_core.entities import EntityConfig
from igh_sync_core.errors import SyncError
from igh_sync_core.report import EntityReport, RunReport
from igh_sync_core.sharing import shared_client
from igh_sync_core.sync import Run

MOST_AT_ONCE = 16
NAMED_AT_MOST = 3
RUNNER: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=MOST_AT_ONCE)


def _run_name() -> str:
    """What is synced how, and when: ``sync of all entities, 2026-01-31 02:00 UTC``."""
    asked: dict[str, Any] = runtime.flow_run.parameters
    chosen = asked.get("entities")
    what = "all entities" if chosen is None else f"{len(chosen)} entities"
    if chosen and len(chosen) <= NAMED_AT_MOST:
        what = ", ".join(chosen)
    return f"sync of {what}, {runtime.flow_run.scheduled_start_time:%Y-%m-%d %H:%M} UTC"


def _sync_dataverse(  # noqa: PLR0913 - the form that starts a run has one field for each
    *,
    credentials: Annotated[
        str | None,
        Field(
            title="Credentials block",
            description="Name of a Dataverse Credentials block; empty for the settings of the worker's environment.",
        ),
    ] = None,
    database: Annotated[
        str | None,
        Field(
            title="Database block",
            description="Name of a Dataverse Sync Database block; empty for the settings of the worker's environment.",
        ),
    ] = None,
    entities: Annotated[
        list[str] | None, Field(title="Entities", description="Logical names such as vin_candidate; empty for all.")
    ] = None,
    entities_file: Annotated[
        str | None,
        Field(
            title="Entities file", description="JSON file that names the tables to copy; empty for the package's own."
        ),
    ] = None,
    page_size: Annotated[
        int,
        Field(title="Page size", description="Rows asked per page; 5000 is the server's own limit.", ge=1, le=5_000),
    ] = 5_000,
    concurrency: Annotated[
        int, Field(title="Concurrency", description="Entities read at once.", ge=1, le=MOST_AT_ONCE)
    ] = workflow.ENTITIES_AT_ONCE,
) -> State[Any]:
    """Bring the SQL copy of a Dataverse environment up to date, keeping the history of every record.

    Returns:
        Completed with the ``RunReport``, or Failed with an error that names what failed; a plain call returns the
        report or raises that error.
    """
    order = Order(
        workflow.new_run_id(),
        credentials=credentials,
        database=database,
        entities_file=entities_file,
        entities=None if entities is None else tuple(entities),
        page_size=page_size,
    )
    with complete_records(), core_logs():
        try:
            return end_state(_run(order, concurrency))
        except SyncError as exc:
            return refused(exc)


sync_dataverse = StandaloneFlow(
    _sync_dataverse,
    name="sync-dataverse",
    flow_run_name=_run_name,
    task_runner=RUNNER,  # type: ignore[arg-type]  # its futures are a subclass, and TaskRunner is invariant
)


def _run(order: Order, concurrency: int) -> RunReport:
    """The steps in their order."""
    entities = order.load_entities()
    with _held(order):
        notes, requests = tasks.validate_schema(order)
        reports = [report for tier in workflow.tiers(entities) for report in _sync_tier(order, tier, concurrency)]
    return workflow.fold(order.run_id, reports, requests=requests, notes=notes)


@contextmanager
def _held(order: Order) -> Iterator[None]:
    """Hold the database for the whole run, once the login is proven.

    Tasks in this process share one client meanwhile.
    """
    config = order.load_config()
    with shared_client(config) as client:
        organisation = tasks.authenticate(order)
        with workflow.held(Run(order.run_id, client, Database(config), organisation)):
            yield


def _sync_tier(order: Order, tier: Sequence[EntityConfig], concurrency: int) -> list[EntityReport]:
    """All entities of a tier, so many at once; their reports in the tier's order, failed ones among them (law 9)."""
    waiting = list(reversed(tier))
    running: dict[PrefectFuture[Any], EntityConfig] = {}
    reports: dict[str, EntityReport] = {}
    while waiting or running:
        while waiting and len(running) < concurrency:
            entity = waiting.pop()
            running[tasks.sync_entity.submit(entity.name, order)] = entity
        done = next(as_completed(list(running)))
        entity = running.pop(done)
        reports[entity.name] = _report(entity, done)
    return [reports[entity.name] for entity in tier]


def _report(entity: EntityConfig, future: PrefectFuture[Any]) -> EntityReport:
    result = future.result(raise_on_failure=False)
    return workflow.failed(entity, result) if isinstance(result, BaseException) else result


if __name__ == "__main__":
    from flows.command import main

    sys.exit(main(sync_dataverse))
