"""Looking without touching: what a schema check finds and what a run would do; nothing is written anywhere.

Works on a database that does not exist yet, on one in use, and on one made by nobody.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, inspect
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from igh_sync_core.config import Config
from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.errors import RequestRejected
from igh_sync_core.history import checkpoint
from igh_sync_core.inspection.estimate import count_records
from igh_sync_core.inspection.forecast import Forecast, Outlook
from igh_sync_core.inspection.looking import reading
from igh_sync_core.inspection.oracle import Oracle
from igh_sync_core.metadata import catalog, discovery
from igh_sync_core.metadata.catalog import Catalog
from igh_sync_core.metadata.discovery import Hints
from igh_sync_core.model import LogicalName, Organisation, TableSpec
from igh_sync_core.preparation import adoption, drift
from igh_sync_core.preparation.drift import Verdict
from igh_sync_core.preparation.takeover import Takeover
from igh_sync_core.preparation.validation import version_of
from igh_sync_core.related.relations import relations_of
from igh_sync_core.schema import shapes
from igh_sync_core.schema.outline import outline
from igh_sync_core.schema.shapes import Stored
from igh_sync_core.schema.tables import OURS
from igh_sync_core.store.control import CONTROL
from igh_sync_core.webapi.client import Client
from igh_sync_core.webapi.odata import MAX_PAGE_SIZE


@dataclass(frozen=True)
class _Look:
    """What was found before any decision.

    Attributes:
        conn: The database.
        organisation: Whose copy it is, or would be.
        known: What metadata says.
        stored: What the database holds.
        takeovers: Tables of that program.
        requests: What a run would have asked until here; whether missing rights are there now, too.
    """

    conn: Connection
    organisation: Organisation
    known: Catalog
    stored: Stored
    takeovers: Sequence[Takeover]
    requests: int

    @property
    def filled(self) -> Stored:
        """What it would hold once the tables of an earlier program are taken over."""
        added = [one.column for takeover in self.takeovers for one in takeover.added if one.column.name not in OURS]
        return self.stored.with_columns(added)

    def judge(self, entities: Sequence[EntityConfig]) -> Verdict:
        """How the stored tables fit."""
        return drift.judge(self.filled, entities, self.known)


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
        return look.judge(entities)


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
        verdict = look.judge(entities)
        sound = [entry.spec for name, entry in look.known.entries.items() if entry.spec and name not in verdict.broken]
        totals, notes = _totals(client, [spec.logical_name for spec in sound])
        oracle = replace(_oracle(client, look, entities, sound), totals=totals, page_size=page_size)
        works = outline(look.filled, sound, language=look.organisation.language)
        planned = {work.spec.logical_name: work for work in works}
        forecasts = [
            oracle.forecast(entity, work)
            if (work := planned.get(LogicalName(entity.name)))
            else _not_read(entity, verdict)
            for entity in entities
        ]
        own = oracle.spell(_control_statements(look))
    notes = (*adoption.tell(look.takeovers, "would be taken over"), *look.known.notes, *notes)
    return Outlook(entities=tuple(forecasts), verdict=verdict, notes=notes, ddl=own, requests=look.requests)


def _oracle(client: Client, look: _Look, entities: Sequence[EntityConfig], sound: Sequence[TableSpec]) -> Oracle:
    related = {entity.name for entity in entities if entity.filtered}
    return Oracle(
        look.conn,
        look.organisation,
        client,
        stored=look.stored,
        states=checkpoint.glimpse(look.conn),
        relations=[one for one in relations_of(sound) if one.target.logical_name in related],
        takeovers={one.spec.logical_name: one for one in look.takeovers},
    )


def _control_statements(look: _Look) -> Iterator[ExecutableDDLElement]:
    """For the tables that belong to no entity: those that are missing, and what those of an earlier program lack."""
    for table in CONTROL.sorted_tables:
        if table.name not in look.stored.tables:
            yield CreateTable(table)
            yield from map(CreateIndex, sorted(table.indexes, key=lambda index: str(index.name)))
    yield from adoption.control_statements(look.conn)


def _totals(client: Client, names: Sequence[LogicalName]) -> tuple[Mapping[str, int], tuple[str, ...]]:
    """Records per table as the server counted them within the last day; and what went wrong."""
    try:
        return (count_records(client, names) if names else {}), ()
    except RequestRejected as exc:
        return {}, (f"the server does not tell its record counts ({exc})",)


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
        requests = len(known.refused) if known else 0
        if known is None:
            is_postgres = client.config.get_db_type() == "postgresql"
            known, requests = discovery.fetch(client, names, with_lengths=is_postgres, hints=hints)
        specs = [entry.spec for entry in known.entries.values() if entry.spec]
        takeovers = adoption.find(conn, specs, entities)
        stored = shapes.read(conn, specs)
        yield _Look(conn, organisation, known, stored, takeovers, organisation.requests + requests)
