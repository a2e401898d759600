"""A copy under test: a sandbox behind MockTransport on one side, a real database on the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import httpx
from shaping import NOON
from sqlalchemy import MetaData, Table, select, text

from igh_sync_core import workflow
from igh_sync_core.config import Config
from igh_sync_core.config.entities import EntityConfig, load_entity_configs
from igh_sync_core.report import EntityReport, RunReport
from igh_sync_core.sandbox import Organisation, Sandbox, Server, health_organisation
from igh_sync_core.sandbox.http.service import CLIENT_ID, CLIENT_SECRET, sent_address
from igh_sync_core.store.control import SyncState
from igh_sync_core.store.database import Database
from igh_sync_core.sync.options import Options
from igh_sync_core.sync.run import Progress
from igh_sync_core.webapi.client import Client, Pace

CHALLENGED = 401
IMPATIENT = Pace(attempts=2, wait=lambda _event, _seconds: None)


def entities(*names: str) -> list[EntityConfig]:
    """The package's own entities, by logical name, in the order asked."""
    known = {entity.name: entity for entity in load_entity_configs()}
    return [known[name] for name in names]


def at_noon(rows: int) -> Organisation:
    """The health organisation, whose clock stands still."""
    made = health_organisation(rows)
    made.clock.set(NOON)
    return made


def config_of(server: Server, path: Path) -> Config:
    """Settings of a server of its own, over HTTPS, and of a SQLite file."""
    return Config(
        server.api_url,
        server.client_id,
        server.client_secret,
        "",
        str(path),
        authority=server.api_url,
        ca_file=str(server.ca_file),
    )


@dataclass
class Copy:
    """One organisation and its copy."""

    organisation: Organisation
    settings: dict[str, str]
    selection: Sequence[EntityConfig]
    sandbox: Sandbox = field(init=False)

    def __post_init__(self) -> None:
        self.sandbox = Sandbox(self.organisation)
        self.config = Config("https://org.crm.dynamics.com", CLIENT_ID, CLIENT_SECRET, "", **self.settings)
        self.database = Database(self.config)

    def sync(self, *, on_page: Callable[[Progress], None] = lambda _: None, **options: Any) -> RunReport:
        """One run; the requests it made are in ``asked``."""
        before = len(self.sandbox.log)
        report = workflow.run_workflow(
            self.config,
            self.selection,
            Options(connect=self._connect, listener=on_page, **options),
        )
        self.asked = [
            entry for entry in self.sandbox.log[before:] if entry.path.startswith("/api/data/") and entry.status != 401
        ]
        return report

    def sync_one(self, **options: Any) -> EntityReport:
        """One run over one entity, which must succeed."""
        [report] = self.sync(**options).entities
        assert report.status == "completed", report.error
        return report

    def _connect(self, config: Config) -> Client:
        return Client(config, transport=httpx.MockTransport(self.sandbox.handle), pace=IMPATIENT)

    def rows(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        """Every version in the order written: the columns named."""
        with self.database.writing() as conn:
            stored = Table(table, MetaData(), autoload_with=conn)
            found = conn.execute(select(*(stored.c[name] for name in columns)).order_by(stored.c.row_id))
            return [tuple(str(value) if isinstance(value, UUID) else value for value in row) for row in found]

    def rows_of(self, query: str) -> list[Any]:
        """What a query finds."""
        with self.database.writing() as conn:
            return [tuple(row) for row in conn.execute(text(query))]

    def open_rows(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        """The current versions: the columns named."""
        return [row[:-1] for row in self.rows(table, *columns, "valid_to") if row[-1] is None]

    def state(self, table: str) -> SyncState:
        """The checkpoint of one entity."""
        states = SyncState.metadata.tables["_sync_state"]
        with self.database.writing() as conn:
            row = conn.execute(select(states).where(states.c.entity_name == table)).mappings().one()
            return SyncState.model_validate(dict(row))


def taking_ids(copy: Copy, most: int) -> list[int]:
    """Let the server take no more ids in one query; gives how many each query asks for, as they come."""
    answer = copy.sandbox.handle
    asked: list[int] = []

    def handle(request: httpx.Request) -> httpx.Response:
        address = unquote(sent_address(request))
        if ".In(" in address:
            asked.append(address.count("','") + 1)
            if asked[-1] > most:
                fault = {"code": "0x8004430C", "message": "Number of conditions in query exceeded maximum limit."}
                return httpx.Response(400, json={"error": fault})
        return answer(request)

    copy.sandbox.handle = handle  # type: ignore[method-assign]
    return asked
