"""How a run ends: a state whose message says it all, and a value or one clear error for a plain caller."""

from typing import Any

from prefect import State
from prefect.states import Completed, Failed

from igh_sync_core.errors import SyncError
from igh_sync_core.report import RunReport


class SyncFailed(SyncError):
    """Some entities failed, or something was found wrong; the others are up to date.

    Attributes:
        report: What happened to each entity; None where the error has crossed into another process as text.
    """

    def __init__(self, message: str, report: RunReport | None = None) -> None:
        super().__init__(message)
        self.report = report


def end_state(report: RunReport) -> State[Any]:
    """Completed with the totals and the report, or Failed with what is wrong, by name."""
    text = report.summary()
    if report.success:
        return Completed(message=text, data=report)
    return Failed(message=text, data=SyncFailed(text, report))


def refused(error: SyncError) -> State[Any]:
    """Failed before any entity was reached: settings, login, metadata, or a database that another run holds."""
    return Failed(message=str(error), data=error)
