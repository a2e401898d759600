"""How a run is done: everything about it that is neither a setting of the environment nor a table to copy."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from igh_sync_core.config import Config
from igh_sync_core.report import EntityReport
from igh_sync_core.sync.run import Progress, ignore
from igh_sync_core.webapi.client import Client
from igh_sync_core.webapi.odata import MAX_PAGE_SIZE

ENTITIES_AT_ONCE = 5
"""One more than the requests at once that environments usually recommend: it writes while the others wait."""

log = logging.getLogger(__name__)


def log_report(report: EntityReport) -> None:
    """One line per entity that has ended."""
    if report.status == "completed":
        counts = f"{report.added:,} added, {report.updated:,} updated, {report.closed:,} closed"
        log.info("%s: %s (%s, %.1f s)", report.entity, counts, report.strategy, report.seconds)
    else:
        level = logging.ERROR if report.status == "failed" else logging.WARNING
        log.log(level, "%s %s: %s", report.entity, report.status, report.error or report.reason)


@dataclass(frozen=True)
class Options:
    """How a run is done.

    Attributes:
        page_size: Rows asked per page, 1 to ``MAX_PAGE_SIZE``.
        concurrency: Entities read at once.
        listener: Told of every stored page.
        on_report: Given each entity's report when it has ended.
        optionsets: Choice columns per entity, for where definitions may not be read.
        verify_references: Whether to check every reference at the end.
        reference_tolerance: Dangling references in all up to which the run still counts as successful.
        reconcile: Whether to sweep keys and versions of every entity and repair what differs.
        connect: Opens the wire; another one than HTTPS serves tests and experiments.
    """

    page_size: int = MAX_PAGE_SIZE
    concurrency: int = ENTITIES_AT_ONCE
    optionsets: Mapping[str, Sequence[str]] | None = None
    verify_references: bool = False
    reference_tolerance: int = 0
    reconcile: bool = False
    connect: Callable[[Config], Client] = Client
    listener: Callable[[Progress], None] = ignore
    on_report: Callable[[EntityReport], None] = log_report
