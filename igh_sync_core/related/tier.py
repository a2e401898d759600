"""Related tables: copied as far as synced rows point at them, to a fixed point, and kept up to date.

Three steps for all of them together, since each may point at the others and at itself: learn what changed; note which
ids new rows point at and ask for them, several batches at once, until a round brings nothing new; say how far it came.
Ids that do not come (deleted, or hidden by row security) are no fault of the sync; the verification finds them.
"""

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from msgspec import Raw
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from igh_sync_core.errors import Interrupted, StoreError, SyncError
from igh_sync_core.history import checkpoint, records
from igh_sync_core.model import LogicalName, TableSpec
from igh_sync_core.related import closure, scans
from igh_sync_core.related.keeping_up import begin, keep_up
from igh_sync_core.related.members import RelatedTable, Stage
from igh_sync_core.related.relations import Relation, relations_of
from igh_sync_core.related.scans import Scan
from igh_sync_core.report import Counts, EntityReport
from igh_sync_core.store.control import SyncState
from igh_sync_core.store.driver import attempt, store_error
from igh_sync_core.store.lock import fence
from igh_sync_core.sync.run import Progress, Run
from igh_sync_core.webapi.client import Fetched

TABLES_AT_ONCE = 4
BATCHES_AT_ONCE = 2
VERSIONS_TOGETHER = 10_000
"""Versions gone through in one transaction for what they point at; of one table, all."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What came for one batch of ids.

    Attributes:
        ids: The ids asked, n of them.
        records: At most n records, in any order.
        fetched: The page that came last.
    """

    ids: Sequence[str]
    records: Sequence[Raw]
    fetched: Fetched


def sync_related(run: Run, specs: Sequence[TableSpec], filtered: Collection[LogicalName]) -> list[EntityReport]:
    """Bring all related tables up to date, after the tables that point at them.

    Args:
        run: The run, which holds the database; a reconcile run checks every stored record and closes what is absent.
        specs: Every synced table; they exist and fit.
        filtered: Those that are copied only as far as others point at them.

    Returns:
        One report per related table, in the order of *specs*; a table that failed says so and stops no other.

    Raises:
        Interrupted: The run is being ended.
        StoreError: The database cannot be used.
    """
    tables = [RelatedTable(run, spec) for spec in specs if spec.logical_name in filtered]
    relations = [one for one in relations_of(specs) if one.target.logical_name in filtered]
    _begin(run, tables)
    _each(run, tables, keep_up)
    while wanted := _note_references(run, relations, tables):
        _each(run, wanted, _fetch)
        # Nothing was written to any other table meanwhile.
        relations = [one for one in relations if one.source.logical_name in filtered]
    _end(run, tables)
    return [table.report() for table in tables]


def _begin(run: Run, tables: Sequence[RelatedTable]) -> None:
    """Begin all of them, and put on record that they are under way; what cannot be done of one is its failure (law 9).

    Raises:
        StoreError: The whole transaction is lost.
    """
    with run.database.writing() as conn:
        checkpoint.log_start(conn, *(table.spec for table in tables), run_id=run.run_id, now=run.now())
        states = checkpoint.read_all(conn, [table.spec for table in tables])
        for table, state in zip(tables, states, strict=True):
            if isinstance(state, StoreError):
                table.error = state
            else:
                _try(conn, [table], partial(begin, conn, table, state))
        _mark_begun(conn, [table for table in tables if table.error is None])


def _mark_begun(conn: Connection, tables: Sequence[RelatedTable]) -> None:
    """All at once; where one of them is refused, each by itself."""
    if not _try(conn, [], partial(checkpoint.write, conn, *(table.state for table in tables))):
        for table in tables:
            _try(conn, [table], partial(checkpoint.write, conn, table.state))


def _try(conn: Connection, tables: Sequence[RelatedTable], step: Callable[[], object]) -> bool:
    """Do a step or nothing of it; whether it was done. The refusal is the failure of *tables*."""
    try:
        with attempt(conn):
            step()
    except DBAPIError as exc:
        for table in tables:
            table.error = store_error(exc)
        return False
    return True


def _each(run: Run, tables: Iterable[RelatedTable], work: Callable[[RelatedTable], None]) -> None:
    """Do one step for several tables at once; one that fails is left out of all further steps (law 9)."""
    well = [table for table in tables if table.error is None]
    with ThreadPoolExecutor(TABLES_AT_ONCE, thread_name_prefix="related") as pool, run.client.interruptible():
        for future in [pool.submit(copy_context().run, _guarded, table, work) for table in well]:
            future.result()


def _guarded(table: RelatedTable, work: Callable[[RelatedTable], None]) -> None:
    try:
        work(table)
    except Interrupted:
        raise
    except SyncError as exc:
        table.error = exc
    except Exception as exc:
        log.exception("%s failed", table.spec.logical_name)
        table.error = exc


def _note_references(run: Run, relations: Sequence[Relation], tables: Sequence[RelatedTable]) -> list[RelatedTable]:
    """List what new versions point at; gives the tables of which something is to be asked."""
    with run.database.connection() as conn:
        with run.database.apart(conn):
            due = scans.due(conn, relations)
            if not (due or closure.are_awaited(conn)):
                return []
        for together in _together(due):
            with run.database.transaction(conn):
                fence(conn, run.run_id)
                scans.note_references(conn, together)
        with run.database.transaction(conn):
            fence(conn, run.run_id)
            counts = closure.drop_stored(conn, [table.spec for table in tables])
    return [table for table in tables if counts.get(table.spec.entity_set) and table.error is None]


