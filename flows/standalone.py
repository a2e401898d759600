"""A flow called as a plain function: Prefect starts a temporary server for it, which must be quiet and lose nothing.

With ``PREFECT_API_URL`` set none of this applies: a lasting server keeps its own log and its records.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from prefect import Flow, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import TaskRun
from prefect.context import FlowRunContext
from prefect.settings import (
    PREFECT_API_DATABASE_CONNECTION_URL,
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    PREFECT_SERVER_LOGGING_LEVEL,
    temporary_settings,
)

from flows.server import ServerUnreachable
from igh_sync_core.webapi.http import check_environment
from igh_sync_core.webapi.proxies import exempt_this_machine

P = ParamSpec("P")
R = TypeVar("R")
RECORDS_LIMIT_S = 15.0
LIBRARIES_LEVEL = "PREFECT_LOGGING_ROOT_LEVEL"
"""Environment variable: from which level on Prefect's processes log what libraries say."""
START_LIMIT_S = 60
"""The first server of a home makes its database: eleven seconds on two idle cores, and Prefect gives it but twenty."""


class StandaloneFlow(Flow[P, R]):
    """A flow whose plain call is as clean as a run on a server."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Flow's own signature
        """Run the flow; see ``Flow.__call__`` and ``quiet_server``."""
        with quiet_server():
            return super().__call__(*args, **kwargs)


@contextmanager
def quiet_server() -> Iterator[None]:
    """While inside, a temporary server prints nothing, and Ctrl-C ends this process alone.

    Its complaints are about its own sudden end; and it must outlive the run that reports to it, or Prefect would wait
    long for one that is gone. It has time to start on a busy machine, too. No proxy stands before it: where the
    environment names one, ``no_proxy`` of this process gets the names of this machine, for good.

    Raises:
        ConfigError: What the environment says of proxies or authorities cannot be used; Prefect could not either.
        ServerUnreachable: The temporary server does not start; says where its files are to be.
    """
    check_environment()
    exempt_this_machine()
    quiet = {
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_SERVER_LOGGING_LEVEL: "CRITICAL",
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: max(
            START_LIMIT_S, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
        ),
    }
    with temporary_settings(quiet):
        if PREFECT_API_URL.value() is None and PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value():
            _start_server()
        yield


def _start_server() -> None:
    """Start the temporary server that Prefect would start, deaf to the interrupts that a terminal sends to all."""
    block = getattr(signal, "pthread_sigmask", None)
    if block is None:  # not on Windows, which has no such masks
        return
    from prefect.server.api.server import SubprocessASGIServer  # noqa: PLC0415 - heavy, and of no use with a server

    _see_to_home()
    before = block(signal.SIG_BLOCK, {signal.SIGINT})  # a child inherits what is blocked
    try:
        with _quiet_libraries():
            SubprocessASGIServer().start()
    except RuntimeError as exc:
        remedy = f"is {PREFECT_HOME.value()} a folder that can be written to? PREFECT_HOME names another"
        msg = f"Prefect's temporary server did not start ({str(exc).rstrip('.')}); {remedy}"
        raise ServerUnreachable(msg) from None
    finally:
        block(signal.SIG_SETMASK, before)


def _see_to_home() -> None:
    """Refuse at once what the server would be waited for a minute in vain: a database where nothing can be written."""
    home, database = Path(PREFECT_HOME.value()), str(PREFECT_API_DATABASE_CONNECTION_URL.value())
    present = next(folder for folder in (home, *home.parents) if folder.exists())
    if str(home) in database and not os.access(present, os.W_OK | os.X_OK):
        remedy = "PREFECT_HOME names another"
        msg = f"Prefect's temporary server needs a folder that it can write to, and {home} is none; {remedy}"
        raise ServerUnreachable(msg)


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Let a process started inside keep to itself what its libraries say, as of a query that its end cut short."""
    if LIBRARIES_LEVEL in os.environ:
        yield
        return
    os.environ[LIBRARIES_LEVEL] = "CRITICAL"
    try:
        yield
    finally:
        del os.environ[LIBRARIES_LEVEL]


@contextmanager
def complete_records() -> Iterator[None]:
    """At the end, wait until a temporary server has on record what became of the tasks of this flow run.

    Task runs reach the server as events, and the server dies with this process.
    """
    try:
        yield
    finally:
        run = FlowRunContext.get()
        if run and run.flow_run and PREFECT_API_URL.value() is None:
            # Prefect counts the runs of each task from 0.
            count = sum(int(last) + 1 for last in run.task_run_dynamic_keys.values())
            if count:
                _await_final(run.flow_run.id, count)


def _await_final(flow_run_id: UUID, count: int) -> None:
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    end = time.monotonic() + RECORDS_LIMIT_S
    with get_client(sync_client=True) as client:
        while time.monotonic() < end:
            runs = _all_pages(lambda offset: client.read_task_runs(flow_run_filter=chosen, limit=200, offset=offset))
            if len(runs) >= count and all(run.state and run.state.is_final() for run in runs):
                return
            time.sleep(0.1)


def _all_pages(read: Callable[[int], list[TaskRun]]) -> list[TaskRun]:
    found: list[TaskRun] = []
    while page := read(len(found)):
        found += page
    return found
