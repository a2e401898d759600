"""``sync-dataverse doctor``: is everything that a run needs in order? One line each, with the remedy."""

import argparse
from collections import Counter
from collections.abc import Sequence

from igh_sync_core.cli import common, output
from igh_sync_core.cli.display import check_line
from igh_sync_core.inspection.doctor import Status
from igh_sync_core.inspection.doctor import doctor as examine

_DESCRIPTION = "Look at everything a run needs: login, rights, change tracking, clock, database; nothing is changed."


def doctor(argv: Sequence[str]) -> int:
    """Exit status 0, or 1 when something would make a run fail."""
    arguments = _parser().parse_args(argv)
    # How the database stands is a line of its own.
    config, entities, _hints = common.given(arguments, find_fault=lambda _config: "")
    checks = examine(config, entities)
    console = output.Screen()
    for check in checks:
        console.print(check_line(check))
    counts = Counter(check.status for check in checks)
    console.print(", ".join(f"{counts[status]} {status}" for status in Status), highlight=False)
    return 1 if any(check.status is Status.FAILED for check in checks) else 0


def _parser() -> argparse.ArgumentParser:
    parser = common.Parser("sync-dataverse doctor", description=_DESCRIPTION)
    common.add_settings(parser)
    common.add_selection(parser)
    return parser
