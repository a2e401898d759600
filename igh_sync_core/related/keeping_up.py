"""Learns what changed in a related table since the last run, and lists it in ``closure`` to be asked by id.

Each page of keys is one transaction with its checkpoint (laws 1 and 3); the records themselves come later, so nothing
is lost if the run ends between the two.
"""

from sqlalchemy import ColumnElement, Connection

from igh_sync_core.errors import LinkMissing, RequestRejected, TokenLost
from igh_sync_core.history import checkpoint
from igh_sync_core.history.staging import is_listed
from igh_sync_core.related import closure, feeds, scans
from igh_sync_core.related.feeds import Feed, FeedKind
from igh_sync_core.related.members import RelatedTable, Stage
from igh_sync_core.report import Counts
from igh_sync_core.schema.tables import EntityTables
from igh_sync_core.store.control import SyncState
from igh_sync_core.sync import strategy
from igh_sync_core.sync.course import check_end
from igh_sync_core.sync.fallbacks import REFUSALS, is_narrowed
from igh_sync_core.sync.strategy import ReadKind, Strategy
from igh_sync_core.webapi.client import Fetched
from igh_sync_core.webapi.keys import Keys, parse_keys
from igh_sync_core.webapi.tombstones import check_delta


def begin(conn: Connection, table: RelatedTable, state: SyncState) -> None:
    """Decide how a table's changes are learnt; the caller puts on record that it is under way.

    Args:
        conn: Inside a transaction.
        table: Its ``state`` and ``feed`` are set.
        state: How far it has come.
    """
    table.state = state
    if table.state.columns_digest is None and not table.state.fresh_columns:
        # Nothing of it is stored, whatever was found before. A delta link is as good as ever: it names what changed
        # since, and all the rest is asked by id after it. What points at it may be set aside or left out of this run,
        # and is gone through whenever it takes part again.
        scans.scan_again(conn)
    table.feed = _first_feed(conn, table)
    _mark(conn, table)


def keep_up(table: RelatedTable) -> None:
    """List every stored record that changed, and close those that were deleted.

    Raises:
        SyncError: Pages before the fault are stored, and the next run goes on from them.
    """
    feed = table.feed
    with table.stage() as stage:
        while feed is not None:
            table.remark(feed.reason)
            try:
                _read(stage, feed)
            except RequestRejected as exc:
                feed = _after_refusal(stage, feed, exc)
            else:
                feed = _following(stage, feed)


def _first_feed(conn: Connection, table: RelatedTable) -> Feed:
    if not table.is_tracked:
        return _untracked_feed(conn, table)
    root = table.run.client.config.api_root
    if table.run.reconcile:
        return feeds.reconciling_feed(table.spec, table.state, table.run.organisation, api_root=root)
    feed = feeds.tracked_feed(table.spec, table.state, table.run.organisation, api_root=root)
    if feed.kind is FeedKind.CHANGES and table.state.overlap_due:
        return _second_look(conn, table)
    return feed


def _following(stage: Stage, done: Feed) -> Feed | None:
    """The second look, where one is due after a read of all keys."""
    if done.kind is not FeedKind.KEYS or not stage.table.state.overlap_due:
        return None
    with stage.reading() as conn:
        return _second_look(conn, stage.table)


def _second_look(conn: Connection, table: RelatedTable) -> Feed:
    return feeds.second_look(table.spec, known=_known(conn, table), api_root=table.run.client.config.api_root)


def _known(conn: Connection, table: RelatedTable) -> int:
    return checkpoint.count_open(conn, table.tables) + closure.count_missing(conn, table.spec)


def _untracked_feed(conn: Connection, table: RelatedTable) -> Feed:
    if table.run.reconcile:
        return Feed(FeedKind.BY_ID, reason="reconciled by asking every record by id")
    members = checkpoint.count_open(conn, table.tables)
    root = table.run.client.config.api_root
    return feeds.untracked_feed(table.spec, table.state, members=members, api_root=root)