def _together(due: Iterable[Scan]) -> Iterator[list[Scan]]:
    """Scans that share a transaction, which shall be short: those of large tables have their own."""
    together: list[Scan] = []
    count = 0
    for scan in due:
        more = scan.end - scan.start
        if together and count + more > VERSIONS_TOGETHER:
            yield together
            together, count = [], 0
        together.append(scan)
        count += more
    if together:
        yield together


def _fetch(table: RelatedTable) -> None:
    """Ask for every listed id of one table, and store what comes."""
    with table.stage() as stage:
        batches = table.by_id.batches(_wanted(stage))
        for answer in several_at_once(partial(_ask, table), batches, is_ahead=table.run.workbench.keeps_up):
            with table.run.workbench:
                _store(stage, answer)
            table.run.listener(Progress(table.spec.logical_name, table.stored, is_done=False))


def _wanted(stage: Stage) -> Iterator[str]:
    """Every listed id, a part of the list at a time; what is settled meanwhile lies behind."""
    last = ""
    while True:
        with stage.reading() as conn:
            ids = closure.wanted_ids(conn, stage.table.spec, after=last)
        yield from ids
        if len(ids) < closure.IDS_AT_A_TIME:
            return
        last = ids[-1]


def several_at_once(
    ask: Callable[[Sequence[str]], Answer], batches: Iterable[list[str]], *, is_ahead: Callable[[], bool]
) -> Iterator[Answer]:
    """Answers in the order of the batches; while the caller works on one, the next may be under way.

    Args:
        ask: Gets one batch.
        batches: Ids, consumed as they are needed.
        is_ahead: Whether the next batch is asked for before the caller has done with this one.
    """
    pool = ThreadPoolExecutor(BATCHES_AT_ONCE, thread_name_prefix="ids")
    under_way: deque[Future[Answer]] = deque()
    try:
        for batch in batches:
            under_way.append(pool.submit(copy_context().run, ask, batch))
            if len(under_way) == BATCHES_AT_ONCE or not is_ahead():
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _ask(table: RelatedTable, ids: Sequence[str]) -> Answer:
    answers = table.by_id.ask(ids, lambda some: [*table.channel.pages(table.by_id.address(some))])
    pages = [page for answer in answers for page in answer]
    return Answer(ids, [record for fetched in pages for record in fetched.page.value], pages[-1])


def _store(stage: Stage, answer: Answer) -> None:
    """One batch, one transaction: its records, the list of wanted ids, and the checkpoint."""
    table, now = stage.table, stage.table.sync_time(answer.fetched)
    batch = table.codec.decode(answer.records)
    missing = sorted({*answer.ids}.difference(batch.keys))
    with stage.committing() as state:
        table.lacking.check(stage.conn, batch, answer.fetched.page.metadata_version)
        if stage.history.is_empty:
            counts = records.write_new(stage.history, table.choices, batch, now)
        else:
            counts = records.write(stage.history, table.choices, stage.history.meet(batch), now)
        counts += Counts(closed=_close_missing(stage, missing, now))
        closure.settle(stage.conn, table.spec, came=batch.keys, missing=missing)
        stage.count(state, counts, now)
    table.stored += len(batch)


def _close_missing(stage: Stage, missing: Sequence[str], now: datetime) -> int:
    """Close stored records that did not come, where every one is asked for: only then it may be said (law 3).

    Without a key feed that is a reconcile run alone; with one it is the second look, until it has come to its end.
    """
    table = stage.table
    is_complete = table.state.overlap_due if table.is_tracked else table.run.reconcile
    if not (missing and is_complete):
        return 0
    return stage.history.close_missing(missing, now)


def _end(run: Run, tables: Sequence[RelatedTable]) -> None:
    """Put on record how each table ended, unless the database itself has failed."""
    for table in tables:
        if table.error is None:
            _guarded(table, _announce)
    try:
        with run.database.writing() as conn:
            reports = {table: table.report() for table in tables}
            failed = [table for table in tables if reports[table].status == "failed"]
            checkpoint.write(conn, *(_ended(table) for table in tables if table not in failed))
            for table in failed:
                checkpoint.mark_failed(conn, table.spec)
            now = run.now()
            checkpoint.log_end(conn, *((report, now) for report in reports.values()), run_id=run.run_id)
    except StoreError as exc:
        for table in tables:
            table.error = table.error or exc


def _ended(table: RelatedTable) -> SyncState:
    """The state of a table that did not fail; without a key feed a second look that is due remains so."""
    if table.error is not None:
        return table.state.model_copy(update={"state": "pending"})  # it is none to be read
    is_due = table.state.overlap_due and not table.is_tracked
    return table.state.model_copy(update={"state": "completed", "fresh_columns": "", "overlap_due": is_due})


def _announce(table: RelatedTable) -> None:
    table.run.listener(Progress(table.spec.logical_name, table.stored, is_done=True))
