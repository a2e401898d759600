"""How a related table tells what changed, in the fewest requests; only keys travel, records are asked by id.

- **Tracked**: a key-only delta feed. Its first link costs one read of all keys and version numbers, 5000 a page, since
  the Web API gives a delta link at the end of a whole read only. That read comes *before* any record is asked by id, so
  nothing that is stored afterwards can have changed before the link. From then on one request per run names every
  change and deletion. The same read, with members present, is a reconciliation: it closes what is absent and finds what
  differs.
- **Members present, and more than one page of keys**: the link at the end tells nothing of what happened since the
  pages before were given. An older link that still holds therefore stays, and the next run asks it. Where there is
  none a second look follows: every member by id as long as one request holds them all, else all keys once more, and
  now the link of the first read is the older one.
- **Not tracked**: members are asked by id as long as one request holds them all; above that, one query by
  ``modifiedon`` over the whole table names the changed keys. Deletions are found when a reconcile run asks for every
  member by id.

Pure; the list of wanted ids is kept in ``closure``.
"""

from dataclasses import dataclass
from enum import StrEnum

from igh_sync_core.config.addresses import is_under
from igh_sync_core.model import Organisation, TableSpec
from igh_sync_core.store.control import SyncState
from igh_sync_core.sync.strategy import ADDRESS_CHANGED, Strategy, overlapping, why_expired
from igh_sync_core.webapi.keys import columns_of_keys
from igh_sync_core.webapi.odata import MAX_CONDITIONS, datetime_literal, entity_url


class FeedKind(StrEnum):
    """Where the changes of stored related records are learnt from."""

    KEYS = "keys"
    CHANGES = "changes"
    RECENT = "recent"
    BY_ID = "by_id"


@dataclass(frozen=True)
class Feed:
    """One way to learn what changed.

    Attributes:
        kind: ``keys`` is complete, so that absent records may be closed at its end (law 3).
        url: Its first page; "" for ``by_id``, where records are asked themselves.
        reason: Why this one, for the report; "" where it is the usual one.
        is_resumed: Whether it goes on at a stored next link.
        keeps_link: Whether the stored delta link is older than this read, and tells what happens while it is under way.
    """

    kind: FeedKind
    url: str = ""
    reason: str = ""
    is_resumed: bool = False
    keeps_link: bool = False

    @property
    def ends_with_link(self) -> bool:
        """Whether its last page tells where the next changes are asked."""
        return self.kind in (FeedKind.KEYS, FeedKind.CHANGES)


def tracked_feed(spec: TableSpec, state: SyncState, organisation: Organisation, *, api_root: str) -> Feed:
    """The delta feed, or the read of all keys where there is no link that can be trusted."""
    if state.strategy != Strategy.RELATED:
        return all_keys(spec, api_root=api_root, reason="")
    link = state.next_link or state.delta_link
    if not link:
        return all_keys(spec, api_root=api_root, reason="")
    if not is_under(link, api_root):
        return all_keys(spec, api_root=api_root, reason=ADDRESS_CHANGED)
    if state.next_link:
        on = "goes on after its last stored page of keys"
        return Feed(FeedKind.KEYS, link, on, is_resumed=True, keeps_link=state.delta_link is not None)
    if reason := why_expired(state, organisation):
        return all_keys(spec, api_root=api_root, reason=reason)
    return Feed(FeedKind.CHANGES, link)


def reconciling_feed(spec: TableSpec, state: SyncState, organisation: Organisation, *, api_root: str) -> Feed:
    """The read of all keys, beside the delta link where there is one that can be trusted."""
    begun = state.model_copy(update={"next_link": None})
    is_trusted = tracked_feed(spec, begun, organisation, api_root=api_root).kind is FeedKind.CHANGES
    reason = "reconciled with all keys and version numbers"
    return all_keys(spec, api_root=api_root, reason=reason, keeps_link=is_trusted)


def second_look(spec: TableSpec, *, known: int, api_root: str) -> Feed:
    """After a read of all keys in several pages: the fewest requests that find what happened meanwhile.

    Args:
        spec: The related table; the delta link at the end of that read is stored.
        known: Current records stored, and ids asked in vain, which may be there by now.
        api_root: Root of the Web API, ending in "/".
    """
    if known <= MAX_CONDITIONS:
        return Feed(FeedKind.BY_ID, reason="asked by id for what happened meanwhile")
    return all_keys(spec, api_root=api_root, reason="all keys again for what happened meanwhile", keeps_link=True)


def all_keys(spec: TableSpec, *, api_root: str, reason: str, keeps_link: bool = False) -> Feed:
    """Every key with its version number, and a delta link at the end."""
    url = entity_url(api_root, spec.entity_set, select=columns_of_keys(spec))
    return Feed(FeedKind.KEYS, url, reason, keeps_link=keeps_link)


def untracked_feed(spec: TableSpec, state: SyncState, *, members: int, api_root: str) -> Feed:
    """The cheapest way without change tracking.

    Args:
        spec: The related table.
        state: How far it has come.
        members: Current records stored.
        api_root: Root of the Web API, ending in "/".
    """
    if members <= MAX_CONDITIONS or not spec.has_modified_on:
        return Feed(FeedKind.BY_ID)
    if state.strategy != Strategy.RELATED or state.last_timestamp is None:
        return Feed(FeedKind.BY_ID, reason="how far it had come is not known; every record is asked by id")
    where = f"modifiedon ge {datetime_literal(overlapping(state.last_timestamp))}"
    return Feed(FeedKind.RECENT, entity_url(api_root, spec.entity_set, select=columns_of_keys(spec), where=where))
