"""One entity end to end: the only module that sees both the wire and the store.

Reads what the strategy says, page by page; writes each page, what it says of choices, and the checkpoint that
covers it in one transaction (law 1). A kill between two pages loses nothing: the next run goes on after the last.
"""

import logging
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property

import msgspec
from sqlalchemy import Connection

from igh_sync_core.errors import RequestRejected
from igh_sync_core.history import checkpoint, records
from igh_sync_core.history.choices import Choices
from igh_sync_core.history.current import Met
from igh_sync_core.history.rows import row_codec
from igh_sync_core.history.versions import History
from igh_sync_core.model import TableSpec
from igh_sync_core.report import Counts, EntityReport
from igh_sync_core.schema.tables import entity_tables
from igh_sync_core.store.control import SyncState
from igh_sync_core.store.database import Lease
from igh_sync_core.store.lock import fence
from igh_sync_core.sync import course, ranges, strategy, sweep
from igh_sync_core.sync.course import Outcome, Step
from igh_sync_core.sync.fallbacks import Way, after_refusal
from igh_sync_core.sync.run import Progress, Run
from igh_sync_core.sync.strategy import Plan, Read, ReadKind
from igh_sync_core.sync.sweep import Sweep
from igh_sync_core.sync.workbench import WORKBENCH
from igh_sync_core.webapi.client import Fetched
from igh_sync_core.webapi.odata import Page, id_batches
from igh_sync_core.webapi.tombstones import split_page

log = logging.getLogger(__name__)


def sync_entity(run: Run, lease: Lease, spec: TableSpec, plan: Plan, state: SyncState) -> Outcome:
    """Bring one entity up to date, and complete its line in ``_sync_log`` where there was anything to write.

    Args:
        run: The run, which holds the database.
        lease: Its connections.
        spec: The entity; its tables exist and fit.
        plan: How it is read.
        state: How far it has come.

    Raises:
        SyncError: Nothing of the page at fault is written; pages before it are, and the next run goes on from them.
    """
    work = _EntitySync(run, lease, spec, plan, state)
    work.run()
    return Outcome(work.report(work.counts), work.unwritten)


