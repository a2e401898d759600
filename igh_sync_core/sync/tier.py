"""The entities of one tier: each begun, synced, and its failure put on record; one bad one stops no other."""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime

import msgspec

from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.errors import Interrupted, SchemaError, StoreError, SyncError
from igh_sync_core.history import checkpoint
from igh_sync_core.metadata import catalog
from igh_sync_core.metadata.catalog import Entry
from igh_sync_core.model import LogicalName, TableSpec
from igh_sync_core.report import EntityReport
from igh_sync_core.store.control import SyncState
from igh_sync_core.store.driver import store_errors
from igh_sync_core.sync import strategy
from igh_sync_core.sync.course import Outcome, ended_by
from igh_sync_core.sync.entity import sync_entity
from igh_sync_core.sync.options import Options
from igh_sync_core.sync.run import Run

log = logging.getLogger(__name__)


_Ended = tuple[Outcome, datetime]
"""How an entity ended, and when."""


@dataclass(frozen=True)
class _Start:
    """What is known of an entity when it begins: its table, unless it is set aside, and how far it has come."""

    entry: Entry
    state: SyncState | StoreError | None


def sync_tier(run: Run, tier: Sequence[EntityConfig], options: Options) -> list[EntityReport]:
    """Sync several unfiltered entities at once; what failed is in its report.

    Raises:
        StoreError: None of them can be begun.
        Interrupted: The run is being ended; what was stored of each stays.
    """
    starts = dict(zip(tier, _begin(run, tier), strict=True))
    outcomes: list[_Ended] = []

    def kept(outcome: Outcome) -> EntityReport:
        outcomes.append((outcome, run.now()))
        return outcome.report

    def one(entity: EntityConfig) -> EntityReport:
        report = guarded(lambda entity: kept(_sync(run, entity, starts[entity])), entity)
        options.on_report(report)
        return report

    pool = ThreadPoolExecutor(options.concurrency, thread_name_prefix="sync")
    try:
        # Each thread works in a copy of the caller's context, so that its log records belong to the caller's run.
        with run.client.interruptible():
            futures = [pool.submit(copy_context().run, one, entity) for entity in tier]
            reports = [future.result() for future in futures]
    finally:
        pool.shutdown(cancel_futures=True)
        lost = _lost(run, outcomes)
    for report in lost.values():
        options.on_report(report)
    return [lost.get(report.entity, report) for report in reports]


def guarded(work: Callable[[EntityConfig], EntityReport], entity: EntityConfig) -> EntityReport:
    """One bad entity never stops the others (law 9); an interruption does.

    Raises:
        Interrupted: The run is being ended.
    """
    try:
        return work(entity)
    except Interrupted:
        raise
    except SyncError as exc:
        return failed(entity, exc)
    except Exception as exc:
        log.exception("%s failed", entity.name)
        return failed(entity, exc)


def sync_one(run: Run, entity: EntityConfig) -> EntityReport:
    """Sync one entity and log it in ``_sync_log``.

    Raises:
        SyncError: It failed; the failure is on record, and what was stored before stays.
    """
    [start] = _begin(run, [entity])
    outcome = _sync(run, entity, start)
    _put_on_record(run, [(outcome, run.now())])
    return outcome.report


def _begin(run: Run, entities: Sequence[EntityConfig]) -> list[_Start]:
    """Open the lines of several entities in ``_sync_log``, and read what is known of them."""
    with run.database.writing() as conn:
        entries = catalog.kept_entries(conn, [LogicalName(entity.name) for entity in entities])
        begun = [
            entry.spec for entity, entry in zip(entities, entries, strict=True) if entry.spec and not entity.filtered
        ]
        checkpoint.log_start(conn, *begun, run_id=run.run_id, now=run.now())
        # That one cannot be read is the entity's own failure, told when its turn comes (law 9).
        states = iter(checkpoint.read_all(conn, [entry.spec for entry in entries if entry.spec]))
        return [_Start(entry, next(states) if entry.spec else None) for entry in entries]


def _put_on_record(run: Run, outcomes: Sequence[_Ended]) -> None:
    """Write what entities without news have left to be written, all in one transaction."""
    left = [(outcome, end) for outcome, end in outcomes if outcome.unwritten]
    if left:
        with run.database.writing() as conn:
            checkpoint.log_end(conn, *((outcome.report, end) for outcome, end in left), run_id=run.run_id)
            checkpoint.write(conn, *(outcome.unwritten for outcome, _end in left if outcome.unwritten))


def _lost(run: Run, outcomes: Sequence[_Ended]) -> dict[str, EntityReport]:
    """Put them on record; gives the reports of those that it was in vain for, by entity."""
    try:
        _put_on_record(run, outcomes)
    except StoreError as exc:
        told = (outcome.report for outcome, _end in outcomes if outcome.unwritten)
        return {one.entity: ended_by(exc, one) for one in told}
    return {}


def _sync(run: Run, entity: EntityConfig, start: _Start) -> Outcome:
    spec, state = start.entry.spec, start.state
    if spec is None or state is None:
        return Outcome(_set_aside(entity, start.entry.fault), None)
    if entity.filtered:
        return Outcome(_skipped(entity, "filtered entities are synced together, by sync_related_tier"), None)
    begun = time.monotonic()
    try:
        return _synced(run, spec, entity, state)
    except Exception as exc:
        report = msgspec.structs.replace(failed(entity, exc), seconds=round(time.monotonic() - begun, 3))
        _log_failure(run, spec, report)
        if report.status == "failed":
            raise
        return Outcome(report, None)


def _synced(run: Run, spec: TableSpec, entity: EntityConfig, state: SyncState | StoreError) -> Outcome:
    if isinstance(state, StoreError):
        raise state
    # The driver's own errors tell values, and the failure goes on record (law 10).
    with store_errors(), run.database.lease() as lease:
        return sync_entity(run, lease, spec, strategy.choose(spec, entity), state)


def failed(entity: EntityConfig, exc: BaseException) -> EntityReport:
    """The report of an entity that could not be synced; one that is no fault counts as skipped."""
    return ended_by(exc, EntityReport(entity=entity.name, table=entity.api_name))


def _set_aside(entity: EntityConfig, fault: str) -> EntityReport:
    if fault:
        raise SchemaError(fault)
    return _skipped(entity, "not in the environment's metadata; check its name in the entities file")


def _skipped(entity: EntityConfig, reason: str) -> EntityReport:
    return EntityReport(entity=entity.name, table=entity.api_name, status="skipped", reason=reason)


def _log_failure(run: Run, spec: TableSpec, report: EntityReport) -> None:
    """Record how it ended, unless it is the database itself that failed."""
    with contextlib.suppress(SyncError), run.database.writing() as conn:
        # Its line has the name that metadata tells, which the entities file may spell otherwise.
        told = msgspec.structs.replace(report, table=spec.entity_set)
        checkpoint.log_end(conn, (told, run.now()), run_id=run.run_id)
        if report.status == "failed":
            checkpoint.mark_failed(conn, spec)