def _mark(conn: Connection, table: RelatedTable) -> None:
    """The state of a table under way; records are asked again where their columns changed."""
    state = table.state
    state.state, state.run_id = "in_progress", table.run.run_id
    if state.strategy != Strategy.RELATED:
        state.strategy = Strategy.RELATED
        state.delta_link = state.next_link = state.last_timestamp = None
        state.overlap_due = False
    digest = strategy.digest(table.spec)
    if state.fresh_columns or state.columns_digest not in (None, digest):
        table.remark("the columns changed; every record is asked by id")
        closure.want_all_stored(conn, table.tables)
    state.columns_digest = digest


def _read(stage: Stage, feed: Feed) -> None:
    if feed.kind is FeedKind.BY_ID:
        _want_everything(stage)
        return
    is_first = not feed.is_resumed
    is_tracked = feed.kind is FeedKind.KEYS
    for fetched in stage.table.keys_channel.pages(feed.url, track_changes=is_tracked, annotations=False):
        if is_first and feed.kind is FeedKind.CHANGES:
            check_delta(fetched.page)
        _store(stage, feed, fetched, is_first=is_first)
        is_first = False


def _want_everything(stage: Stage) -> None:
    """List every record; what is asked from now on is as of now, whatever its ``modifiedon``."""
    with stage.committing() as state:
        closure.want_all_stored(stage.conn, stage.table.tables)
        closure.ask_missing_again(stage.conn, stage.table.spec)
        state.last_timestamp = stage.table.run.organisation.server_time
        _abandon(stage, state)


def _store(stage: Stage, feed: Feed, fetched: Fetched, *, is_first: bool) -> None:
    """One page of keys, one transaction.

    Raises:
        LinkMissing: It should end the feed, and does not tell that it does; nothing of it is written.
    """
    check_end(fetched.page, is_tracked=feed.ends_with_link)
    table, now = stage.table, stage.table.sync_time(fetched)
    keys = parse_keys(table.spec, fetched.page)
    is_last = fetched.page.next_link is None
    is_quiet = feed.kind is FeedKind.CHANGES and is_first and is_last and not (keys.versions or keys.deleted)
    # Of a quiet feed there is nothing to write but how far it has come.
    with stage.leaving() if is_quiet else stage.committing() as state:
        if is_first:
            _start(stage, state, feed, fetched)
        if keys.versions:
            closure.want_changed(stage.conn, table.tables, keys.versions)
        closed = _close_deleted(stage, keys, fetched)
        if feed.kind is FeedKind.KEYS:
            closed += _close_absent(stage, keys, fetched, is_last=is_last)
        _advance(state, feed, keys, fetched)
        if is_last and feed.kind is FeedKind.RECENT:
            closure.ask_missing_again(stage.conn, table.spec)
        if is_last and feed.kind is not FeedKind.RECENT:
            _take_link(stage, state, feed, fetched, is_long=not is_first)
        stage.count(state, Counts(closed=closed), now)


def _start(stage: Stage, state: SyncState, feed: Feed, fetched: Fetched) -> None:
    state.read_started, state.read_latest = stage.table.server_time(fetched), None
    _abandon(stage, state)
    if feed.kind is FeedKind.KEYS:
        state.read_kind = ReadKind.SNAPSHOT
        state.delta_link_time = state.delta_link_time or state.read_started
        if not feed.keeps_link:
            state.delta_link = None
        checkpoint.forget_seen(stage.conn, stage.table.spec)


def _abandon(stage: Stage, state: SyncState) -> None:
    """What an unfinished complete read has met counts no more."""
    if state.read_kind is not None:
        checkpoint.forget_seen(stage.conn, stage.table.spec)
    state.next_link = state.read_kind = None


