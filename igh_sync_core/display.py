"""How results look in a terminal: tables and progress made with rich. Prints nothing itself."""

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from igh_sync_core import run
from igh_sync_core.report import EntityReport, RunReport

_STYLES = {"completed": "", "failed": "bold red", "skipped": "dim"}


def summary_table(report: RunReport) -> RenderableType:
    """One line per entity, and the totals; below it, why entities failed or were skipped. Fits in 80 columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_footer=True)
    table.add_column("entity", footer="total", overflow="fold")
    table.add_column("strategy", no_wrap=True)
    for count in ("added", "updated", "closed", "unchanged"):
        table.add_column(count, footer=str(report.total(count)), justify="right", no_wrap=True)
    table.add_column("requests", footer=str(report.requests), justify="right", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    for entity in report.entities:
        table.add_row(*_cells(entity), style=_STYLES[entity.status])
    return Group(Text(f"Run {report.run_id}", style="bold"), table, *_remarks(report))


def _cells(report: EntityReport) -> Sequence[str]:
    if report.status != "completed":
        return (report.entity, report.status, *[""] * 6)
    counts = (report.added, report.updated, report.closed, report.unchanged, report.requests)
    return (report.entity, report.strategy, *map(str, counts), f"{report.seconds:.1f}")


def _remarks(report: RunReport) -> Iterator[Text]:
    """One line per reason; entities skipped for the same reason share it."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for entity in report.entities:
        if entity.status != "completed":
            reasons.setdefault((entity.status, entity.error or entity.reason), []).append(entity.entity)
    for (status, reason), names in reasons.items():
        yield Text(f"{status}: {', '.join(names)}: {reason}", style=_STYLES[status])


class LiveProgress:
    """A bar over the entities and a line for each one being read.

    Args:
        progress: The display, already started by its owner.
        total: Number of entities.
    """

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._overall = progress.add_task("entities", total=total)
        self._lines: dict[str, TaskID] = {}

    def page(self, page: run.Progress) -> None:
        """A page of one entity was stored."""
        if page.entity not in self._lines:
            self._lines[page.entity] = self._progress.add_task(page.entity, total=None)
        self._progress.update(self._lines[page.entity], completed=page.rows)

    def entity(self, report: EntityReport) -> None:
        """An entity has ended."""
        self._progress.advance(self._overall)
        if report.entity in self._lines:
            self._progress.remove_task(self._lines.pop(report.entity))


def progress_display(console: Console) -> Progress:
    """The live display of a run; it vanishes when the run ends."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, transient=True)
