"""One entity end to end: reads what the strategy says, page by page, and has each page written before the next.

A kill between two pages loses nothing: the next run goes on after the last that was written.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from igh_sync_core.errors import RequestRejected
from igh_sync_core.model import TableSpec
from igh_sync_core.report import Counts, EntityReport
from igh_sync_core.schema.tables import entity_tables
from igh_sync_core.store.control import SyncState
from igh_sync_core.store.database import Lease
from igh_sync_core.sync import ranges, strategy, sweep
from igh_sync_core.sync.by_id import ById
from igh_sync_core.sync.course import Outcome
from igh_sync_core.sync.fallbacks import Way, after_refusal
from igh_sync_core.sync.run import Progress, Run
from igh_sync_core.sync.strategy import Plan, Read, ReadKind
from igh_sync_core.sync.sweep import Sweep
from igh_sync_core.sync.writing import Writer

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
    return _EntitySync(run, lease, spec, plan, state).run()


class _EntitySync:
    """The reads of one entity in one run."""

    def __init__(self, run: Run, lease: Lease, spec: TableSpec, plan: Plan, state: SyncState) -> None:
        self._run, self._lease, self._spec, self._plan = run, lease, spec, plan
        self._workbench = run.workbench
        self._started = time.monotonic()
        self._is_answered = False
        self._root = run.client.config.api_root
        self._channel = run.open_channel(spec)
        # Keys are small: they travel in pages as large as the server gives, however wide the table.
        self._keys_channel = run.client.channel(spec.logical_name, page_size=run.page_size)
        self._writer = Writer(run, lease, spec, state, self._report)
        self._reasons = [plan.reason]

    def run(self) -> Outcome:
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
            self._writer.settle_overlap()
        self._writer.end()
        return Outcome(self._report(self._writer.counts), self._writer.unwritten)

    @property
    def _state(self) -> SyncState:
        return self._writer.state

    def _report(self, counts: Counts) -> EntityReport:
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

    def _reconcile(self) -> None:
        """Compare every key and version number with the source, and repair what differs."""
        if not self._spec.has_version:
            self._read_whole("reconciled whole")
            return
        swept = Sweep(entity_tables(self._spec))
        for page in sweep.pages(self._keys_channel, self._spec, self._root):
            with self._workbench, self._lease.reading() as conn:
                for keys in sweep.parts(self._spec, page):
                    swept.lay(conn, keys)
        found = self._writer.settle_sweep(swept)
        if found.is_too_many:
            self._read_whole(found.summary())
            return
        self._repair(found.keys)
        if self._run.reconcile or found.deletions or found.found:
            self._reasons.append(found.summary())
        if self._state.overlap_due:
            self._writer.settle_overlap()

    def _repair(self, keys: Sequence[str]) -> None:
        """Read single records again."""
        by_id = ById(self._channel, self._spec, self._root)
        for ids in by_id.batches(keys):
            by_id.ask(ids, lambda some: self._execute(Read(ReadKind.REPAIR, by_id.address(some))))

    def _next_read(self) -> Read:
        return strategy.next_read(
            self._spec, self._plan, self._state, api_root=self._root, organisation=self._run.organisation
        )

    def _whole(self, reason: str) -> Read:
        return strategy.full_read(self._spec, self._plan, self._state, api_root=self._root, reason=reason)

    def _read_whole(self, reason: str) -> None:
        self._execute(self._whole(reason))

    def _execute(self, read: Read) -> None:
        self._is_answered = False
        read = ranges.spread(self._channel, self._spec, self._plan, read, api_root=self._root)
        if read.reason:
            self._reasons.append(read.reason)
            log.info("%s: %s", self._spec.logical_name, read.reason)
        if read.kind is ReadKind.FIRST and not read.is_resumed and self._writer.is_filled():
            read = replace(read, kind=ReadKind.SNAPSHOT)
        is_first_page = not read.is_resumed
        pages = self._channel.pages(
            *read.starts,
            at_once=self._plan.ranges,
            track_changes=read.track_changes,
            is_ahead=self._workbench.keeps_up,
        )
        for fetched in pages:
            state = self._writer.begun(read, self._plan, fetched) if is_first_page else self._state.model_copy()
            with self._workbench:
                self._writer.store(read, fetched, state, is_first_page=is_first_page)
            is_done = fetched.page.next_link is None
            del fetched  # or its records would stay in memory until the next page is here
            # Outside: a listener may ask somebody, and no other table's page shall wait for the answer.
            self._run.listener(Progress(self._spec.logical_name, self._writer.rows_met, is_done=is_done))
            is_first_page, self._is_answered = False, True

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
            return self._whole(why)
        if way is Way.UNORDERED:
            return replace(read, url=strategy.without_order(read.url), reason=why)
        if way is Way.SWEEP:
            self._reasons.append(why)
            return None
        self._reasons = [self._plan.reason, why]  # what was to be read with tracking, and why, did not come about
        self._plan = strategy.without_tracking(self._spec, why)
        return self._next_read()
