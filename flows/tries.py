"""The tries that Prefect makes of one run's related tables: one report of each table tells of all of them."""

from collections.abc import Callable, Iterable
from functools import lru_cache

from igh_sync_core.errors import SyncError
from igh_sync_core.report import EntityReport
from igh_sync_core.sync.course import ended_by


class RelatedFailed(SyncError):
    """Some related tables failed, for a reason that may pass.

    Attributes:
        reports: What happened to each table, in all tries so far.
    """

    retryable = True

    def __init__(self, reports: list[EntityReport]) -> None:
        super().__init__(failures(reports))
        self.reports = reports

    def __reduce__(self) -> tuple[type["RelatedFailed"], tuple[list[EntityReport]]]:
        return type(self), (self.reports,)


def failures(reports: Iterable[EntityReport]) -> str:
    """Which tables failed, and why; "" where none did."""
    return "; ".join(f"{one.entity}: {one.error}" for one in reports if one.status == "failed")


def tried(run_id: str, work: Callable[[], list[EntityReport]]) -> list[EntityReport]:
    """What one try gives, with what those before it did; one that does not even begin leaves that standing.

    Raises:
        SyncError: It did not begin, and none did before it or none will.
    """
    before = _before(run_id)
    try:
        # The entities file may have gained a table meanwhile.
        reports = [one.after(before[one.entity]) if one.entity in before else one for one in work()]
    except SyncError as exc:
        if not (before and exc.retryable):
            raise
        # Only what was to be tried again has failed once more, and for this reason.
        reports = [ended_by(exc, one) if one.retryable else one for one in before.values()]
    before.update({one.entity: one for one in reports})
    return reports


@lru_cache(maxsize=4)
def _before(_run_id: str) -> dict[str, EntityReport]:
    """By entity; Prefect makes all tries of a task in one process."""
    return {}
