"""``sync-dataverse``: one run, and the questions around it: ``plan``, ``doctor``, ``explain``."""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.logging import RichHandler

from igh_sync_core.cli import common, output
from igh_sync_core.cli.display import LiveProgress, progress_display, summary_table
from igh_sync_core.cli.doctor import doctor
from igh_sync_core.cli.explain import explain
from igh_sync_core.cli.plan import plan
from igh_sync_core.errors import Interrupted
from igh_sync_core.report import RunReport
from igh_sync_core.sync.options import ENTITIES_AT_ONCE, Options
from igh_sync_core.webapi.odata import MAX_PAGE_SIZE
from igh_sync_core.webapi.pacing import MAX_WIDTH
from igh_sync_core.workflow import OUTCOME, run_workflow

_DESCRIPTION = "Bring the SQL copy of a Dataverse up to date, with history."
_QUESTIONS: dict[str, Callable[[Sequence[str]], int]] = {"plan": plan, "doctor": doctor, "explain": explain}
_EPILOG = (
    "Questions, each with a --help of its own: 'sync-dataverse plan' (what would a run do?), "
    "'sync-dataverse doctor' (is everything in order?), 'sync-dataverse explain TABLE ID' (why is this record here?). "
    "Exit status: 0 when all went well, 1 when anything failed or was found wrong."
)


def sync_dataverse(argv: Sequence[str] | None = None) -> int:
    """Entry point; exit status 0 when all went well, 1 when anything failed or was found wrong."""
    given = sys.argv[1:] if argv is None else list(argv)
    if given and given[0] in _QUESTIONS:
        return common.run_command(lambda: _QUESTIONS[given[0]](given[1:]))
    return common.run_command(lambda: _sync(_parser().parse_args(given)), interrupted=str(Interrupted()))


def _parser() -> argparse.ArgumentParser:
    parser = common.Parser("sync-dataverse", description=_DESCRIPTION, epilog=_EPILOG)
    common.add_settings(parser)
    common.add_hints(parser)
    common.add_selection(parser)
    parser.add_argument("--verify", action="store_true", help="check every reference afterwards")
    parser.add_argument(
        "--reconcile", action="store_true", help="compare every key and version with Dataverse, and repair"
    )
    parser.add_argument(
        "--page-size",
        type=common.count(MAX_PAGE_SIZE),
        default=MAX_PAGE_SIZE,
        metavar="ROWS",
        help=f"rows asked per page (default: {MAX_PAGE_SIZE})",
    )
    parser.add_argument(
        "--concurrency",
        type=common.count(MAX_WIDTH),  # each of them has a request under way
        default=ENTITIES_AT_ONCE,
        metavar="N",
        help=f"tables read at once (default: {ENTITIES_AT_ONCE})",
    )
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    return parser


def _sync(arguments: argparse.Namespace) -> int:
    if arguments.json:
        output.must_be_open()
    config, entities, hints = common.given(arguments)
    with _display(Console(stderr=True), len(entities)) as display:
        options = Options(
            page_size=arguments.page_size,
            concurrency=arguments.concurrency,
            optionsets=hints,
            verify_references=arguments.verify,
            reconcile=arguments.reconcile,
            **display,
        )
        report = run_workflow(config, entities, options)
    if arguments.json:
        output.write_out(json.dumps(report.as_dict(), indent=2))
    else:
        _show(report)
    return 0 if report.success else 1


@contextmanager
def _display(console: Console, total: int) -> Iterator[dict[str, Any]]:
    """Live bars on a terminal, plain lines in a log; gives the listeners that feed them."""
    handler = (
        RichHandler(console=console, show_path=False, show_time=False) if console.is_terminal else _plain_handler()
    )
    # What the run ends with is printed below its table.
    handler.addFilter(lambda record: record.name != OUTCOME)
    core = logging.getLogger("igh_sync_core")
    core.addHandler(handler)
    core.setLevel(logging.WARNING if console.is_terminal else logging.INFO)
    try:
        if not console.is_terminal:
            yield {}
            return
        with progress_display(console) as progress:
            live = LiveProgress(progress, total)
            yield {"listener": live.page, "on_report": live.entity}
    finally:
        core.removeHandler(handler)
        core.setLevel(logging.NOTSET)


def _plain_handler() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    return handler


def _show(report: RunReport) -> None:
    console = output.Screen()
    console.print(summary_table(report))
    for is_bad, line in report.outcome():
        console.print(line, style="red" if is_bad else "", markup=False, highlight=False)
    console.print(report.summary(), style="" if report.success else "bold red", markup=False, highlight=False)
