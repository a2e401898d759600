"""The steps of a run as Prefect tasks: each opens its own connections, calls the core and tells how it ended.

Tasks take plain values only (see ``order``), so nothing is hashed, cached or persisted. A failure the core expects
becomes a Failed state with one clear line; Prefect tries again where the error says that this may help, since HTTP
faults were retried before, by the client.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypedDict, TypeVar, cast

from prefect import State, Task, task
from prefect.assets import materialize
from prefect.cache_policies import NO_CACHE, CachePolicy
from prefect.client.schemas.objects import TaskRun
from prefect.states import Completed, Failed

from flows.artifacts import EntityProgress
from flows.assets import UNKNOWN, describe_asset
from flows.limits import request_pace
from flows.logs import core_logs
from flows.order import Order
from flows.tries import RelatedFailed, failures, tried
from igh_sync_core import workflow
from igh_sync_core.errors import SyncError, may_pass
from igh_sync_core.inspection.estimate import count_records
from igh_sync_core.model import Organisation
from igh_sync_core.preparation.drift import Verdict
from igh_sync_core.related.references import Findings
from igh_sync_core.report import EntityReport
from igh_sync_core.sync.options import Options, log_report
from igh_sync_core.sync.run import Progress, Run, ignore
from igh_sync_core.sync.sharing import shared_client
from igh_sync_core.sync.tier import sync_one

R = TypeVar("R")


class _Habits(TypedDict):
    retries: int
    retry_delay_seconds: list[float]
    retry_jitter_factor: float
    retry_condition_fn: Callable[[Task[..., Any], TaskRun, State[Any]], bool]
    cache_policy: CachePolicy


def is_retryable(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether the same task may succeed later: a lost database or a source that stays away, never a wrong setting."""
    error = state.result(raise_on_failure=False)
    while isinstance(error, State):  # Prefect 3.8.0 wraps the state that a task gives in another one
        error = error.result(raise_on_failure=False)
    return may_pass(error)


HABITS: Final[_Habits] = {
    "retries": 3,
    "retry_delay_seconds": [5, 20, 60],
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_retryable,
    "cache_policy": NO_CACHE,
}


@task(name="authenticate", task_run_name="authenticate", **HABITS)
def authenticate(order: Order) -> Organisation:
    """Prove the login and ask who the environment is; no token leaves this task."""

    def step() -> Organisation:
        with shared_client(order.load_config(), pace=request_pace) as client:
            return workflow.authenticate(client)

    return _told(step)


@task(name="validate schema", task_run_name="validate schema", **HABITS)
def validate_schema(order: Order) -> tuple[tuple[str, ...], int, Verdict]:
    """Learn the metadata, judge the stored tables against it and make them fit; gives notes, requests and verdict."""

    def step() -> tuple[tuple[str, ...], int, Verdict]:
        with _attached(order) as run:
            notes, requests = workflow.prepare(run, order.load_entities())
            return notes, requests, workflow.verdict_of(run)

    return _told(step)


@materialize(UNKNOWN, by="dataverse", name="sync entity", task_run_name="sync {entity}", **HABITS)
def sync_entity(entity: str, order: Order) -> EntityReport:
    """Bring one table up to date; another try goes on at the last stored page."""

    def step() -> EntityReport:
        with _attached(order, listener=EntityProgress(entity, partial(_count, entity, order))) as run:
            return _noted(sync_one(run, order.load_entity(entity)))

    return _told(step)


@materialize(UNKNOWN, by="dataverse", name="sync related", task_run_name="sync {what}", **HABITS)
def sync_related(what: str, order: Order) -> list[EntityReport]:  # noqa: ARG001 - names the task run
    """Bring the filtered tables up to date, all together, since each may point at records of the others."""

    def step() -> list[EntityReport]:
        with _attached(order) as run:
            return workflow.sync_related_tier(run, order.load_entities())

    return _told(lambda: _with_failures([_noted(report) for report in tried(order.run_id, step)]))


@task(name="verify references", task_run_name="verify references", **HABITS)
def verify_references(order: Order) -> Findings:
    """Look for references that lead nowhere."""

    def step() -> Findings:
        with _attached(order) as run:
            return workflow.verify_references(run, order.load_entities())

    return _told(step)


@contextmanager
def _attached(order: Order, listener: Callable[[Progress], None] = ignore) -> Iterator[Run]:
    options = Options(page_size=order.page_size, reconcile=order.reconcile, listener=listener)
    with workflow.attached(order.load_config(), order.run_id, options=options, pace=request_pace) as run:
        yield run


def _count(entity: str, order: Order) -> int:
    with shared_client(order.load_config()) as client:
        return count_records(client, [entity])[entity]


def _noted(report: EntityReport) -> EntityReport:
    log_report(report)
    describe_asset(report)
    return report


def _with_failures(reports: list[EntityReport]) -> list[EntityReport]:
    """The reports, under a state that tells when some of them are failures.

    Raises:
        RelatedFailed: Another try may help.
    """
    if any(report.retryable for report in reports):
        raise RelatedFailed(reports)
    failed = failures(reports)
    state: State[Any] = Completed(name="PartlyFailed", message=failed, data=reports)
    return cast("list[EntityReport]", state) if failed else reports


def _told(step: Callable[[], R]) -> R:
    """The step's result, or a state that says in one line why there is none; the unexpected keeps its traceback."""
    with core_logs():
        try:
            return step()
        except SyncError as exc:
            return cast("R", Failed(message=str(exc), data=exc))  # Prefect takes a state in place of a result
