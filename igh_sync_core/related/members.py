"""One related table in one run: what is remembered of it between its stages, and the connection of each stage."""

import contextlib
import logging
import time
from collections.abc import Iterator
from datetime import datetime
from functools import cached_property

import msgspec
from sqlalchemy import Connection

from igh_sync_core.history import checkpoint
from igh_sync_core.history.choices import Choices
from igh_sync_core.history.lacking import Lacking
from igh_sync_core.history.rows import row_codec
from igh_sync_core.history.versions import History
from igh_sync_core.model import TableSpec
from igh_sync_core.related.feeds import Feed
from igh_sync_core.report import Counts, EntityReport
from igh_sync_core.schema.tables import entity_tables
from igh_sync_core.store.control import SyncState
from igh_sync_core.store.database import Lease
from igh_sync_core.store.lock import fence
from igh_sync_core.sync.by_id import ById
from igh_sync_core.sync.course import ended_by
from igh_sync_core.sync.run import Run
from igh_sync_core.sync.strategy import Strategy
from igh_sync_core.webapi.client import Fetched

log = logging.getLogger(__name__)


class RelatedTable:
    """A related table on its way through a run.

    Args:
        run: The run, which holds the database.
        spec: The table; it exists and fits.

    Attributes:
        codec: Decoder of its records.
        choices: Writer of their choices.
        lacking: Watches that its records have all their columns.
        channel: Its line for records.
        keys_channel: Its line for keys alone, whose pages are never too big to be full ones.
        by_id: How many records one query asks for.
        counts: What was written.
        is_tracked: Whether a key feed tells its deletions; false once the server has refused one.
        state: How far it has come, as committed last; pending until it has begun.
        feed: Where its changes are learnt from first; None until it has begun.
        error: What ended it early; None while it is well.
        stored: Records met so far.
    """

    def __init__(self, run: Run, spec: TableSpec) -> None:
        self.run, self.spec = run, spec
        self.tables = entity_tables(spec)
        self.codec = row_codec(spec, run.database.kind)
        self.choices = Choices(spec, run.organisation.language)
        self.lacking = Lacking(self.tables, run.organisation.metadata_version)
        self.channel = run.open_channel(spec)
        self.keys_channel = run.client.channel(spec.logical_name, page_size=run.page_size)
        self.by_id = ById(self.channel, spec, run.client.config.api_root)
        self.counts = Counts()
        self.is_tracked = spec.is_tracked
        self.state = SyncState(entity_name=spec.entity_set)
        self.feed: Feed | None = None
        self.error: Exception | None = None
        self.stored = 0
        self._remarks = ["filtered: only records that synced rows point at"]
        self._sync_time: datetime | None = None
        self._started = time.monotonic()

    def remark(self, text: str) -> None:
        """Say something in the report."""
        if text:
            log.info("%s: %s", self.spec.logical_name, text)
            self._remarks.append(text)

    def server_time(self, fetched: Fetched) -> datetime:
        """The server's clock when it gave a page."""
        return (fetched.server_date or self.run.organisation.server_time).replace(microsecond=0)

    def sync_time(self, fetched: Fetched) -> datetime:
        """When this run's versions count as written: the server's clock at the first page."""
        if self._sync_time is None:
            self._sync_time = self.server_time(fetched)
        return self._sync_time

    @contextlib.contextmanager
    def stage(self) -> Iterator["Stage"]:
        """Begin one stage, where the last one ended.

        Raises:
            StoreError: The database cannot be used.
        """
        with self.run.database.lease() as lease:
            yield Stage(self, lease)

    def report(self) -> EntityReport:
        """What happened, whether well or not."""
        report = EntityReport(
            entity=self.spec.logical_name,
            table=self.spec.entity_set,
            strategy=Strategy.RELATED,
            reason="; ".join(self._remarks),
            **msgspec.structs.asdict(self.counts),
            requests=self.channel.requests + self.keys_channel.requests,
            seconds=round(time.monotonic() - self._started, 3),
        )
        return report if self.error is None else ended_by(self.error, report)


class Stage:
    """A related table with a connection of its own whenever it needs one.

    Attributes:
        table: The table.
    """

    def __init__(self, table: RelatedTable, lease: Lease) -> None:
        self.table, self._lease = table, lease

    @property
    def conn(self) -> Connection:
        """Used by nobody else."""
        return self._lease.conn

    @cached_property
    def history(self) -> History:
        """The versions of the table."""
        return History(self.table.run.database, self._lease, self.table.tables, fresh=self.table.state.fresh)

    def reading(self) -> contextlib.AbstractContextManager[Connection]:
        """A transaction that only reads, see ``Lease.reading``."""
        return self._lease.reading()

    @contextlib.contextmanager
    def committing(self) -> Iterator[SyncState]:
        """One transaction, committed with the state as the caller leaves it (law 1).

        Raises:
            StoreError: Another run has taken the database, or it refused a statement.
        """
        table, state = self.table, self.table.state.model_copy()
        with self._lease.writing() as conn:
            fence(conn, table.run.run_id)
            yield state
            checkpoint.write(conn, state)
        table.state = state

    @contextlib.contextmanager
    def leaving(self) -> Iterator[SyncState]:
        """The state as the caller leaves it, to be put on record with the end of the table; asked again otherwise."""
        state = self.table.state.model_copy()
        yield state
        self.table.state = state

    def count(self, state: SyncState, counts: Counts, now: datetime) -> None:
        """Add up what was written, in the state to be committed and for the report."""
        state.records_count += counts.added - counts.closed
        state.last_sync_time = now
        self.table.counts += counts
