"""Looking without touching: what a schema check finds and what a run would do; nothing is written anywhere.

Works on a database that does not exist yet, on one in use, and on one made by nobody.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, create_engine, event, inspect
from sqlalchemy.pool import NullPool

from igh_sync_core import catalog, checkpoint, discovery, drift, schema, shapes, strategy
from igh_sync_core.catalog import Catalog
from igh_sync_core.client import Client
from igh_sync_core.config import Config
from igh_sync_core.control import CONTROL, SyncState
from igh_sync_core.database import Database, store_errors
from igh_sync_core.discovery import Hints
from igh_sync_core.drift import Verdict
from igh_sync_core.entities import EntityConfig
from igh_sync_core.errors import RequestRejected, SchemaError
from igh_sync_core.estimate import count_records
from igh_sync_core.model import LogicalName, Organisation, TableSpec
from igh_sync_core.odata import MAX_PAGE_SIZE
from igh_sync_core.preparation import version_of
from igh_sync_core.schema import Work
from igh_sync_core.strategy import Read, Strategy


class Forecast(Struct, frozen=True, kw_only=True):
    """What a run would do with one entity.

    Attributes:
        entity: Logical name.
        table: Its table.
        strategy: How it would be read; "" where it would not.
        reason: Why so, or why not.
        read: Kind of the first read: ``first``, ``snapshot``, ``delta``, ``increment``; "" where nothing tells.
        rows: Records expected: all of them for a complete read, by the server's count of up to a day ago; None where
            only the changes come.
        requests: Data requests expected at least; None where it depends on what other tables point at.
        ddl: Statements that would be executed, in their order.
        error: Why a run would fail on it; "" where nothing tells so.
    """

    entity: str
    table: str
    strategy: str = ""
    reason: str = ""
    read: str = ""
    rows: int | None = None
    requests: int | None = None
    ddl: tuple[str, ...] = ()
    error: str = ""


class Outlook(Struct, frozen=True, kw_only=True):
    """What a run would do.

    Attributes:
        entities: One forecast per configured entity, in the order of the entities file.
        verdict: How the stored tables fit.
        notes: What could not be read and what would be done without it.
    """

    entities: tuple[Forecast, ...]
    verdict: Verdict
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing tells that a run would fail."""
        return self.verdict.passed and not any(forecast.error for forecast in self.entities)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "entities": msgspec.to_builtins(self.entities),
            "verdict": self.verdict.as_dict(),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class _Look:
    """What was found before any decision."""

    organisation: Organisation
    known: Catalog
    conn: Connection
    has_control: bool


def validate_schema(
    config: Config,
    entities: Sequence[EntityConfig],
    *,
    hints: Hints | None = None,
    connect: Callable[[Config], Client] = Client,
) -> Verdict:
    """Check the stored tables against the environment's metadata.

    Args:
        config: Where from and where to.
        entities: Tables to copy.
        hints: Choice columns by entity, for tables whose definitions may not be read.
        connect: Opens the wire.

    Raises:
        SyncError: The environment or the database cannot be read.
    """
    with connect(config) as client, _look(client, entities, hints or {}) as look:
        return drift.compare(look.conn, entities, look.known)


def plan(
    config: Config,
    entities: Sequence[EntityConfig],
    *,
    hints: Hints | None = None,
    page_size: int = MAX_PAGE_SIZE,
    connect: Callable[[Config], Client] = Client,
) -> Outlook:
    """Work out what a run would do.

    Args:
        config: Where from and where to.
        entities: Tables to copy.
        hints: Choice columns by entity, for tables whose definitions may not be read.
        page_size: Rows a page would have.
        connect: Opens the wire.

    Raises:
        SyncError: The environment or the database cannot be read.
    """
    with connect(config) as client, _look(client, entities, hints or {}) as look:
        verdict = drift.compare(look.conn, entities, look.known)
        sound = [entry.spec for name, entry in look.known.entries.items() if entry.spec and name not in verdict.broken]
        totals, notes = _totals(client, [spec.logical_name for spec in sound])
        works = schema.outline(shapes.read(look.conn, sound), sound, language=look.organisation.language)
        planned = {work.spec.logical_name: work for work in works}
        oracle = _Oracle(look, client.config.api_root, totals, page_size)
        forecasts = [
            oracle.forecast(entity, work)
            if (work := planned.get(LogicalName(entity.name)))
            else _not_read(entity, verdict)
            for entity in entities
        ]
    return Outlook(entities=tuple(forecasts), verdict=verdict, notes=(*look.known.notes, *notes))


