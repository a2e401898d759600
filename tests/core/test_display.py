"""Tables in terminals of any width, and in files: names stay whole."""

from io import StringIO

import pytest
from msgspec.structs import replace
from rich.console import Console, RenderableType

from igh_sync_core.cli.display import plan_table, summary_table
from igh_sync_core.inspection.forecast import Forecast, Outlook
from igh_sync_core.preparation.drift import Verdict
from igh_sync_core.report import EntityReport, RunReport

NAMES = ("vin_vin_clinicaltrial_account_collaborator", "vin_disease")
REPORT = RunReport(
    run_id="1",
    requests=7,
    entities=tuple(
        EntityReport(entity=name, table=f"{name}s", strategy="modifiedon", added=12345, unchanged=3) for name in NAMES
    ),
)
OUTLOOK = Outlook(
    entities=tuple(
        Forecast(entity=name, table=f"{name}s", strategy="modifiedon", read="increment", rows=5, requests=1)
        for name in NAMES
    ),
    verdict=Verdict(()),
)
BOTH = pytest.mark.parametrize("table", [summary_table(REPORT), plan_table(OUTLOOK)], ids=["report", "plan"])


def shown(table: RenderableType, *, width: int, is_terminal: bool) -> list[str]:
    stream = StringIO()
    console = Console(file=stream, width=width, force_terminal=is_terminal, color_system=None, soft_wrap=True)
    console.print(table)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def line_of(name: str, lines: list[str]) -> str:
    (line,) = [line for line in lines if line.split()[:1] == [name]]
    return line


@BOTH
@pytest.mark.parametrize("width", [20, 40, 80])
def test_in_a_file_every_column_is_there_whatever_the_width(table: RenderableType, width: int) -> None:
    lines = shown(table, width=width, is_terminal=False)

    assert lines == shown(table, width=200, is_terminal=True)
    assert all(len(line_of(name, lines).split()) == len(line_of("entity", lines).split()) for name in NAMES)


@BOTH
@pytest.mark.parametrize("width", [45, 60, 80, 100])
def test_on_a_terminal_names_stay_whole_and_lines_fit(table: RenderableType, width: int) -> None:
    lines = shown(table, width=width, is_terminal=True)
    about = [line_of(name, lines) for name in ("entity", *NAMES, "total")]

    assert max(map(len, about)) <= width


@BOTH
def test_a_name_wider_than_the_terminal_runs_over(table: RenderableType) -> None:
    lines = shown(table, width=20, is_terminal=True)

    assert line_of(NAMES[0], lines) == NAMES[0]


def test_a_plan_counts_the_requests_that_come_before_the_tables() -> None:
    lines = shown(plan_table(replace(OUTLOOK, requests=40)), width=200, is_terminal=False)

    assert line_of("total", lines).split() == ["total", "10", "42+", "0"]
    assert "before the tables: 40 requests, for the environment and its metadata" in lines


def test_what_matters_least_goes_first() -> None:
    table = summary_table(REPORT)
    heads = [line_of("entity", shown(table, width=width, is_terminal=True)).split() for width in (92, 83, 73, 55)]

    assert heads == [
        ["entity", "strategy", "added", "updated", "closed", "unchanged"],
        ["entity", "strategy", "added", "updated", "closed"],
        ["entity", "added", "updated", "closed"],
        ["entity", "added"],
    ]
