"""How results look in a terminal: tables and progress made with rich. Prints nothing itself."""

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from igh_sync_core import sync
from igh_sync_core.report import EntityReport, RunReport

_STYLES = {"completed": "", "failed": "bold red", "skipped": "dim"}


def summary_table(report: RunReport) -> Table:
    """One line per entity, and the totals."""
    table = Table(title=f"Run {report.run_id}", title_justify="left", show_footer=True)
    table.add_column("entity", footer="total", no_wrap=True)
    table.add_column("strategy")
    for count in ("added", "updated", "closed", "unchanged"):
        table.add_column(count, footer=str(report.total(count)), justify="right")
    table.add_column("requests", footer=str(report.requests), justify="right")
    table.add_column("seconds", justify="right")
    table.add_column("", overflow="fold")
    for entity in report.entities:
        table.add_row(*_cells(entity), style=_STYLES[entity.status])
    return table


def _cells(report: EntityReport) -> Sequence[str]:
    if report.status != "completed":
        return (report.entity, report.strategy, *[""] * 6, f"{report.status}: {report.error or report.reason}")
    counts = (report.added, report.updated, report.closed, report.unchanged, report.requests)
    return (report.entity, report.strategy, *map(str, counts), f"{report.seconds:.1f}", "")


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

    def page(self, page: sync.Progress) -> None:
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