class _EntitySync:
    """The reads of one entity in one run."""

    def __init__(self, run: Run, lease: Lease, spec: TableSpec, plan: Plan, state: SyncState) -> None:
        self._run, self._lease, self._spec, self._plan, self._state = run, lease, spec, plan, state
        self._started = time.monotonic()
        self._is_ended = self._is_answered = False
        self.unwritten: SyncState | None = None
        self._root = run.client.config.api_root
        self._tables = entity_tables(spec)
        self._codec = row_codec(spec, run.database.kind)
        self._choices = Choices(spec, run.organisation.language)
        self._is_long = state.overlap_due  # nobody knows how many pages a baseline before a kill had
        self._sync_time: datetime | None = None
        self._channel = run.open_channel(spec)
        # Keys are small: they travel in pages as large as the server gives, however wide the table.
        self._keys_channel = run.client.channel(spec.logical_name, page_size=run.page_size)
        self.counts = Counts()
        self._stored = 0
        self._reasons = [plan.reason]

    @cached_property
    def _history(self) -> History:
        return History(self._run.database, self._lease, self._tables, fresh=self._state.fresh)

    def run(self) -> None:
        """Do the read that is due, and what must follow it."""
        read: Read | None = self._next_read()
        while read is not None:
            try:
                self._execute(read)
            except RequestRejected as exc:
                read = self._after_refusal(read, exc)
            else:
                read = self._overlap(read)
        if self._run.reconcile or (self._state.overlap_due and self._spec.has_version):
            self._reconcile()
        elif self._state.overlap_due:
            self._settle_overlap()
        if not self._is_ended:
            with self._lease.writing() as conn:
                self._end(conn, self.counts)

    def report(self, counts: Counts) -> EntityReport:
        """What was done so far."""
        return EntityReport(
            entity=self._spec.logical_name,
            table=self._spec.entity_set,
            strategy=self._plan.strategy,
            reason="; ".join(self._reasons),
            **msgspec.structs.asdict(counts),
            requests=self._channel.requests + self._keys_channel.requests,
            seconds=round(time.monotonic() - self._started, 3),
        )

    def _end(self, conn: Connection, counts: Counts) -> None:
        """Complete the line in ``_sync_log``, in the last transaction of all."""
        checkpoint.log_end(conn, self.report(counts), run_id=self._run.run_id, now=datetime.now(UTC))

    def _reconcile(self) -> None:
        """Compare every key and version number with the source, and repair what differs."""
        if not self._spec.has_version:
            reason = "reconciled whole"
            self._execute(strategy.full_read(self._spec, self._plan, self._state, api_root=self._root, reason=reason))
            return
        swept = Sweep(self._tables)
        for page in sweep.pages(self._keys_channel, self._spec, self._root):
            with WORKBENCH, self._lease.reading() as conn:
                for keys in sweep.parts(self._spec, page):
                    swept.lay(conn, keys)
        found = self._settle_sweep(swept)
        if found.is_too_many:
            whole = strategy.full_read(self._spec, self._plan, self._state, api_root=self._root, reason=found.summary())
            self._execute(whole)
            return
        for ids in id_batches(found.keys, url_room=strategy.repair_room(self._spec, self._root)):
            self._execute(strategy.repair(self._spec, ids, api_root=self._root))
        if self._run.reconcile or found.deletions or found.found:
            self._reasons.append(found.summary())
        if self._state.overlap_due:
            self._settle_overlap()

    def _settle_sweep(self, swept: Sweep) -> sweep.Differences:
        """Close what the sweep did not meet."""
        state = self._state.model_copy()
        with self._lease.writing() as conn:
            fence(conn, self._run.run_id)
            closed = sum(self._history.close_missing(keys, self._now(None)) for keys in swept.absent(conn))
            state.records_count -= closed
            checkpoint.write(conn, state)
        self._state = state
        self.counts += Counts(closed=closed)
        return swept.differences(closed)

    def _settle_overlap(self) -> None:
        """Put on record that nothing that happened during the baseline is missing any more."""
        state = self._state.model_copy(update={"overlap_due": False})
        with self._lease.writing() as conn:
            fence(conn, self._run.run_id)
            checkpoint.write(conn, state)
        self._state = state

    def _next_read(self) -> Read:
        return strategy.next_read(
            self._spec, self._plan, self._state, api_root=self._root, organisation=self._run.organisation
        )

    def _execute(self, read: Read) -> None:
        self._is_answered = False
        read = ranges.spread(self._channel, self._spec, self._plan, read, api_root=self._root)
        if read.reason:
            self._reasons.append(read.reason)
            log.info("%s: %s", self._spec.logical_name, read.reason)
        if read.kind is ReadKind.FIRST and not read.is_resumed and self._is_filled():
            read = replace(read, kind=ReadKind.SNAPSHOT)
        is_first_page = not read.is_resumed
        pages = self._channel.pages(
            *read.starts, at_once=self._plan.ranges, track_changes=read.track_changes, is_ahead=WORKBENCH.keeps_up
        )
        for fetched in pages:
            state = self._begun(read, fetched) if is_first_page else self._state.model_copy()
            with WORKBENCH:
                self._store(read, fetched, state, is_first_page=is_first_page)
            is_done = fetched.page.next_link is None
            del fetched  # or its records would stay in memory until the next page is here
            # Outside: a listener may ask somebody, and no other table's page shall wait for the answer.
            self._run.listener(Progress(self._spec.logical_name, self._stored, is_done=is_done))
            is_first_page, self._is_answered = False, True

    def _is_filled(self) -> bool:
        # In turn, or all that begin at once would open a connection each.
        with self._run.database.turn(), self._lease.reading():
            return not self._history.is_empty

    def _begun(self, read: Read, fetched: Fetched) -> SyncState:
        """The state of a new read."""
        course.check_begin(read, fetched.page)
        state = self._state.model_copy(update={"run_id": self._run.run_id})
        course.begin(state, read, self._spec, self._plan, self._server_time(fetched))
        return state

    def _store(self, read: Read, fetched: Fetched, state: SyncState, *, is_first_page: bool) -> None:
        """One page, one transaction."""
        now = self._now(fetched)
        course.check_end(read, fetched.page)
        received, deleted = split_page(fetched.page, self._spec.key)
        if read.kind is ReadKind.DELTA and not (received or deleted) and self._is_last(fetched.page, state):
            self._leave(state, read, fetched, None)
            return
        if read.is_complete:
            self._is_long = not is_first_page
        batch = self._codec.decode(received)
        with self._lease.writing() as conn:
            met = None if read.kind is ReadKind.FIRST else self._history.meet(batch)
            if met and not deleted and self._is_no_news(met, read, fetched.page, state, is_first_page=is_first_page):
                self.counts += Counts(unchanged=met.same)
                self._stored += len(batch)
                self._leave(state, read, fetched, batch.latest)
                return
            fence(conn, self._run.run_id)
            if met:
                counts = records.write(self._history, self._choices, met, now)
            else:
                counts = records.write_new(self._history, self._choices, batch, now)
            closed = self._history.close_deleted(deleted, now)
            if read.kind is ReadKind.SNAPSHOT:
                is_last = fetched.page.next_link is None
                gone = set(deleted)
                keys = [key for key in batch.keys if key not in gone]
                closed += records.close_unmet(self._history, keys, now, is_first=is_first_page, is_last=is_last)
            counts += Counts(closed=closed)
            self._advance(state, read, fetched, batch.latest)
            state.records_count += counts.added - counts.closed
            checkpoint.write(conn, state)
            counts += self.counts
            if is_last := self._is_last(fetched.page, state):
                self._end(conn, counts)
        self._state, self.counts, self._is_ended = state, counts, is_last
        self._stored += len(batch)

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
        self._state = self.unwritten = state
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

    def _overlap(self, done: Read) -> Read | None:
        """After a baseline: read again what was modified while it was under way.

        Deletions, and tables without ``modifiedon``, need a sweep; it follows where there was more than one page.
        """
        state = self._state
        is_due = state.overlap_due and self._spec.has_modified_on and done.kind is not ReadKind.INCREMENT
        if not is_due or state.read_started is None:
            return None
        return strategy.increment(self._spec, since=state.read_started, api_root=self._root)

    def _after_refusal(self, read: Read, exc: RequestRejected) -> Read | None:
        """Another complete way to the same records, or the refusal itself; None where a sweep is it."""
        way, why = after_refusal(exc, read, self._spec, self._state, is_answered=self._is_answered)
        if way is Way.WHOLE:
            return strategy.full_read(self._spec, self._plan, self._state, api_root=self._root, reason=why)
        if way is Way.UNORDERED:
            return replace(read, url=strategy.without_order(read.url), reason=why)
        self._reasons.append(why)
        if way is Way.SWEEP:
            return None
        self._plan = strategy.without_tracking(self._spec, why)
        return self._next_read()

    def _now(self, fetched: Fetched | None) -> datetime:
        """The sync time: the server's clock at this run's first page, so that our times and its times compare."""
        if self._sync_time is None:
            self._sync_time = self._server_time(fetched)
        return self._sync_time

    def _server_time(self, fetched: Fetched | None) -> datetime:
        answered = fetched.server_date if fetched else None
        return (answered or self._run.organisation.server_time).replace(microsecond=0)
