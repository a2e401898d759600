"""What every entity of one run shares, as values that tasks and threads hand down the road."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

from igh_sync_core.model import Organisation, TableSpec
from igh_sync_core.store.database import Database
from igh_sync_core.sync.workbench import Workbench, workbench_of
from igh_sync_core.webapi.client import Channel, Client
from igh_sync_core.webapi.odata import MAX_PAGE_SIZE

_COLUMN_BYTES = 100
_RECORD_BYTES = 100


@dataclass(frozen=True)
class Progress:
    """A page was stored.

    Attributes:
        entity: Logical name.
        rows: Records of this entity met so far in this run.
        is_done: Whether the read in progress has ended with it.
    """

    entity: str
    rows: int
    is_done: bool


def ignore(_progress: Progress) -> None:
    """Listen to nothing."""


@dataclass(frozen=True)
class Run:
    """What every entity of one run shares.

    Attributes:
        run_id: Token of the run's lock.
        client: The wire.
        database: The store.
        organisation: What its authentication learnt.
        page_size: Rows asked per page.
        listener: Told of every stored page, from the thread that stored it.
        reconcile: Whether every entity is compared with its source and repaired.
    """

    run_id: str
    client: Client
    database: Database
    organisation: Organisation
    page_size: int = MAX_PAGE_SIZE
    listener: Callable[[Progress], None] = ignore
    reconcile: bool = False

    def now(self) -> datetime:
        """The server's clock: what it was at login, and as much as has passed since; for ``_sync_log``."""
        return self._at_zero + timedelta(seconds=time.monotonic())

    @cached_property
    def _at_zero(self) -> datetime:
        """The server's clock when our monotonic one was at zero."""
        asked = self.organisation.asked
        passed = datetime.now(UTC) - asked if asked else timedelta()
        # Clocks of two machines may differ by more than has passed.
        return self.organisation.server_time + max(passed, timedelta()) - timedelta(seconds=time.monotonic())

    @property
    def workbench(self) -> Workbench:
        """Where pages are decoded and written."""
        return workbench_of(self.database)

    def open_channel(self, spec: TableSpec) -> Channel:
        """The line of one entity, its pages sized so that several of them fit in memory at once."""
        return self.client.channel(spec.logical_name, page_size=self.page_size, row_bytes=row_bytes(spec))


def row_bytes(spec: TableSpec) -> int:
    """Size of a record as expected before any is seen."""
    return _RECORD_BYTES + _COLUMN_BYTES * len(spec.columns)
