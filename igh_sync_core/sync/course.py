"""The course of an entity: what its state becomes with each page of a read, and how it ended. Pure."""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from igh_sync_core.errors import LinkMissing, RequestRejected, in_words, may_pass
from igh_sync_core.model import TableSpec
from igh_sync_core.report import EntityReport
from igh_sync_core.store.control import SyncState
from igh_sync_core.sync import strategy
from igh_sync_core.sync.strategy import Plan, Read, ReadKind
from igh_sync_core.webapi.odata import Page
from igh_sync_core.webapi.tombstones import check_delta

_FORM = 1
"""Moves when records become rows in another way, so that pages that came before are looked at again."""

_NO_LISTS = "0x80040800"
"""Some tables of the system's own can be asked for single records alone."""


@dataclass(frozen=True)
class Step:
    """A page that was stored.

    Attributes:
        read: What it belongs to.
        page: The page.
        time: On the server's clock, when it was given.
        latest: The largest ``modifiedon`` in it.
        is_long: Whether the complete read had pages before it.
    """

    read: Read
    page: Page
    time: datetime
    latest: datetime | None
    is_long: bool


def ended_by(error: BaseException, report: EntityReport) -> EntityReport:
    """The report of an entity that could not be synced: failed, or skipped where its table is none to be read."""
    if isinstance(error, RequestRejected) and error.code == _NO_LISTS:
        reason = f"the environment gives no list of its records ({error.code}); leave it out of the entities file"
        return msgspec.structs.replace(report, status="skipped", reason=reason)
    return msgspec.structs.replace(report, status="failed", error=in_words(error), retryable=may_pass(error))


class Outcome(NamedTuple):
    """How an entity ended.

    Attributes:
        report: What happened.
        unwritten: Where nothing had changed, the state that is still to be put on record, and the line in ``_sync_log``
            to be completed: small things, which several entities may share a transaction for.
    """

    report: EntityReport
    unwritten: SyncState | None


def begin(state: SyncState, read: Read, spec: TableSpec, plan: Plan, time: datetime) -> None:
    """Begin a new read; what an earlier one left half done no longer counts.

    Args:
        state: Is changed.
        read: The read; a repair moves nothing.
        spec: The entity.
        plan: How it is read.
        time: On the server's clock, when it gave the first page.
    """
    if read.kind is ReadKind.REPAIR:
        return
    state.state, state.strategy = "in_progress", plan.strategy
    state.columns_digest = strategy.digest(spec)
    if read.is_complete or not state.overlap_due:
        state.read_started = time
    state.read_latest = state.next_link = None
    state.read_kind = read.kind if read.is_complete else None
    if read.is_complete:
        state.delta_link = state.last_timestamp = None
    if read.track_changes:
        state.delta_link_time = state.delta_link_time or time


def advance(state: SyncState, step: Step, spec: TableSpec) -> None:
    """Move the checkpoint past a stored page; only a read's last page completes anything.

    Args:
        state: Is changed.
        step: The page; one of a repair moves nothing.
        spec: The entity.
    """
    read, page = step.read, step.page
    if read.kind is ReadKind.REPAIR:
        return
    state.read_latest = max(filter(None, (state.read_latest, step.latest)), default=None)
    if page.next_link is not None:
        state.next_link = page.next_link if read.is_complete else None
        return
    state.state = "completed"
    state.next_link = state.read_kind = None
    state.last_timestamp = strategy.watermark(state)
    if read.kind is ReadKind.INCREMENT:
        state.overlap_due &= step.is_long
    elif read.kind is ReadKind.DELTA or read.track_changes:
        state.delta_link, state.delta_link_time = page.delta_link, step.time
    if read.is_complete:
        state.overlap_due = read.track_changes and (step.is_long or spec.has_modified_on)
        state.fresh_columns = ""


def page_digest(spec: TableSpec, page: Page) -> str:
    """Fingerprint of a page's records, byte for byte and in their order, and of the table they are stored in."""
    told = blake2b(_form(spec), digest_size=16)
    told.update(b"".join(page.value))
    return told.hexdigest()


@lru_cache(maxsize=1024)
def _form(spec: TableSpec) -> bytes:
    return blake2b(msgspec.json.encode((_FORM, spec))).digest()


def check_begin(read: Read, page: Page) -> None:
    """A read of changes begins with changes.

    Raises:
        TokenLost: It begins with all records instead.
    """
    if read.kind is ReadKind.DELTA:
        check_delta(page)


def check_end(page: Page, *, is_tracked: bool) -> None:
    """A tracked read ends with a delta link, or it has not ended (law 7).

    Raises:
        LinkMissing: It has not.
    """
    if is_tracked and page.next_link is None and page.delta_link is None:
        raise LinkMissing
