"""``validate-schema``: do the stored tables fit the metadata? Writes nothing but the reports asked for."""

import argparse
import json
from collections.abc import Sequence

from igh_sync_core.cli import common, output
from igh_sync_core.cli.display import finding_lines
from igh_sync_core.inspection.dry_run import validate_schema as validate

_DESCRIPTION = "Check the tables of a copy against the metadata of its Dataverse; nothing is written."


def validate_schema(argv: Sequence[str] | None = None) -> int:
    """Entry point; exit status 0 when the check passed, 1 when it failed or could not be made."""
    return common.run_command(lambda: _validate(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = common.Parser("validate-schema", description=_DESCRIPTION)
    common.add_settings(parser)
    common.add_hints(parser)
    parser.add_argument(
        "--db-type", choices=("sqlite", "postgresql"), help="which database, where the settings name both"
    )
    parser.add_argument("--json-report", metavar="FILE", help="write the verdict as JSON")
    parser.add_argument("--md-report", metavar="FILE", help="write the verdict as Markdown")
    return parser


def _validate(arguments: argparse.Namespace) -> int:
    config, entities, hints = common.given(arguments)
    verdict = validate(config, entities, hints=hints)
    output.write_report(arguments.json_report, json.dumps(verdict.as_dict(), indent=2) + "\n")
    output.write_report(arguments.md_report, verdict.as_markdown())
    console = output.Screen()
    for line in finding_lines(verdict):
        console.print(line)
    return 0 if verdict.passed else 1