def _totals(client: Client, names: Sequence[LogicalName]) -> tuple[Mapping[str, int], tuple[str, ...]]:
    """Records per table as the server counted them within the last day; and what went wrong."""
    try:
        return (count_records(client, names) if names else {}), ()
    except RequestRejected as exc:
        return {}, (f"the server does not tell its record counts ({exc})",)


@dataclass(frozen=True)
class _Oracle:
    """Foretells entity by entity."""

    look: _Look
    api_root: str
    totals: Mapping[str, int]
    page_size: int

    def forecast(self, entity: EntityConfig, work: Work) -> Forecast:
        """What a run would do with one entity whose table fits."""
        spec = work.spec
        ddl = tuple(str(one.compile(dialect=self.look.conn.dialect)).strip() for one in work.statements)
        try:
            chosen = strategy.choose(spec, entity)
        except SchemaError as exc:
            why = str(exc)
            return Forecast(entity=entity.name, table=spec.entity_set, reason=why, ddl=ddl, error=why)
        told = Forecast(
            entity=entity.name, table=spec.entity_set, strategy=chosen.strategy, reason=chosen.reason, ddl=ddl
        )
        if chosen.strategy is Strategy.RELATED:
            return told
        state = self._state(work)
        root, organisation = self.api_root, self.look.organisation
        read = strategy.next_read(spec, chosen, state, api_root=root, organisation=organisation)
        return self._sized(told, spec, read)

    def _state(self, work: Work) -> SyncState:
        """How far the entity will have come once its tables fit."""
        spec = work.spec
        state = checkpoint.read(self.look.conn, spec) if self.look.has_control else None
        state = state or SyncState(entity_name=spec.entity_set)
        if work.is_new or work.fresh:
            state.columns_digest = None
        return state

    def _sized(self, told: Forecast, spec: TableSpec, read: Read) -> Forecast:
        reason = "; ".join(filter(None, (told.reason, read.reason)))
        if not read.is_complete:
            return msgspec.structs.replace(told, read=read.kind, reason=reason, requests=1)
        rows = self.totals.get(spec.logical_name)
        again = int(read.track_changes and spec.has_modified_on)
        pages = max(1, ceil(rows / self.page_size)) if rows is not None else 1
        return msgspec.structs.replace(told, read=read.kind, reason=reason, rows=rows, requests=pages + again)


def _not_read(entity: EntityConfig, verdict: Verdict) -> Forecast:
    fault = verdict.faults_of(LogicalName(entity.name)) or "not in the environment's metadata"
    return Forecast(entity=entity.name, table=entity.api_name, reason=fault)


@contextlib.contextmanager
def _look(client: Client, entities: Sequence[EntityConfig], hints: Hints) -> Iterator[_Look]:
    root = client.config.api_root
    organisation = catalog.ask_organisation(client.channel("look"), root)
    names = [LogicalName(entity.name) for entity in entities]
    with reading(client.config) as conn:
        has_control = set(CONTROL.tables) <= set(inspect(conn).get_table_names())
        version = version_of(organisation.metadata_version, hints)
        known = catalog.kept(conn, names, version) if has_control else None
        if known is None:
            is_postgres = client.config.get_db_type() == "postgresql"
            known, _requests = discovery.fetch(client, names, with_lengths=is_postgres, hints=hints)
        yield _Look(organisation, known, conn, has_control)


@contextlib.contextmanager
def reading(config: Config) -> Iterator[Connection]:
    """A connection that cannot write; an empty database stands in for a SQLite file that is not there yet.

    Raises:
        StoreUnavailable: The database cannot be reached, or is locked.
        StoreError: It refused a statement, or its file is damaged.
        ConfigError: The file is none of SQLite's.
    """
    path = Path(config.sqlite_db_path or "dataverse.db").expanduser()
    if config.get_db_type() == "postgresql":
        with Database(config).connection() as conn:
            yield conn.execution_options(postgresql_readonly=True)
        return
    if path.exists():
        Database(config)
        engine = create_engine(f"sqlite:///{path.absolute()}", poolclass=NullPool, hide_parameters=True)
        event.listen(engine, "connect", lambda connection, _record: connection.execute("PRAGMA query_only = ON"))
    else:
        engine = create_engine("sqlite://")
    try:
        with store_errors(), engine.connect() as conn:
            yield conn
    finally:
        engine.dispose()
