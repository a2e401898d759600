"""Brings the core's log records into the run that they belong to."""

import logging
from contextlib import AbstractContextManager

from prefect import get_run_logger

from igh_sync_core.api import forward_logs


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
