"""``python -m flows.sync_dataverse``: one run in this process, or a demonstration on a Dataverse of its own."""

import argparse
import logging
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console

from flows.outcome import SyncFailed
from flows.saving import save_blocks
from flows.server import answering_server
from igh_sync_core.cli import common
from igh_sync_core.cli.display import summary_table
from igh_sync_core.config import load_config
from igh_sync_core.errors import Interrupted, SyncError
from igh_sync_core.webapi.http import check_environment
from igh_sync_core.webapi.proxies import exempt_this_machine

DEMONSTRATION_ROWS = 2_000
LEAST_ROWS, MOST_ROWS = 100, 10_000_000
"""With fewer there are not enough records in one table to change, with more it would take hours."""


def main(flow: Callable[..., Any], arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when all went well, 1 with one line on the error stream when not, 130 interrupted."""
    common.spell_what_encodings_lack()
    console = Console(soft_wrap=True)
    try:
        options = vars(_parser().parse_args(arguments))
        # Prefect's own handling, while the flow runs, passes the signal on to this one.
        with common.heeding_termination(), answering_server():
            _do(flow, options, console)
    except SyncFailed as exc:
        if exc.report:
            console.print(summary_table(exc.report))
        return 1
    except KeyboardInterrupt:
        Console(stderr=True).print(str(Interrupted()), markup=False, highlight=False, soft_wrap=True)
        return common.INTERRUPTED
    except SyncError as exc:
        Console(stderr=True).print(str(exc), style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    return 0


def _do(flow: Callable[..., Any], options: dict[str, Any], console: Console) -> None:
    check_environment()
    exempt_this_machine()  # the sandbox is on it, and often Prefect's server
    sandbox, rows, block = options.pop("sandbox"), options.pop("rows"), options.pop("save_blocks")
    if sandbox:
        from flows.demonstration import demonstrate  # noqa: PLC0415 - the sandbox is loaded only on demand

        _be_brief()
        demonstrate(flow, rows=rows, console=console)
    elif block is not None:
        save_blocks(load_config(), block)
        console.print(f"saved: dataverse-credentials/{block} and sync-database/{block}")
    else:
        console.print(summary_table(flow(**options)))


def _parser() -> argparse.ArgumentParser:
    parser = common.Parser(prog="python -m flows.sync_dataverse", description=__doc__)
    parser.add_argument("--sandbox", action="store_true", help="run twice against a Dataverse made for it")
    rows = common.count(MOST_ROWS, least=LEAST_ROWS)
    parser.add_argument("--rows", type=rows, default=DEMONSTRATION_ROWS, help="records of that Dataverse (%(default)s)")
    parser.add_argument("--save-blocks", metavar="NAME", help="only save the settings as blocks of this name")
    parser.add_argument(
        "--credentials", metavar="BLOCK", default="", help="Dataverse Credentials block; else DATAVERSE_* settings"
    )
    parser.add_argument(
        "--database", metavar="BLOCK", default="", help="Dataverse Sync Database block; else the settings"
    )
    parser.add_argument("--entities", nargs="+", metavar="NAME", default=(), help="only these of the tables")
    parser.add_argument("--entities-file", metavar="FILE", default="", help="JSON file that names the tables to copy")
    parser.add_argument("--verify-references", action="store_true", help="check every reference afterwards")
    parser.add_argument("--reconcile", action="store_true", help="compare every key and version, repair what differs")
    return parser


def _be_brief() -> None:
    """Show Prefect's warnings only; the demonstration tells its own story. The run's log keeps every line."""
    for name in ("", "prefect", "prefect.flow_runs", "prefect.task_runs"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setLevel(logging.WARNING)
