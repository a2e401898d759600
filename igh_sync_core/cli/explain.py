"""``sync-dataverse explain TABLE ID``: why a record is in the copy."""

import argparse
from collections.abc import Sequence

from igh_sync_core.cli import common, output
from igh_sync_core.config.settings import read_database
from igh_sync_core.inspection.explanation import Standing, explain_record

_DESCRIPTION = "Say why a record is in the copy, by a chain of references; asks the database alone."


def explain(argv: Sequence[str]) -> int:
    """Exit status 0, or 1 when the record is not in the copy."""
    arguments = _parser().parse_args(argv)
    config, entities, _hints = common.given(arguments, read_database)
    explanation = explain_record(config, entities, table=arguments.table, key=arguments.id)
    output.write_out(str(explanation))
    return 1 if explanation.standing is Standing.ABSENT else 0


def _parser() -> argparse.ArgumentParser:
    parser = common.Parser("sync-dataverse explain", description=_DESCRIPTION)
    parser.add_argument("table", metavar="TABLE", help="logical name or entity set, such as accounts")
    parser.add_argument("id", metavar="ID", help="the record's id")
    common.add_settings(parser)
    return parser
