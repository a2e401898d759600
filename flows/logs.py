"""Brings the core's log records into the run that they belong to."""

import logging
from contextlib import AbstractContextManager

from prefect import get_run_logger
from prefect.context import FlowRunContext

from igh_sync_core.api import forward_logs
from igh_sync_core.errors import SyncError


class _RunLog(logging.Logger):
    """Stands for the logger of the Prefect run it was made in, also in threads that know of no run."""

    def __init__(self) -> None:
        super().__init__("igh_sync_core.run", logging.INFO)
        self._run = get_run_logger()

    def handle(self, record: logging.LogRecord) -> None:
        """Write *record* into the run's log."""
        self._run.log(record.levelno, record.getMessage(), exc_info=record.exc_info)


def core_logs() -> AbstractContextManager[None]:
    """While inside, what the core logs in this flow or task, its threads included, stands in the run's log."""
    return forward_logs(_RunLog())


class _Refusals(logging.Filter):
    """Makes one line of the end of a run that Prefect's engine would tell with a traceback of its own inside.

    Attributes:
        run: Id of the flow run; a flow that calls this one keeps the traceback of its own failure.
    """

    run = ""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let everything pass; what the core expects loses its traceback."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, SyncError) and getattr(record, "flow_run_id", None) == self.run:
            record.msg, record.args, record.exc_info = str(error), (), None
        return True


_REFUSALS = _Refusals()


def tell_refusals_briefly() -> None:
    """From now on, what this flow run expects to go wrong is one line in its log; the engine logs it after the flow."""
    if (context := FlowRunContext.get()) and context.flow_run:
        _REFUSALS.run = str(context.flow_run.id)
        logging.getLogger("prefect.flow_runs").addFilter(_REFUSALS)  # a second time changes nothing
