"""The flow: keeps a SQL copy of Microsoft Dataverse, with history. A table of contents; the work is in the core.

python -m flows.sync_dataverse              sync what the environment's settings name
python -m flows.sync_dataverse --sandbox    try it on a Dataverse of its own
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from prefect import State, runtime
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows import tasks
from flows.artifacts import RunProgress, show_notes, show_references, show_run, show_verdict
from flows.events import announce_dangling, announce_drift
from flows.limits import request_pace
from flows.logs import core_logs, tell_refusals_briefly
from flows.order import Order
from flows.outcome import end_state, refused
from flows.standalone import StandaloneFlow, complete_records
from flows.tiers import Tiers
from igh_sync_core import workflow
from igh_sync_core.config import Config
from igh_sync_core.errors import SyncError
from igh_sync_core.related.references import Findings, with_findings
from igh_sync_core.report import RunReport
from igh_sync_core.sync.options import ENTITIES_AT_ONCE
from igh_sync_core.sync.run import Run
from igh_sync_core.sync.sharing import shared_client, shared_database
from igh_sync_core.webapi.odata import MAX_PAGE_SIZE

MOST_AT_ONCE = 16
NAMED_AT_MOST = 3
RUNNER: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=MOST_AT_ONCE)


def _run_name() -> str:
    """What is synced how, and when: ``sync of all entities, 2026-01-31 02:00 UTC``."""
    asked: dict[str, Any] = runtime.flow_run.parameters
    chosen = asked.get("entities")
    what = f"{len(chosen)} entities" if chosen else "all entities"
    if chosen and len(chosen) <= NAMED_AT_MOST:
        what = ", ".join(chosen)
    mode = "reconcile" if asked.get("reconcile") else "sync"
    return f"{mode} of {what}, {runtime.flow_run.scheduled_start_time:%Y-%m-%d %H:%M} UTC"


def _sync_dataverse(  # noqa: PLR0913 - the form that starts a run has one field for each
    *,
    credentials: str = "",
    database: str = "",
    entities: tuple[str, ...] = (),
    entities_file: str = "",
    verify_references: bool = False,
    reference_tolerance: Annotated[int, Field(ge=0)] = 0,
    reconcile: bool = False,
    page_size: Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE)] = MAX_PAGE_SIZE,
    concurrency: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)] = ENTITIES_AT_ONCE,
) -> State[Any]:
    """Bring the SQL copy of a Dataverse environment up to date, keeping the history of every record.

    Args:
        credentials: Name of a Dataverse Credentials block; empty for the settings of the worker's environment.
        database: Name of a Dataverse Sync Database block; empty for the settings of the worker's environment.
        entities: Logical names or entity sets of the tables to copy, such as vin_candidate; empty for all.
        entities_file: Path of a JSON file that names the tables to copy; empty for the package's own selection.
        verify_references: Check afterwards that every lookup finds its record.
        reference_tolerance: Dangling references up to which the run still succeeds.
        reconcile: Compare keys and versions of every record with the source, and repair what differs.
        page_size: Rows asked per page; 5000 at most.
        concurrency: Entities read at once, 16 at most.

    Returns:
        Completed with the ``RunReport``, or Failed with an error that names what failed; a plain call returns the
        report or raises that error.
    """
    order = Order(
        workflow.new_run_id(),
        credentials=credentials,
        database=database,
        entities=entities,
        entities_file=entities_file,
        verify_references=verify_references,
        reference_tolerance=reference_tolerance,
        reconcile=reconcile,
        page_size=page_size,
        concurrency=concurrency,
    )
    tell_refusals_briefly()
    with complete_records(), core_logs():
        try:
            return end_state(_run(order))
        except SyncError as exc:
            return refused(exc)


sync_dataverse = StandaloneFlow(
    _sync_dataverse,
    name="sync-dataverse",
    description="Bring the SQL copy of a Dataverse environment up to date, keeping the history of every record.",
    flow_run_name=_run_name,
    task_runner=RUNNER,  # type: ignore[arg-type]  # its futures are a subclass, and TaskRunner is invariant
)


def _run(order: Order) -> RunReport:
    """The steps in their order."""
    config, entities = order.load()
    with _held(order, config) as run:
        notes, requests, verdict = tasks.validate_schema.submit(order).result()
        show_verdict(verdict)
        announce_drift(verdict, config.origin)
        with RunProgress(len(entities)) as progress:
            reports = Tiers(order, run, progress).sync(entities)
        findings = _verified(order, run) if order.verify_references else Findings()
    show_notes(notes)
    report = workflow.fold(order.run_id, reports, requests=requests, notes=notes, verdict=verdict)
    report = with_findings(report, findings, tolerance=order.reference_tolerance)
    show_run(report)
    workflow.conclude(report)
    return report


@contextmanager
def _held(order: Order, config: Config) -> Iterator[Run]:
    """Hold the database for the whole run, once the login is proven; tasks of this process share what is opened."""
    with shared_client(config, pace=request_pace) as client, shared_database(config) as database:
        with client.interruptible():
            organisation = tasks.authenticate.submit(order).result()
        run = Run(order.run_id, client, database, organisation)
        with workflow.held(run), client.interruptible():
            yield run


def _verified(order: Order, run: Run) -> Findings:
    findings = tasks.verify_references.submit(order).result()
    show_references(findings, workflow.kept_specs(run, order.load_entities()))
    announce_dangling(findings, run.client.config.origin)
    return findings


if __name__ == "__main__":
    from flows.command import main

    sys.exit(main(sync_dataverse))
