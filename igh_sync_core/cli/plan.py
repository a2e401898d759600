"""``sync-dataverse plan``: what a run would do, entity by entity; nothing is written."""

import argparse
import json
from collections.abc import Sequence

from igh_sync_core.cli import common, output
from igh_sync_core.cli.display import finding_lines, plan_table
from igh_sync_core.inspection.dry_run import plan as outlook_of
from igh_sync_core.inspection.forecast import Outlook
from igh_sync_core.webapi.odata import MAX_PAGE_SIZE

_DESCRIPTION = "Show what a run would do, entity by entity; nothing is written."


def plan(argv: Sequence[str]) -> int:
    """Exit status 0, or 1 when a run would set entities aside."""
    arguments = _parser().parse_args(argv)
    if arguments.json:
        output.must_be_open()
    config, entities, hints = common.given(arguments)
    outlook = outlook_of(config, entities, hints=hints, page_size=arguments.page_size)
    if arguments.json:
        output.write_out(json.dumps(outlook.as_dict(), indent=2))
    else:
        _show(outlook, with_ddl=arguments.ddl)
    return 0 if outlook.passed else 1


def _parser() -> argparse.ArgumentParser:
    parser = common.Parser("sync-dataverse plan", description=_DESCRIPTION)
    common.add_settings(parser)
    common.add_hints(parser)
    common.add_selection(parser)
    parser.add_argument(
        "--page-size", type=common.count(MAX_PAGE_SIZE), default=MAX_PAGE_SIZE, metavar="ROWS", help="rows per page"
    )
    parser.add_argument("--ddl", action="store_true", help="show every statement, not only how many there are")
    parser.add_argument("--json", action="store_true", help="print the plan as one JSON object")
    return parser


def _show(outlook: Outlook, *, with_ddl: bool) -> None:
    console = output.Screen()
    console.print(plan_table(outlook))
    for line in finding_lines(outlook.verdict):
        console.print(line)
    for forecast in outlook.entities:
        if forecast.error:
            console.print(f"error: {forecast.error}", style="red", markup=False, highlight=False)
    for note in outlook.notes:
        console.print(f"note: {note}", markup=False)
    if with_ddl:
        for statement in (*outlook.ddl, *(one for forecast in outlook.entities for one in forecast.ddl)):
            console.print(f"{statement};", markup=False, highlight=False)
