"""``python -m flows.sync_dataverse``: one run in this process, or a demonstration on a Dataverse of its own."""

import argparse
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Console

from flows.outcome import SyncFailed
from flows.saving import save_blocks
from flows.server import answering_server
from igh_sync_core.cli import common, output
from igh_sync_core.cli.display import summary_table
from igh_sync_core.config import load_config
from igh_sync_core.errors import Interrupted, SyncError

DEMONSTRATION_ROWS = 2_000
LEAST_ROWS, MOST_ROWS = 100, 10_000_000
"""With fewer there are not enough records in one table to change, with more it would take hours."""
_MODES = {"sandbox": {"rows"}, "save_blocks": set[str]()}
"""What the command does in place of a run, and the options that this heeds."""


def main(flow: Callable[..., Any], arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when all went well, 1 with one line on the error stream when not, 130 interrupted."""
    output.spell_what_encodings_lack()
    try:
        return _obey(flow, _options(arguments))
    except KeyboardInterrupt:
        Console(stderr=True).print(str(Interrupted()), markup=False, highlight=False, soft_wrap=True)
        return common.INTERRUPTED
    except SyncError as exc:
        Console(stderr=True).print(str(exc), style="red", markup=False, highlight=False, soft_wrap=True)
        return 1


def _obey(flow: Callable[..., Any], options: dict[str, Any]) -> int:
    console = output.Screen()
    try:
        # Prefect's own handling, while the flow runs, passes the signal on to this one.
        with common.heeding_termination(), answering_server():
            _do(flow, options, console)
    except SyncFailed as exc:
        if exc.report:
            console.print(summary_table(exc.report))
        return 1
    return 0


def _do(flow: Callable[..., Any], options: dict[str, Any], console: Console) -> None:
    if "sandbox" in options:
        from flows.demonstration import demonstrate  # noqa: PLC0415 - the sandbox is loaded only on demand

        _be_brief()
        demonstrate(flow, rows=options.get("rows", DEMONSTRATION_ROWS), console=console)
    elif "save_blocks" in options:
        block = options["save_blocks"]
        save_blocks(load_config(), block)
        console.print(f"saved: dataverse-credentials/{block} and sync-database/{block}")
    else:
        console.print(summary_table(flow(**options)))


def _options(arguments: Sequence[str] | None) -> dict[str, Any]:
    """What is given, and no more; options that what is asked for would ignore are refused."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    for mode, heeded in _MODES.items():
        if mode in options and (ignored := options.keys() - heeded - {mode}):
            parser.error(f"{_flags(ignored)}: without meaning beside {_flags({mode})}")
    if "rows" in options and "sandbox" not in options:
        parser.error("--rows: has a meaning beside --sandbox only")
    return options


def _flags(names: Iterable[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in sorted(names))


def _name(text: str) -> str:
    """Of a block or a file; a shell's variable that is not set must not count as none given."""
    if not text:
        msg = "is empty; leave it out, or name one"
        raise argparse.ArgumentTypeError(msg)
    return text


def _parser() -> argparse.ArgumentParser:
    parser = common.Parser("python -m flows.sync_dataverse", description=__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument("--sandbox", action="store_true", help="run twice against a Dataverse made for it")
    rows = common.count(MOST_ROWS, least=LEAST_ROWS)
    parser.add_argument("--rows", type=rows, metavar="N", help=f"records of that Dataverse ({DEMONSTRATION_ROWS})")
    parser.add_argument(
        "--save-blocks", type=_name, metavar="NAME", help="only save the settings as blocks of this name"
    )
    parser.add_argument(
        "--credentials", type=_name, metavar="BLOCK", help="Dataverse Credentials block; else DATAVERSE_* settings"
    )
    parser.add_argument(
        "--database", type=_name, metavar="BLOCK", help="Dataverse Sync Database block; else the settings"
    )
    parser.add_argument("--entities", nargs="+", metavar="NAME", help="only these of the tables")
    parser.add_argument("--entities-file", type=_name, metavar="FILE", help="JSON file that names the tables to copy")
    parser.add_argument("--verify-references", action="store_true", help="check every reference afterwards")
    parser.add_argument("--reconcile", action="store_true", help="compare every key and version, repair what differs")
    return parser


def _be_brief() -> None:
    """Show Prefect's warnings only; the demonstration tells its own story. The run's log keeps every line."""
    for name in ("", "prefect", "prefect.flow_runs", "prefect.task_runs"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setLevel(logging.WARNING)
