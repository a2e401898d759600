"""``generate-optionset-config``: which columns of a copy hold choices, as the JSON that ``--optionsets-config`` takes."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Connection, inspect

from igh_sync_core.cli import common
from igh_sync_core.config import Config
from igh_sync_core.database import Database
from igh_sync_core.entities import EntityConfig
from igh_sync_core.errors import ConfigError
from igh_sync_core.tables import identifier, optionset_name

_DESCRIPTION = "Print which columns of a copy hold choices, as JSON: entity to list of columns."


def generate_optionset_config(argv: Sequence[str] | None = None) -> int:
    """Entry point; exit status 0, or 1 when the copy cannot be read. JSON goes to stdout, talk to stderr."""
    parser = argparse.ArgumentParser("generate-optionset-config", description=_DESCRIPTION)
    common.add_settings(parser)
    parser.add_argument("--db", metavar="FILE", help="SQLite file to look into (default: the database of the settings)")
    arguments = parser.parse_args(argv)
    return common.run_command(lambda: _generate(arguments))


def _generate(arguments: argparse.Namespace) -> int:
    config, entities = _settings(arguments)
    with Database(config).connection() as conn:
        found = choice_columns(conn, entities)
    fields = sum(map(len, found.values()))
    sys.stderr.write(f"{fields} choice columns in {len(found)} of {len(entities)} entities\n")
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return 0


def _settings(arguments: argparse.Namespace) -> tuple[Config, list[EntityConfig]]:
    """With ``--db`` nothing of Dataverse is asked, so nothing of it need be set."""
    if not arguments.db:
        return common.settings(arguments)
    if not Path(arguments.db).is_file():
        raise ConfigError([f"--db {arguments.db}: no such file; give the path of a copy made earlier"])
    entities = common.entities(arguments)
    return replace(_NOWHERE, sqlite_db_path=arguments.db), entities


_NOWHERE = Config("", "", "", "")


def choice_columns(conn: Connection, entities: Sequence[EntityConfig]) -> dict[str, list[str]]:
    """Per entity its columns that have a table of codes; entities without a table or without choices are left out."""
    inspector = inspect(conn)
    present = set(inspector.get_table_names())
    found = {}
    for entity in entities:
        table = identifier(entity.api_name)
        if table in present:
            names = [str(column["name"]) for column in inspector.get_columns(table)]
            fields = sorted(name for name in names if optionset_name(name) in present)
            if fields:
                found[entity.name] = fields
    return found
