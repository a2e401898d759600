"""The steps of a run as Prefect tasks: each opens its own connections, calls the core and tells how it ended.

Tasks take plain values only (see ``order``), so nothing is hashed, cached or persisted. A failure the core expects
becomes a Failed state with one clear line; Prefect tries again where the error says that this may help, since HTTP
faults were retried before, by the client.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from prefect import State, Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.states import Failed

from flows.logs import core_logs
from flows.order import Order
from igh_sync_core import workflow
from igh_sync_core.errors import SyncError
from igh_sync_core.model import Organisation
from igh_sync_core.report import EntityReport
from igh_sync_core.sharing import shared_client

P = ParamSpec("P")
R = TypeVar("R")


def is_retryable(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether the same task may succeed later: a lost database or a source that stays away, never a wrong setting."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, SyncError) and error.retryable


def _step(*, name: str, task_run_name: str | None = None) -> Callable[[Callable[P, R]], Task[P, R]]:
    """A task as all steps are: tried again where that may help, never cached."""
    return task(
        name=name,
        task_run_name=task_run_name,
        retries=3,
        retry_delay_seconds=[5, 20, 60],
        retry_jitter_factor=0.5,
        retry_condition_fn=is_retryable,
        cache_policy=NO_CACHE,
    )


@_step(name="authenticate")
def authenticate(order: Order) -> Organisation:
    """Prove the login and ask who the environment is; no token leaves this task."""
    return _told(lambda: _authenticate(order))


@_step(name="validate schema")
def validate_schema(order: Order) -> tuple[tuple[str, ...], int]:
    """Learn the metadata and make the tables that are missing."""
    return _told(lambda: _validate(order))


@_step(name="sync entity", task_run_name="sync {entity}")
def sync_entity(entity: str, order: Order) -> EntityReport:
    """Bring one table up to date; another try goes on at the last stored page."""
    return _told(lambda: _sync(entity, order))


def _authenticate(order: Order) -> Organisation:
    with shared_client(order.load_config()) as client:
        return workflow.authenticate(client)


def _validate(order: Order) -> tuple[tuple[str, ...], int]:
    with workflow.attached(order.load_config(), order.run_id) as run:
        return workflow.prepare(run, order.load_entities())


def _sync(entity: str, order: Order) -> EntityReport:
    with workflow.attached(order.load_config(), order.run_id, options=Options(page_size=order.page_size)) as run:
        return workflow.sync_one(run, order.load_entity(entity))


def _told(step: Callable[[], R]) -> R:
    """The step's result, or a state that says in one line why there is none; the unexpected keeps its traceback."""
    with core_logs():
        try:
            return step()
        except SyncError as exc:
            return cast("R", Failed(message=str(exc), data=exc))  # Prefect takes a state in place of a result
