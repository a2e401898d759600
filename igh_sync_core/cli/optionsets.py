"""``generate-optionset-config``: which columns of a copy hold choices, as ``--optionsets-config`` takes them."""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Connection, inspect, select

from igh_sync_core.cli import common, output
from igh_sync_core.config import Config
from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.config.settings import read_database
from igh_sync_core.errors import ConfigError
from igh_sync_core.inspection.looking import reading
from igh_sync_core.schema import shapes
from igh_sync_core.schema.optionsets import optionset_name, optionset_table
from igh_sync_core.schema.tables import identifier

_DESCRIPTION = "Print which columns of a copy hold choices, as JSON: entity to list of columns."


def generate_optionset_config(argv: Sequence[str] | None = None) -> int:
    """Entry point; exit status 0, or 1 when the copy cannot be read. JSON goes to stdout, talk to stderr."""
    return common.run_command(lambda: _generate(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = common.Parser("generate-optionset-config", description=_DESCRIPTION)
    common.add_settings(parser)
    parser.add_argument("--db", metavar="FILE", help="SQLite file to look into (default: the database of the settings)")
    return parser


def _generate(arguments: argparse.Namespace) -> int:
    config, entities = _settings(arguments)
    with reading(config) as conn:
        found = choice_columns(conn, entities)
    fields = sum(map(len, found.values()))
    sys.stderr.write(f"{fields} choice columns in {len(found)} of {len(entities)} entities\n")
    output.write_out(json.dumps(found, indent=2))
    return 0


def _settings(arguments: argparse.Namespace) -> tuple[Config, list[EntityConfig]]:
    """Nothing of Dataverse is asked, so nothing of it need be set; with ``--db`` nothing at all."""
    if arguments.db is not None:
        if arguments.env_file is not None:
            raise ConfigError(["--env-file: without meaning beside --db, which names the database"])
        config, entities = replace(_NOWHERE, sqlite_db_path=arguments.db), common.entities(arguments)
    else:
        config, entities, _hints = common.given(arguments, read_database)
    if config.get_db_type() == "sqlite" and not Path(config.sqlite_db_path or "").expanduser().is_file():
        raise ConfigError([f"{config.sqlite_db_path or '--db'}: no such file; name a copy made earlier, as by --db"])
    return config, entities


_NOWHERE = Config("", "", "", "")


def choice_columns(conn: Connection, entities: Sequence[EntityConfig]) -> dict[str, list[str]]:
    """Per entity its columns that hold choices; entities without a table or without choices are left out.

    What metadata said decides, where it was asked; for a table of an earlier program, whether there is a table of the
    column's codes whose labels are not just those codes again, as they are for numbers.
    """
    inspector = inspect(conn)
    present = set(inspector.get_table_names())
    shaped = shapes.kept(conn) if "_sync_shape" in present else {}
    found = {}
    for entity in entities:
        table = identifier(entity.api_name)
        if table not in present:
            continue
        shape = shaped.get(table)
        names = [str(column["name"]) for column in inspector.get_columns(table)]
        fields = shape.options if shape else [name for name in names if _has_labels(conn, name, present)]
        if fields:
            found[entity.name] = sorted(fields)
    return found


def _has_labels(conn: Connection, field: str, present: set[str]) -> bool:
    if optionset_name(field) not in present:
        return False
    options = optionset_table(field)
    labels = list(conn.scalars(select(options.c.label)))
    return not labels or not all(_NUMBER.fullmatch(label) for label in labels)


_NUMBER = re.compile(r"\W*\d[\d.,'\u2019\s]*\W*")
