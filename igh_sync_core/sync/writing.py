"""What one entity's run writes: pages, what a sweep did not meet, the end; each in one transaction (law 1)."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cached_property

from sqlalchemy import Connection

from igh_sync_core.history import checkpoint, records
from igh_sync_core.history.batch import Batch
from igh_sync_core.history.choices import Choices
from igh_sync_core.history.current import Met
from igh_sync_core.history.lacking import Lacking
from igh_sync_core.history.rows import row_codec
from igh_sync_core.history.versions import History
from igh_sync_core.model import TableSpec
from igh_sync_core.report import Counts, EntityReport
from igh_sync_core.schema.tables import entity_tables
from igh_sync_core.store.control import SyncState
from igh_sync_core.store.database import Lease
from igh_sync_core.store.lock import fence
from igh_sync_core.sync import course
from igh_sync_core.sync.course import Step
from igh_sync_core.sync.run import Run
from igh_sync_core.sync.strategy import Plan, Read, ReadKind
from igh_sync_core.sync.sweep import Differences, Sweep
from igh_sync_core.webapi.client import Fetched
from igh_sync_core.webapi.odata import Page
from igh_sync_core.webapi.tombstones import split_page


class Writer:
    """Writes of one entity in one run, with the checkpoint that covers them; asks the source nothing.

    Args:
        run: The run, which holds the database.
        lease: Its connections.
        spec: The entity; its tables exist and fit.
        state: How far it has come.
        report: Tells what was done, for its line in ``_sync_log``, which the last transaction completes.

    Attributes:
        state: How far it has come by now.
        counts: What was done so far.
        rows_met: Records of the pages so far, written or not.
        unwritten: The state that is left to the caller to put on record, where nothing had changed; see ``Outcome``.
    """

    def __init__(
        self, run: Run, lease: Lease, spec: TableSpec, state: SyncState, report: Callable[[Counts], EntityReport]
    ) -> None:
        self._run, self._lease, self._spec, self._report = run, lease, spec, report
        self._tables = entity_tables(spec)
        self._codec = row_codec(spec, run.database.kind)
        self._choices = Choices(spec, run.organisation.language)
        self._lacking = Lacking(self._tables, run.organisation.metadata_version)
        self._is_long = state.overlap_due  # nobody knows how many pages a baseline before a kill had
        self._sync_time: datetime | None = None
        self._is_ended = False
        self.state = state
        self.counts = Counts()
        self.rows_met = 0
        self.unwritten: SyncState | None = None

    @cached_property
    def _history(self) -> History:
        return History(self._run.database, self._lease, self._tables, fresh=self.state.fresh)

    def is_filled(self) -> bool:
        """Whether there is any row already."""
        with self._lease.reading():
            return not self._history.is_empty

    def begun(self, read: Read, plan: Plan, fetched: Fetched) -> SyncState:
        """The state of a new read; nothing is written yet.

        Raises:
            TokenLost: The read is one of changes, and begins with something else.
        """
        course.check_begin(read, fetched.page)
        state = self.state.model_copy(update={"run_id": self._run.run_id})
        course.begin(state, read, self._spec, plan, self._server_time(fetched))
        # That the server told changes stays known, even if it is all that this read comes to.
        self.state = self.state.model_copy(update={"delta_link_time": state.delta_link_time})
        return state

    def store(self, read: Read, fetched: Fetched, state: SyncState, *, is_first_page: bool) -> None:
        """One page, one transaction.

        Args:
            read: What it belongs to.
            fetched: The page.
            state: The read's state before it; is changed.
            is_first_page: Whether the read began with it.

        Raises:
            LinkMissing: It should end the read, and does not tell that it does.
            DataError: It holds a record that cannot be stored; nothing of the page is.
            SchemaError: Its records lack a column that is there as far as this run knows; the same.
        """
        course.check_end(fetched.page, is_tracked=read.ends_with_link)
        received, deleted = split_page(fetched.page, self._spec)
        if read.kind is ReadKind.DELTA and not (received or deleted) and self._is_last(fetched.page, state):
            self._leave(state, read, fetched, None)
            return
        if read.is_complete:
            self._is_long = not is_first_page
        if self._take_digest(read, fetched.page, state, is_first_page=is_first_page):
            self.counts += Counts(unchanged=len(received))
            self.rows_met += len(received)
            self._leave(state, read, fetched, self.state.last_timestamp)
            return
        batch = self._codec.decode(received)
        with self._lease.writing() as conn:
            self._lacking.check(conn, batch, fetched.page.metadata_version)
            met = None if read.kind is ReadKind.FIRST else self._history.meet(batch)
            if met and not deleted and self._is_no_news(met, read, fetched.page, state, is_first_page=is_first_page):
                self.counts += Counts(unchanged=met.same)
                self.rows_met += len(batch)
                self._leave(state, read, fetched, batch.latest)
                return
            fence(conn, self._run.run_id)
            counts = self._write(batch, met, self._now(fetched))
            closed = self._close(read, fetched, batch.keys, deleted, is_first_page=is_first_page)
            counts += Counts(closed=closed)
            self._advance(state, read, fetched, batch.latest)
            state.records_count += counts.added - counts.closed
            checkpoint.write(conn, state)
            counts += self.counts
            if is_last := self._is_last(fetched.page, state):
                self._complete(conn, counts)
        self.state, self.counts, self._is_ended = state, counts, is_last
        self.rows_met += len(batch)

    def settle_sweep(self, swept: Sweep) -> Differences:
        """Close what the sweep did not meet; gives all it found."""
        state = self.state.model_copy()
        with self._lease.writing() as conn:
            fence(conn, self._run.run_id)
            closed = sum(self._history.close_missing(keys, self._now(None)) for keys in swept.absent(conn))
            state.records_count -= closed
            state.page_digest = None
            checkpoint.write(conn, state)
        self.state = state
        self.counts += Counts(closed=closed)
        return swept.differences(closed)

    def settle_overlap(self) -> None:
        """Put on record that nothing that happened during the baseline is missing any more."""
        state = self.state.model_copy(update={"overlap_due": False})
        with self._lease.writing() as conn:
            fence(conn, self._run.run_id)
            checkpoint.write(conn, state)
        self.state = state

    def end(self) -> None:
        """Complete the line in ``_sync_log``, unless the last page did, or left it to the caller."""
        if not self._is_ended:
            with self._lease.writing() as conn:
                fence(conn, self._run.run_id)
                self._complete(conn, self.counts)

    def _complete(self, conn: Connection, counts: Counts) -> None:
        checkpoint.end_lines(conn, (self._report(counts), self._run.now()), run_id=self._run.run_id)

    def _write(self, batch: Batch, met: Met | None, now: datetime) -> Counts:
        if met:
            return records.write(self._history, self._choices, met, now)
        return records.write_new(self._history, self._choices, batch, now)

    def _close(
        self, read: Read, fetched: Fetched, keys: Sequence[str], deleted: Sequence[str], *, is_first_page: bool
    ) -> int:
        """Close what the page tells to be gone, and of a snapshot what it passes over."""
        now = self._now(fetched)
        closed = self._history.close_deleted(deleted, now)
        if read.kind is ReadKind.SNAPSHOT:
            gone, is_last = {*deleted}, fetched.page.next_link is None
            there = [key for key in keys if key not in gone]
            closed += records.close_unmet(self._history, there, now, is_first=is_first_page, is_last=is_last)
        return closed

    def _take_digest(self, read: Read, page: Page, state: SyncState, *, is_first_page: bool) -> bool:
        """Remember a page that is a whole read by itself; whether nothing of it is new, since the last was the same.

        It is remembered with the run that stored it: whoever wrote since and knows of no digest has left another run.
        And with its reach, or a complete read might pass for one of recent records, and close nothing (law 3).
        """
        is_alone = is_first_page and page.next_link is None and not read.ends_with_link
        told = course.page_digest(self._spec, page) if is_alone and read.kind is not ReadKind.REPAIR else None
        reach = "all" if read.is_complete else "recent"
        was_told, state.page_digest = state.page_digest, told and f"{state.run_id} {reach} {told}"
        is_same = told is not None and was_told == f"{self.state.run_id} {reach} {told}"
        return is_same and self._is_stored(read, page, state)

    def _is_stored(self, read: Read, page: Page, state: SyncState) -> bool:
        """Whether all records of a page that came before are stored and to be left as they are."""
        if read.kind is ReadKind.FIRST or state.fresh_columns or not self._is_last(page, state):
            return False
        if not (read.is_complete and page.value):
            return True
        with self._lease.reading():  # or a table emptied by hand would stay so
            return self._history.has_open()

    def _is_no_news(self, met: Met, read: Read, page: Page, state: SyncState, *, is_first_page: bool) -> bool:
        """Whether a last page brings nothing to write but how far the read has come."""
        if len(met.news) or not self._is_last(page, state):
            return False
        if not read.is_complete:
            return True
        # What follows a baseline of changes is not over yet, and what a page does not tell may have to be closed.
        is_whole = is_first_page and not read.track_changes
        return is_whole and checkpoint.count_open(self._lease.conn, self._tables) == met.same

    def _leave(self, state: SyncState, read: Read, fetched: Fetched, latest: datetime | None) -> None:
        """Leave the end to the caller: until it is on record, the next run would ask for the same again."""
        self._advance(state, read, fetched, latest)
        self.state = self.unwritten = state
        self._is_ended = True

    def _is_last(self, page: Page, state: SyncState) -> bool:
        """Whether nothing follows a page any more: no other page, no overlap, no sweep."""
        return page.next_link is None and not state.overlap_due and not self._run.reconcile

    def _advance(self, state: SyncState, read: Read, fetched: Fetched, latest: datetime | None) -> None:
        """Move the checkpoint past a stored page."""
        step = Step(read, fetched.page, self._server_time(fetched), latest, is_long=self._is_long)
        course.advance(state, step, self._spec)
        state.last_sync_time = self._now(fetched)
        if read.is_complete and fetched.page.next_link is None:
            self._history.forget_fresh()

    def _now(self, fetched: Fetched | None) -> datetime:
        """The sync time: the server's clock at this run's first page, so that our times and its times compare."""
        if self._sync_time is None:
            self._sync_time = self._server_time(fetched)
        return self._sync_time

    def _server_time(self, fetched: Fetched | None) -> datetime:
        answered = fetched.server_date if fetched else None
        return (answered or self._run.organisation.server_time).replace(microsecond=0)