def _take_link(stage: Stage, state: SyncState, feed: Feed, fetched: Fetched, *, is_long: bool) -> None:
    """Take the delta link of a last page, unless it tells too little and an older one is at hand."""
    is_late = feed.kind is FeedKind.KEYS and is_long
    state.overlap_due = is_late and not feed.keeps_link and _known(stage.conn, stage.table) > 0
    if not (is_late and feed.keeps_link):
        state.delta_link, state.delta_link_time = fetched.page.delta_link, stage.table.server_time(fetched)


def _close_deleted(stage: Stage, keys: Keys, fetched: Fetched) -> int:
    if not keys.deleted:
        return 0
    table = stage.table
    stage.history.staging.list_keys(keys.deleted)
    closure.note_deleted(stage.conn, table.tables, is_listed)
    return stage.history.close_deleted(keys.deleted, table.sync_time(fetched))


def _close_absent(stage: Stage, keys: Keys, fetched: Fetched, *, is_last: bool) -> int:
    """Close the stored records that the read of all keys did not meet, once its last page is here (law 3)."""
    table, spec = stage.table, stage.table.spec
    if keys.versions:
        stage.history.staging.list_keys(key for key, _version in keys.versions)
        closure.note_seen(stage.conn, table.tables)
    if not is_last:
        return 0
    closure.note_deleted(stage.conn, table.tables, _was_not_seen)
    closed = stage.history.close_absent(checkpoint.was_seen, table.sync_time(fetched))
    checkpoint.forget_seen(stage.conn, spec)
    return closed


def _was_not_seen(tables: EntityTables) -> ColumnElement[bool]:
    return ~checkpoint.was_seen(tables)


def _advance(state: SyncState, feed: Feed, keys: Keys, fetched: Fetched) -> None:
    """Move the checkpoint past a page."""
    is_complete_read = feed.kind is FeedKind.KEYS
    state.next_link = fetched.page.next_link if is_complete_read else None
    state.read_latest = max(filter(None, (state.read_latest, keys.latest)), default=None)
    if fetched.page.next_link is None:
        state.read_kind = None
        state.last_timestamp = strategy.watermark(state)


def _after_refusal(stage: Stage, feed: Feed, exc: RequestRejected) -> Feed:
    """Another way to the same changes, or the refusal itself."""
    table, why = stage.table, exc.code or exc.status
    root = table.run.client.config.api_root
    if isinstance(exc, TokenLost):
        return feeds.all_keys(table.spec, api_root=root, reason=f"{exc}; all keys read")
    if isinstance(exc, LinkMissing):
        return _without_link(stage, feed, exc)
    if exc.status not in REFUSALS:
        raise exc
    if feed.kind is FeedKind.CHANGES or feed.is_resumed:
        return feeds.all_keys(table.spec, api_root=root, reason=f"the stored link was refused ({why}); all keys read")
    if feed.kind is FeedKind.KEYS:
        if is_narrowed(exc, table.state):
            raise exc
        table.remark(f"change tracking was refused ({why}); deletions are found by reconcile runs alone")
        return _untracked(stage)
    return Feed(FeedKind.BY_ID, reason=f"the query by modifiedon was refused ({why})")


def _without_link(stage: Stage, feed: Feed, exc: LinkMissing) -> Feed:
    """After a feed that has not ended: all keys, or of all keys nothing, and a stored link stays for the next run."""
    table, root = stage.table, stage.table.run.client.config.api_root
    if feed.kind is FeedKind.CHANGES:
        return feeds.all_keys(table.spec, api_root=root, reason=f"{exc}; all keys read")
    told = table.state.delta_link_time or table.run.organisation.server_time
    table.state = table.state.model_copy(update={"delta_link_time": told})
    table.remark(f"{exc}; deletions are found once there is one, or by reconcile runs")
    return _untracked(stage)


def _untracked(stage: Stage) -> Feed:
    """The way without tracking, for this run."""
    stage.table.is_tracked = False
    with stage.reading() as conn:
        return _untracked_feed(conn, stage.table)
