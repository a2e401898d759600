"""The benchmark's tables for people."""

from collections.abc import Iterable, Sequence

from rich.table import Table

from .cases import Measurement, Outcome
from .ratios import Ratio

HEADS = ("rows", "seconds", "CPU s", "source CPU s", "rows/s", "requests", "received MB", "peak MB", "database MB")


def measurements_table(outcomes: Iterable[Outcome]) -> Table:
    """One line per workload of each case."""
    table = Table(
        "case", "workload", title="peak MB: process memory beyond what its imports take", title_justify="left"
    )
    for head in HEADS:
        table.add_column(head, justify="right")
    for outcome in outcomes:
        for measured in outcome.measurements:
            table.add_row(str(outcome.case), measured.workload, *_cells(measured))
        if outcome.error:
            table.add_row(str(outcome.case), f"failed: {outcome.error.splitlines()[-1]}", style="red")
        table.add_section()
    return table


def ratios_table(ratios: Sequence[Ratio]) -> Table:
    """One line per ratio, with its verdict."""
    table = Table("ratio", "where")
    for head in ("value", "target", "reached"):
        table.add_column(head, justify="right")
    for ratio in ratios:
        sign = "≥" if ratio.is_floor else "≤"
        verdict = "[green]yes" if ratio.is_reached else "[red]no"
        table.add_row(ratio.claim, ratio.where, f"{ratio.value:.3g}", f"{sign} {ratio.target:g}", verdict)
    return table


def _cells(measured: Measurement) -> list[str]:
    return [
        f"{measured.counts['rows']:,}",
        f"{measured.seconds:,.3f}",
        f"{measured.cpu_s:,.2f}",
        f"{measured.source_cpu_s:,.2f}",
        f"{measured.rows_per_s:,.0f}",
        f"{measured.requests:,}",
        f"{measured.received_mb:,.1f}",
        f"{measured.peak_mb:,.0f}",
        f"{measured.database_mb:,.1f}",
    ]
