"""Short ways to write tables down and to load records into them."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import httpx
from msgspec import Raw
from sqlalchemy import Connection, text

from igh_sync_core.config import Config
from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.history import checkpoint
from igh_sync_core.history.choices import Choices
from igh_sync_core.history.rows import RowCodec
from igh_sync_core.history.versions import History
from igh_sync_core.metadata.catalog import Catalog, Entry
from igh_sync_core.model import Column, EntitySet, Kind, LogicalName, Lookup, OptionKind, TableSpec
from igh_sync_core.preparation import drift
from igh_sync_core.preparation.drift import Verdict
from igh_sync_core.report import Counts
from igh_sync_core.sandbox import Sandbox
from igh_sync_core.schema import ddl, shapes
from igh_sync_core.schema.tables import entity_tables, identifier
from igh_sync_core.store.control import SyncState
from igh_sync_core.store.database import Database
from igh_sync_core.sync import strategy
from igh_sync_core.webapi.client import Client, Pace

NOON = datetime(2024, 5, 1, 12, 0, 0, tzinfo=UTC)
ENGLISH, FRENCH = 1033, 1036
MULTI, PICK = OptionKind.MULTISELECT, OptionKind.PICKLIST


def key(number: int) -> str:
    return f"aaaaaaaa-0000-0000-0000-{number:012}"


def spec_of(
    *columns: Column, entity: str = "sample", entity_set: str = "", lookups: Sequence[Lookup] = ()
) -> TableSpec:
    """A table with a key of its own name and *columns*."""
    id_name = f"{entity}id"
    return TableSpec(
        LogicalName(entity),
        EntitySet(entity_set or f"{entity}s"),
        id_name,
        (Column(id_name, Kind.GUID), *columns),
        tuple(lookups),
    )


def text_column(name: str, length: int | None = None) -> Column:
    return Column(name, Kind.STRING, length)


def state_of(conn: Connection, spec: TableSpec) -> SyncState:
    """How far an entity has come, which makes sense."""
    [state] = checkpoint.read_all(conn, [spec])
    assert isinstance(state, SyncState), state
    return state


def wire_of(sandbox: Sandbox) -> Callable[[Config], Client]:
    """Opens a wire that ends in the sandbox."""
    return lambda config: Client(config, transport=httpx.MockTransport(sandbox.handle), pace=Pace(attempts=1))


class Store:
    """A database that is brought from one metadata to the next, as runs do."""

    def __init__(self, database: Database) -> None:
        self.database = database
        ddl.create_control_tables(database)

    def judge(self, *specs: TableSpec, faults: dict[str, str] | None = None, missing: Sequence[str] = ()) -> Verdict:
        """What a run would find, with nothing written."""
        entries = {spec.logical_name: Entry(spec) for spec in specs}
        entries |= {LogicalName(name): Entry(None, fault) for name, fault in (faults or {}).items()}
        entries |= {LogicalName(name): Entry(None) for name in missing}
        sets = {spec.logical_name: spec.entity_set for spec in specs}
        entities = [EntityConfig(name, sets.get(name, f"{name}s")) for name in entries]
        with self.database.writing() as conn:
            return drift.judge(shapes.read(conn, specs), entities, Catalog(entries))

    def become(self, *specs: TableSpec, language: int = ENGLISH) -> ddl.Applied:
        """Judge and apply, as a run does."""
        verdict = self.judge(*specs)
        sound = [spec for spec in specs if spec.logical_name not in verdict.broken]
        with self.database.writing() as conn:
            return ddl.apply(conn, shapes.read(conn, sound), sound, language=language)

    def write(self, spec: TableSpec, *records: dict[str, Any] | Raw, now: datetime = NOON, new: bool = False) -> Counts:
        """One page, its choices noted, its fresh columns filled in."""
        batch = RowCodec(spec, self.database.kind).decode([_raw(one) for one in records])
        with self.database.connection() as conn, self.database.transaction(conn):
            line, fresh = SimpleNamespace(conn=conn), state_of(conn, spec).fresh
            history = History(self.database, line, entity_tables(spec), fresh=fresh)
            Choices(spec, ENGLISH).note(conn, batch, now)
            return (history.write_new if new else history.write)(batch, now)

    def begin(self, spec: TableSpec) -> None:
        """Put on record that a read of the entity has completed."""
        with self.database.writing() as conn:
            state = SyncState(entity_name=spec.entity_set, state="completed", columns_digest=strategy.digest(spec))
            checkpoint.write(conn, state)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query finds."""
        with self.database.writing() as conn:
            return [tuple(row) for row in conn.execute(text(query))]

    def run(self, statement: str) -> None:
        """What somebody else does to the database."""
        with self.database.writing() as conn:
            conn.execute(text(statement))

    def views_of(self, spec: TableSpec) -> tuple[str, ...]:
        """Names of its views: current rows, all versions."""
        with self.database.writing() as conn:
            shape = shapes.kept(conn).get(identifier(spec.entity_set))
        return shape.views if shape else ()


def _raw(one: dict[str, Any] | Raw) -> Raw:
    return one if isinstance(one, Raw) else Raw(json.dumps(one).encode())
