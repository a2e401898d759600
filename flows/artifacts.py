"""What a run shows in Prefect: progress while it goes, a table and findings when it has ended. Counts only, no rows."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from threading import Event
from typing import Self, cast
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.diagram import relation_diagram
from flows.harmless import harmless
from igh_sync_core.model import TableSpec
from igh_sync_core.preparation.drift import Verdict
from igh_sync_core.related.references import Findings, Unchecked
from igh_sync_core.report import EntityReport, RunReport
from igh_sync_core.sync.run import Progress

LONG_AFTER_PAGES = 4
"""An entity gets a bar of its own when this many pages are stored and more are to come."""
REFRESH_S = 2.0
REST_S = 1.0
"""The bar of the run moves no more often; each move is a request to Prefect's server."""
COUNTS = ("added", "updated", "closed", "unchanged", "requests")
_RANKS = {"failed": 0, "completed": 1, "skipped": 2}


class Bar:
    """One progress artifact; made at its first step.

    Args:
        key: Lower case, digits and dashes; runs of the same key form a history in the UI.
        total: Steps until it is full.
    """

    def __init__(self, key: str, total: int) -> None:
        self._key = key
        self._total = max(total, 1)
        self._artifact: UUID | None = None

    @harmless
    def show(self, done: int, text: str) -> None:
        """Set the bar to *done* steps."""
        percent = min(100.0, round(100 * done / self._total, 1))
        if self._artifact is None:
            self._artifact = cast("UUID", create_progress_artifact(percent, key=self._key, description=text))
        else:
            update_progress_artifact(self._artifact, percent, description=text)


class RunProgress:
    """How many entities of a run have ended; a context manager that leaves when the last of them is shown.

    Shown from a thread of its own: whoever hands out the entities waits for no answer of Prefect's server.

    Args:
        total: Entities of the run.
    """

    def __init__(self, total: int) -> None:
        self._bar = Bar("sync-progress", total)
        self._total = total
        self._done = self._shown = 0
        self._last = ""
        self._closing = Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="progress")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._pool.shutdown()

    def step(self, what: str, steps: int = 1) -> None:
        """So many entities further, with *what* as the last that ended."""
        self._done, self._last = self._done + steps, what
        self._pool.submit(copy_context().run, self._catch_up)

    def _catch_up(self) -> None:
        """Show how far it is by now, then rest; steps that were shown along with an earlier one need nothing more."""
        if self._shown < self._done:
            self._shown = self._done
            last = f"; last: {self._last}" if self._shown < self._total else ""
            self._bar.show(self._shown, f"{self._shown} of {self._total} entities{last}")
            self._closing.wait(REST_S)


class EntityProgress:
    """Listens to the stored pages of one entity, and shows a bar once it proves long.

    Args:
        entity: Logical name.
        count: Asked once, when it proves long: how many records it has. Where it cannot tell, the bar has no total and
            stands still until it is full.
    """

    def __init__(self, entity: str, count: Callable[[], int]) -> None:
        self._key = f"sync-{entity.lower().replace('_', '-')}"
        self._count = count
        self._bar: Bar | None = None
        self._total = 1
        self._pages = 0
        self._shown_at = 0.0

    def __call__(self, page: Progress) -> None:
        """A page was stored."""
        self._pages += 1
        if self._bar is None and (self._pages < LONG_AFTER_PAGES or page.is_done):
            return
        if page.is_done or time.monotonic() - self._shown_at >= REFRESH_S:
            self._shown_at = time.monotonic()
            self._show(page)

    @harmless
    def _show(self, page: Progress) -> None:
        if self._bar is None:
            count = self._record_count()
            self._total = max(count, page.rows + 1) if count else 0
            self._bar = Bar(self._key, self._total)
        if not self._total:
            self._bar.show(int(page.is_done), f"{page.entity}: {page.rows:,} records")
            return
        done = self._total if page.is_done else min(page.rows, self._total - 1)
        self._bar.show(done, f"{page.entity}: {page.rows:,} of about {self._total:,} records")

    @harmless
    def _record_count(self) -> int:
        return self._count()


@harmless
def show_run(report: RunReport) -> None:
    """The table of a run, one line per entity; what failed and what changed most comes first, for the UI shows ten.

    How each ended is told only where not all ended well: the UI has no room for more columns than the counts.
    """
    order = sorted(report.entities, key=lambda one: (_RANKS[one.status], -(one.added + one.updated + one.closed)))
    ended = Counter(one.status for one in report.entities)
    text = ", ".join(f"{count} {status}" for status, count in ended.items())
    line = _line if ended.keys() == {"completed"} else _line_with_end
    create_table_artifact([line(entity) for entity in order], key="sync-report", description=f"Entities: {text}")


@harmless
def show_notes(notes: Sequence[str]) -> None:
    """What people should know of the run beyond its counts and checks, if anything."""
    if notes:
        text = "\n".join(f"- {_escape(note)}" for note in notes)
        create_markdown_artifact(text, key="sync-notes", description="Worth knowing, though nothing failed")


@harmless
def show_verdict(verdict: Verdict) -> None:
    """What the schema check found."""
    create_markdown_artifact(verdict.as_markdown(), key="schema-check", description="Stored tables against metadata")


@harmless
def show_references(findings: Findings, specs: Sequence[TableSpec]) -> None:
    """What the verification found, and a picture of who points at whom."""
    text = "\n".join(_reference_lines(findings, specs))
    create_markdown_artifact(text, key="reference-check", description="References between the copied tables")


def _reference_lines(findings: Findings, specs: Sequence[TableSpec]) -> Iterator[str]:
    verdict = f"{findings.dangling_count:,} lead nowhere" if findings.dangling else "all lead to a record"
    yield f"# Reference check: {verdict}\n"
    yield f"{findings.references:,} references in {findings.relations} relations were checked.\n"
    if findings.dangling:
        rows = [
            (f.table, f.fk_column, f.referenced_table, f"{f.dangling_count:,}", f"{f.total_checked:,}")
            for f in findings.dangling
        ]
        yield from _markdown_table(("table", "column", "points at", "dangling", "checked"), rows)
    yield f"\n## Relations\n\n```mermaid\n{relation_diagram(specs, findings)}\n```\n"
    if findings.unchecked:
        yield "\n## Not checked, since not copied\n"
        yield from _markdown_table(("points at", "references", "from columns"), _by_target(findings.unchecked))


def _by_target(unchecked: Iterable[Unchecked]) -> Iterator[tuple[str, str, int]]:
    references: Counter[str] = Counter()
    columns: Counter[str] = Counter()
    for one in unchecked:
        target = ", ".join(one.targets) or "unknown"
        references[target] += one.count
        columns[target] += 1
    for target, count in references.most_common():
        yield target, f"{count:,}", columns[target]


def _markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(_escape(str(cell)) for cell in row)} |"


def _line(report: EntityReport) -> dict[str, object]:
    counts = {name: getattr(report, name) for name in COUNTS}
    return {"entity": report.entity, "strategy": report.strategy, **counts, "seconds": round(report.seconds, 1)}


def _line_with_end(report: EntityReport) -> dict[str, object]:
    remark = report.error or report.reason if report.status != "completed" else ""
    return {"entity": report.entity, "status": report.status, **_line(report), "remark": remark}


def _escape(text: str) -> str:
    """Plain text in a place that understands Markdown."""
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#" else sign for sign in text)
