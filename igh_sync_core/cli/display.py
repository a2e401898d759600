"""How results look in a terminal: tables and progress made with rich. Prints nothing itself."""

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from igh_sync_core.cli.sheet import Column, Row, Sheet
from igh_sync_core.inspection.doctor import Check, Status
from igh_sync_core.inspection.forecast import Forecast, Outlook
from igh_sync_core.preparation.drift import Severity, Verdict
from igh_sync_core.report import EntityReport, RunReport
from igh_sync_core.sync import run

_STYLES = {"completed": "", "failed": "bold red", "skipped": "dim"}
_SEVERITIES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: ""}
_COMPLETE = {"first", "snapshot"}
_STATUSES = {Status.OK: "green", Status.WARNING: "yellow", Status.FAILED: "bold red"}


def summary_table(report: RunReport) -> RenderableType:
    """One line per entity, and the totals; below it, why entities failed or were skipped."""
    columns = (
        Column("entity", "total"),
        Column("strategy", gives_way=4),
        Column("added", str(report.total("added")), is_number=True, gives_way=1),
        Column("updated", str(report.total("updated")), is_number=True, gives_way=2),
        Column("closed", str(report.total("closed")), is_number=True, gives_way=3),
        Column("unchanged", str(report.total("unchanged")), is_number=True, gives_way=5),
        Column("requests", str(report.requests), is_number=True, gives_way=6),
        Column("seconds", is_number=True, gives_way=7),
    )
    rows = [Row(_cells(entity), _STYLES[entity.status]) for entity in report.entities]
    return Group(Text(f"Run {report.run_id}", style="bold"), Sheet(columns, rows), *_remarks(report))


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


def finding_lines(verdict: Verdict) -> Iterator[Text]:
    """One line per finding of a schema check, worst first, and the verdict."""
    for finding in verdict.findings:
        line = f"{finding.severity}: {finding.entity}: {finding.description}"
        yield Text(line, style=_SEVERITIES[finding.severity])
    totals = ", ".join(f"{count} {severity}" for severity, count in verdict.counts().items())
    word, style = ("passed", "") if verdict.passed else ("failed", "bold red")
    yield Text(f"schema check {word}: {totals}", style=style)


def check_line(check: Check) -> Text:
    """One thing a run needs: how it stands, what was found, and the remedy."""
    line = Text(f"{check.status:<8}", style=_STATUSES[check.status])
    remedy = f"; {check.remedy}" if check.remedy else ""
    return line.append(f"{check.name}: {check.text}{remedy}", style="default")


def plan_table(outlook: Outlook) -> RenderableType:
    """One line per entity: how it would be read, what that costs, and the statements its table needs; sums; and why."""
    rows, requests, statements = _plan_totals(outlook)
    columns = (
        Column("entity", "total"),
        Column("strategy", gives_way=1),
        Column("read", gives_way=4),
        Column("rows", rows, is_number=True, gives_way=2),
        Column("requests", requests, is_number=True, gives_way=3),
        Column("statements", statements, is_number=True, gives_way=5),
    )
    sheet = Sheet(columns, [Row(_plan_cells(one)) for one in outlook.entities])
    before = f"before the tables: {outlook.requests} requests, for the environment and its metadata"
    return Group(sheet, Text(before), *_whys(outlook))


def _plan_cells(one: Forecast) -> Sequence[str]:
    return (one.entity, one.strategy or "-", one.read or "-", _rows(one), _requests(one), str(len(one.ddl)))


def _whys(outlook: Outlook) -> Iterator[Text]:
    """Why each is read so, or is not; entities with the same reason share a line."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for one in outlook.entities:
        reasons.setdefault((one.strategy or "not read", one.reason), []).append(one.entity)
    for (strategy, reason), names in reasons.items():
        yield Text.assemble((strategy, "bold"), f": {', '.join(names)}: {reason}")


def _rows(one: Forecast) -> str:
    """``120``; ``0-500`` between bounds, ``?`` where nobody tells, ``changes`` where only those come."""
    if not one.strategy:
        return ""
    if one.rows_at_most is not None:
        return f"{one.rows or 0}-{one.rows_at_most}"
    if one.rows is not None:
        return str(one.rows)
    return "?" if one.read in _COMPLETE else "changes"


def _requests(one: Forecast) -> str:
    """``3``, or ``3+`` where there may be more."""
    return "" if one.requests is None else f"{one.requests}{'' if one.is_whole else '+'}"


def _plan_totals(outlook: Outlook) -> tuple[str, str, str]:
    """Rows between bounds, requests and statements of the whole run, those of no entity included."""
    least = sum(one.rows or 0 for one in outlook.entities)
    most = sum(one.rows_at_most or one.rows or 0 for one in outlook.entities)
    requests = outlook.requests + sum(one.requests or 0 for one in outlook.entities)
    is_whole = all(one.is_whole for one in outlook.entities if one.strategy)
    statements = len(outlook.ddl) + sum(len(one.ddl) for one in outlook.entities)
    rows = str(least) if least == most else f"{least}-{most}"
    return rows, f"{requests}{'' if is_whole else '+'}", str(statements)


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
