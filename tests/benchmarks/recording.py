"""Finds out which pages a first load of ours reads, for the floor to read the very same ones.

Pages without records and pages of bare keys are left out: they are the price of our guarantees, not of copying rows.
"""

import sys
from pathlib import Path
from threading import Lock

import httpx
import msgspec
from msgspec import Struct

from igh_sync_core.config import Config, load_config
from igh_sync_core.config.entities import EntityConfig, load_entity_configs
from igh_sync_core.metadata.catalog import kept_entries
from igh_sync_core.model import Column, LogicalName
from igh_sync_core.store.database import Database
from igh_sync_core.sync.options import Options
from igh_sync_core.webapi.client import Client
from igh_sync_core.webapi.odata import parse_page
from igh_sync_core.workflow import run_workflow

from .worker import serve


class PageRequest(Struct, frozen=True):
    """One page as it was asked for.

    Attributes:
        table: Entity set.
        target: Path and query, byte for byte.
        prefer: The ``Prefer`` header.
    """

    table: str
    target: str
    prefer: str


class Recording(Struct, frozen=True):
    """Everything that the floor reads and keeps.

    Attributes:
        pages: In the order in which they were asked.
        columns: Declared columns by entity set.
    """

    pages: list[PageRequest]
    columns: dict[str, tuple[Column, ...]]


class RecordingTransport(httpx.BaseTransport):
    """The network, with a list of the pages of records that came through it.

    Args:
        config: Where its certificate authority stands.
        tables: Entity sets whose pages count.
    """

    def __init__(self, config: Config, tables: frozenset[str]) -> None:
        self._network = httpx.HTTPTransport(verify=httpx.create_ssl_context(verify=config.ca_file or True))
        self._tables = tables
        self._lock = Lock()
        self.pages: list[PageRequest] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Pass the request on, and note it if it brought whole records."""
        response = self._network.handle_request(request)
        body = response.read()
        page = PageRequest(
            request.url.path.rpartition("/")[2],
            request.url.raw_path.decode(),
            request.headers.get("prefer", ""),
        )
        if page.table in self._tables and "$select=" not in page.target and parse_page(body).value:
            with self._lock:
                self.pages.append(page)
        return httpx.Response(response.status_code, headers=response.headers, content=body)

    def close(self) -> None:
        """Close all connections."""
        self._network.close()


def record(file: Path) -> dict[str, int]:
    """Sync once with the environment's settings, and write the recording to *file*.

    Raises:
        RuntimeError: The run failed.
    """
    config, entities = load_config(), load_entity_configs()
    transport = RecordingTransport(config, frozenset(entity.api_name for entity in entities))
    options = Options(connect=lambda config: Client(config, transport=transport))
    report = run_workflow(config, entities, options)
    if not report.success:
        raise RuntimeError(report.summary())
    file.write_bytes(msgspec.json.encode(Recording(transport.pages, _columns(Database(config), entities))))
    return {"rows": report.total("added"), "pages": len(transport.pages)}


def _columns(database: Database, entities: list[EntityConfig]) -> dict[str, tuple[Column, ...]]:
    with database.writing() as conn:
        entries = kept_entries(conn, [LogicalName(entity.name) for entity in entities])
    return {entry.spec.entity_set: entry.spec.columns for entry in entries if entry.spec}


if __name__ == "__main__":
    serve(lambda _workload: record(Path(sys.argv[1])))
