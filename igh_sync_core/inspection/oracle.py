"""Foretells what a run would do with one entity, from what is known before it: metadata, checkpoint, counts, rows.

Takes the same decisions by the same functions as a run does, and asks the database only; ``estimate`` asks the source
for its counts and sizes. Of a related table it cannot know everything: which records are wanted shows only while the
others are read.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

import msgspec
from sqlalchemy import Connection
from sqlalchemy.schema import ExecutableDDLElement

from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.errors import SchemaError
from igh_sync_core.history import checkpoint
from igh_sync_core.inspection.estimate import Pages, ids_per_request
from igh_sync_core.inspection.forecast import Forecast
from igh_sync_core.model import LogicalName, Organisation, TableSpec
from igh_sync_core.preparation.takeover import Takeover
from igh_sync_core.related import closure, feeds
from igh_sync_core.related.feeds import Feed, FeedKind
from igh_sync_core.related.relations import Relation
from igh_sync_core.schema.outline import Work
from igh_sync_core.schema.shapes import Stored
from igh_sync_core.schema.tables import entity_tables
from igh_sync_core.store.control import SyncState
from igh_sync_core.sync import strategy
from igh_sync_core.sync.ranges import PIECES
from igh_sync_core.sync.strategy import Plan, Read, Strategy
from igh_sync_core.webapi.client import Client
from igh_sync_core.webapi.odata import MAX_PAGE_SIZE


@dataclass(frozen=True)
class Oracle:
    """Foretells entity by entity; writes nothing.

    Attributes:
        conn: The database.
        organisation: Whose copy it is.
        client: The wire.
        stored: What the database holds as it is.
        states: How far each entity has come, by name.
        relations: Between the tables of the run, to related ones.
        totals: Records by logical name as the server counts them, for those that have a count.
        takeovers: Tables that the run would take over first.
        page_size: Rows a page would have.
    """

    conn: Connection
    organisation: Organisation
    client: Client
    stored: Stored
    states: Mapping[str, SyncState]
    relations: Sequence[Relation]
    totals: Mapping[str, int] = field(default_factory=dict)
    takeovers: Mapping[LogicalName, Takeover] = field(default_factory=dict)
    page_size: int = MAX_PAGE_SIZE

    @property
    def api_root(self) -> str:
        """Root of the Web API, ending in "/"."""
        return self.client.config.api_root

    def forecast(self, entity: EntityConfig, work: Work) -> Forecast:
        """What a run would do with one entity whose table fits, once the statements of *work* are executed."""
        spec = work.spec
        takeover = self.takeovers.get(spec.logical_name)
        ddl = self.spell((*(takeover.statements if takeover else ()), *work.statements))
        try:
            chosen = strategy.choose(spec, entity)
        except SchemaError as exc:
            return Forecast(entity=entity.name, table=spec.entity_set, reason=str(exc), ddl=ddl, error=str(exc))
        reasons = (f"taken over with {takeover.versions} versions" if takeover else "", chosen.reason)
        told = Forecast(
            entity=entity.name, table=spec.entity_set, strategy=chosen.strategy, reason=_joined(reasons), ddl=ddl
        )
        state = self._state(work, takeover)
        if chosen.strategy is Strategy.RELATED:
            return self._related(told, spec, state)
        return self._whole(told, spec, chosen, state)

    def spell(self, statements: Iterable[ExecutableDDLElement]) -> tuple[str, ...]:
        """Statements as the database's engine takes them."""
        return tuple(str(one.compile(dialect=self.conn.dialect)).strip() for one in statements)

    def _state(self, work: Work, takeover: Takeover | None) -> SyncState:
        """How far the entity will have come once its tables fit; see ``schema``."""
        name = work.spec.entity_set
        state = takeover.state if takeover else self.states.get(name) or SyncState(entity_name=name)
        state = state.model_copy()
        if work.is_new or work.fresh:
            state.columns_digest = None
            state.fresh_columns = ",".join(sorted(work.fresh))
        return state

    def _whole(self, told: Forecast, spec: TableSpec, chosen: Plan, state: SyncState) -> Forecast:
        read = strategy.next_read(spec, chosen, state, api_root=self.api_root, organisation=self.organisation)
        told = msgspec.structs.replace(told, read=read.kind, reason=_joined((told.reason, read.reason)))
        if not read.is_complete:
            return msgspec.structs.replace(told, requests=1)
        return self._complete(told, spec, read, ranges=1 if read.is_resumed else chosen.ranges)

    def _complete(self, told: Forecast, spec: TableSpec, read: Read, *, ranges: int) -> Forecast:
        rows = self.totals.get(spec.logical_name)
        # As if the ranges were equal; the oldest and the newest record tell where they lie.
        chains = ranges * PIECES if ranges > 1 and rows != 0 else 1
        pages = Pages(self.client, spec, self.page_size).count(*[ceil((rows or 0) / chains)] * chains)
        cutting = _OLDEST_AND_NEWEST if ranges > 1 else 0
        requests = pages + cutting + (self._afterwards(spec, rows, pages) if read.track_changes else 0)
        is_whole = rows is not None and not read.is_resumed
        return msgspec.structs.replace(told, rows=rows, requests=requests, is_whole=is_whole)

    def _afterwards(self, spec: TableSpec, rows: int | None, pages: int) -> int:
        """After a tracked read: what was modified meanwhile; after several pages, all keys and versions as well."""
        swept = self._key_pages(rows) if pages > 1 and spec.has_version else 0
        return int(spec.has_modified_on) + swept

    def _key_pages(self, rows: int | None) -> int:
        """Keys travel in full pages, however wide the table."""
        return max(1, ceil((rows or 0) / self.page_size))

    def _related(self, told: Forecast, spec: TableSpec, state: SyncState) -> Forecast:
        members = self._members(spec)
        feed = self._feed(spec, state, members)
        # As ``keeping_up`` decides: columns that changed are filled by asking for every record.
        is_moved = bool(state.fresh_columns) or state.columns_digest not in (None, strategy.digest(spec))
        asks_all = feed.kind is FeedKind.BY_ID or (is_moved and members > 0)
        known = self._awaited(spec, with_changed=not asks_all)
        ids = known + (members if asks_all else 0) + self._asked_again(spec)
        requests = self._feed_requests(spec, feed) + self._id_requests(spec, ids)
        is_alone = not (members or self._others(spec))
        moved = f"the columns changed; all {members} stored are asked by id" if is_moved and members else ""
        reasons = (told.reason, feed.reason, self._changes(spec, feed, members), moved, _references(known))
        return msgspec.structs.replace(
            told,
            read=feed.kind,
            reason=_joined((*reasons, self._rest(spec))),
            rows=ids if ids or is_alone else None,
            rows_at_most=None if is_alone else self.totals.get(spec.logical_name),
            requests=requests,
        )

    def _others(self, spec: TableSpec) -> Collection[TableSpec]:
        """Tables that may point at a related one, itself left aside."""
        return dict.fromkeys(one.source for one in self.relations if one.target == spec != one.source)

    def _feed(self, spec: TableSpec, state: SyncState, members: int) -> Feed:
        if spec.is_tracked:
            return feeds.tracked_feed(spec, state, self.organisation, api_root=self.api_root)
        return feeds.untracked_feed(spec, state, members=members, api_root=self.api_root)

    def _members(self, spec: TableSpec) -> int:
        return checkpoint.count_open(self.conn, entity_tables(spec)) if self._is_stored(spec) else 0

    def _awaited(self, spec: TableSpec, *, with_changed: bool) -> int:
        if self._is_stored(spec) and not self._holds(spec, spec.key):
            return 0
        tables, relations = self.stored.tables, [one for one in self.relations if self._is_followed(one)]
        return closure.count_awaited(self.conn, spec, relations, stored=tables, with_changed=with_changed)

    def _is_followed(self, relation: Relation) -> bool:
        """Whether stored rows tell where they point: the run may have columns to add first."""
        source, told = relation.source, (relation.column, relation.type_column or relation.column)
        return self._is_stored(source) and all(self._holds(source, name) for name in told)

    def _holds(self, spec: TableSpec, name: str) -> bool:
        return self.stored.column_type(str(entity_tables(spec).main.name), name) is not None

    def _asked_again(self, spec: TableSpec) -> int:
        """Ids asked in vain before; only key feeds of tracked tables tell when they appear."""
        return 0 if spec.is_tracked else closure.count_missing(self.conn, spec, stored=self.stored.tables)

    def _feed_requests(self, spec: TableSpec, feed: Feed) -> int:
        match feed.kind:
            case FeedKind.BY_ID:
                return 0
            case FeedKind.KEYS if not feed.is_resumed:
                return self._key_pages(self.totals.get(spec.logical_name))
            case _:
                return 1

    def _id_requests(self, spec: TableSpec, ids: int) -> int:
        """Requests for so many records by id: each names as many as a page should hold."""
        pages = Pages(self.client, spec, self.page_size)
        return pages.count_batches(ids, most=ids_per_request(spec, self.api_root))

    def _changes(self, spec: TableSpec, feed: Feed, members: int) -> str:
        """Where the changes of what is stored come from."""
        match feed.kind:
            case FeedKind.KEYS:
                total = self.totals.get(spec.logical_name)
                return f"all {'' if total is None else f'{total} '}keys are read first; later runs get the changed ones"
            case FeedKind.CHANGES:
                return "changed and deleted keys from its delta link"
            case FeedKind.RECENT:
                return "no change tracking; keys changed since the last run, by modifiedon"
            case FeedKind.BY_ID:
                return f"no change tracking; the {members} records stored are asked by id" if members else ""

    def _rest(self, spec: TableSpec) -> str:
        """What cannot be known, and its bounds."""
        others = self._others(spec)
        if not others:
            return "no other table copied points at it"
        if unread := sum(not self._is_read(source) for source in others):
            return f"the rest depends on the tables not read yet that point at it ({unread}){self._at_most(spec)}"
        return "more where records that change point at others"

    def _at_most(self, spec: TableSpec) -> str:
        total = self.totals.get(spec.logical_name)
        if total is None:
            return ""
        return f", at most the {total} there are, in about {self._id_requests(spec, total)} requests more"

    def _is_read(self, source: TableSpec) -> bool:
        """Whether a table holds what a run before has read."""
        takeover = self.takeovers.get(source.logical_name)
        state = takeover.state if takeover else self.states.get(source.entity_set)
        return state is not None and state.last_sync_time is not None and self._is_stored(source)

    def _is_stored(self, spec: TableSpec) -> bool:
        return entity_tables(spec).main.name in self.stored.tables


_OLDEST_AND_NEWEST = 2


def _references(known: int) -> str:
    return f"{known} that stored rows point at are not stored yet" if known else ""


def _joined(reasons: Iterable[str]) -> str:
    return "; ".join(filter(None, reasons))
