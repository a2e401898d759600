"""What to do instead where the server refuses a read: another complete way to the same records, or none. Pure."""

from enum import Enum, auto
from http import HTTPStatus

from igh_sync_core.errors import LinkMissing, RequestRejected, TokenLost
from igh_sync_core.model import TableSpec
from igh_sync_core.store.control import SyncState
from igh_sync_core.sync.strategy import Read, ReadKind, Strategy

REFUSALS = (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.GONE)
"""Answers that may be about the way of asking rather than about the table."""


class Way(Enum):
    """What is done instead: everything read, the same without its order or untracked, or keys and versions compared."""

    WHOLE = auto()
    UNORDERED = auto()
    UNTRACKED = auto()
    SWEEP = auto()


def after_refusal(
    refusal: RequestRejected, read: Read, spec: TableSpec, state: SyncState, *, is_answered: bool
) -> tuple[Way, str]:
    """Another way to what a refused read was to bring, and why, in words for the report.

    Args:
        refusal: What the server said, or that it answered something else.
        read: What it said it to.
        spec: The entity.
        state: How far it has come; what it says of an unfinished read may be of an earlier one.
        is_answered: Whether pages of this read came before, so that it is not the way of asking that is refused.

    Raises:
        RequestRejected: The refusal itself, where there is no other way.
    """
    if isinstance(refusal, (TokenLost, LinkMissing)):
        return _without_link(refusal, read)
    why = refusal.code or refusal.status
    if refusal.status not in REFUSALS:
        raise refusal
    if read.kind is ReadKind.DELTA or read.is_resumed:
        return Way.WHOLE, f"the stored link was refused ({why}); read whole"
    if read.kind is ReadKind.INCREMENT:
        return _instead_of_increment(read, spec, state, why)
    is_way = read.track_changes and not is_answered
    if is_way and not is_narrowed(refusal, state):
        return Way.UNTRACKED, f"change tracking was refused ({why})"
    raise refusal


def _without_link(refusal: RequestRejected, read: Read) -> tuple[Way, str]:
    if read.kind is ReadKind.DELTA:
        return Way.WHOLE, f"{refusal}; read whole"
    # Where the server never gives one that happens in every run, unless another strategy is demanded.
    return Way.UNTRACKED, f"{refusal}; read whole, untracked"


def _instead_of_increment(read: Read, spec: TableSpec, state: SyncState, why: str | int | None) -> tuple[Way, str]:
    if "$orderby" in read.url:
        return Way.UNORDERED, "$orderby was refused; read in key order"
    if state.overlap_due and spec.has_version:
        # A sweep follows anyway.
        return Way.SWEEP, f"the filter on modifiedon was refused ({why}); keys and versions are compared instead"
    return Way.WHOLE, f"the filter on modifiedon was refused ({why}); read whole"


def is_narrowed(refusal: RequestRejected, state: SyncState) -> bool:
    """Whether a refusal of change tracking says that the user may not read every record any more.

    The server tells changes only to those who may; read otherwise, what the user cannot see would count as gone.

    Args:
        refusal: What the server said.
        state: How far the table has come; whether it ever was read with tracking, though the last read was not.
    """
    return refusal.status == HTTPStatus.FORBIDDEN and _was_tracked(state)


def _was_tracked(state: SyncState) -> bool:
    is_under_way = state.strategy == Strategy.RELATED and state.next_link is not None  # of a tracked read of all keys
    return is_under_way or state.strategy == Strategy.DELTA or state.delta_link_time is not None
