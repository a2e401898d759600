"""The flow against a sandbox, twice, with changes in between: what ``--sandbox`` shows."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.text import Text
from sqlalchemy import select

from igh_sync_core.cli.display import summary_table
from igh_sync_core.cli.sheet import Column, Row, Sheet
from igh_sync_core.config import load_config
from igh_sync_core.metadata import catalog
from igh_sync_core.model import LogicalName
from igh_sync_core.report import RunReport
from igh_sync_core.sandbox import Organisation, health_organisation, serve
from igh_sync_core.schema.tables import entity_tables
from igh_sync_core.store.database import Database

ENTITY = LogicalName("vin_candidate")
SHOWN = ("row_id", "vin_name", "valid_from", "valid_to", "closed_reason")


def demonstrate(sync: Callable[[], RunReport], *, rows: int, console: Console) -> None:
    """Sync, change the source, sync again; then show both runs and what became of one changed record.

    Args:
        sync: One run with the environment's settings; gives its report or raises.
        rows: Records of the sandbox, over all its tables.
        console: Where to show it.

    Raises:
        SyncError: A run failed.
    """
    with serve(health_organisation(rows)) as server, _settings(server.environment()) as folder:
        copy = folder / "dataverse.db"
        os.environ["SQLITE_DB_PATH"] = str(copy)
        console.print(f"A Dataverse with {rows:,} records answers at {server.api_url}")
        console.print(summary_table(sync()))
        key = change(server.organisation)
        console.print("Changed there: 3 records inserted, 2 updated, 1 deleted")
        console.print(summary_table(sync()))
        console.print(history_table(Database(load_config()), key))
    console.print(f"The copy is in {copy}", soft_wrap=True)


def change(organisation: Organisation) -> str:
    """Three records more, two others, one fewer; gives the key of one that is another now."""
    first, second, third, *_ = organisation.keys(ENTITY)
    for number in range(3):
        organisation.insert(ENTITY, {"vin_name": f"New candidate {number + 1}"})
    name = organisation.record(ENTITY, first)["vin_name"]
    organisation.update(ENTITY, first, {"vin_name": f"{name}, second generation"})
    organisation.update(ENTITY, second, {"vin_rank": 1})
    organisation.delete(ENTITY, third)
    return first


def history_table(database: Database, key: str) -> RenderableType:
    """Every version of one record, oldest first."""
    with database.connection() as conn, database.transaction(conn):
        spec = catalog.kept_entries(conn, [ENTITY])[0].spec
        if spec is None:
            msg = f"{ENTITY} is not among the synced tables"
            raise LookupError(msg)
        main = entity_tables(spec).main
        rows = conn.execute(select(*(main.c[name] for name in SHOWN)).where(main.c[spec.key] == key).order_by("row_id"))
        versions = [[_cell(value) for value in row] for row in rows]
    sheet = Sheet([Column(name) for name in SHOWN], [Row(version) for version in versions])
    return Group(Text(f"{spec.entity_set} {key}", style="bold"), sheet)


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return "" if value is None else str(value)


@contextlib.contextmanager
def _settings(values: Mapping[str, str]) -> Iterator[Path]:
    """Let the environment say these settings and no others; a ``.env`` of the caller's folder must not slip in.

    Gives the new folder that takes its place.
    """
    folder = Path(tempfile.mkdtemp(prefix="igh-sync-"))
    before = dict(os.environ)
    for name in before:
        if name.startswith(("DATAVERSE_", "POSTGRES_CONNECTION_STRING", "SQLITE_DB_PATH")):
            del os.environ[name]
    os.environ.update(values)
    try:
        with contextlib.chdir(folder):
            yield folder
    finally:
        os.environ.clear()
        os.environ.update(before)
