"""How an entity is read: the strategy from metadata, and the next read from the strategy and the checkpoint.

Pure: nothing here asks the network or the database.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache

from msgspec import Struct

from igh_sync_core.config.addresses import is_under
from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.errors import SchemaError
from igh_sync_core.instants import EARLIEST
from igh_sync_core.model import Organisation, TableSpec
from igh_sync_core.store.control import SyncState
from igh_sync_core.webapi.odata import datetime_literal, entity_url

OVERLAP = timedelta(minutes=10)
"""How far before the watermark is read again: rows committed late carry an older ``modifiedon`` (law 2)."""

ADDRESS_CHANGED = "the address of the environment changed; read whole"

TOKEN_MARGIN = timedelta(days=1)
"""How long before its announced end a delta link counts as expired: past it the server may silently omit deletions."""


class Strategy(StrEnum):
    """Where an entity's changes come from."""

    DELTA = "delta"
    MODIFIEDON = "modifiedon"
    SNAPSHOT = "snapshot"
    RELATED = "related"


class Plan(Struct, frozen=True):
    """How an entity is read.

    Attributes:
        strategy: Where its changes come from.
        reason: Why.
        ranges: How many ranges of ``createdon`` a complete read asks for at once; 1 for none.
    """

    strategy: Strategy
    reason: str
    ranges: int = 1


class ReadKind(StrEnum):
    """What a read's pages are part of (law 3)."""

    FIRST = "first"
    SNAPSHOT = "snapshot"
    DELTA = "delta"
    INCREMENT = "increment"
    REPAIR = "repair"


@dataclass(frozen=True)
class Read:
    """One read of an entity.

    Attributes:
        kind: ``first`` and ``snapshot`` are complete; only a complete ``snapshot`` or a tombstone closes rows.
            ``repair`` asks for single records and moves no checkpoint.
        url: Where its first page is asked; of a read in ranges, an address a line.
        track_changes: Whether a delta link is wanted at its end.
        reason: Why this read, in words for the report; "" where the strategy says it all.
        is_resumed: Whether it goes on at a stored next link.
    """

    kind: ReadKind
    url: str
    track_changes: bool = False
    reason: str = ""
    is_resumed: bool = False

    @property
    def starts(self) -> tuple[str, ...]:
        """Where each of its chains of pages begins."""
        return tuple(self.url.splitlines())

    @property
    def is_complete(self) -> bool:
        """Whether it covers every record of the entity."""
        return self.kind in (ReadKind.FIRST, ReadKind.SNAPSHOT)

    @property
    def ends_with_link(self) -> bool:
        """Whether its last page tells where the next changes are asked."""
        return self.track_changes or self.kind is ReadKind.DELTA


def choose(spec: TableSpec, entity: EntityConfig) -> Plan:
    """Choose the strategy of one entity.

    Raises:
        SchemaError: The entities file demands a strategy, or ranges, that the table does not allow.
    """
    chosen = _chosen(spec, entity)
    if entity.ranges <= 1:
        return chosen
    if chosen.strategy not in (Strategy.MODIFIEDON, Strategy.SNAPSHOT):
        msg = (
            f'{spec.logical_name}: "ranges" need "strategy": "modifiedon" or "snapshot" beside them; '
            f"a read for strategy {chosen.strategy.value!r} allows no filter"
        )
        raise SchemaError(msg)
    if "createdon" not in spec.names:
        msg = f'{spec.logical_name}: "ranges" need a createdon column; drop them'
        raise SchemaError(msg)
    return Plan(chosen.strategy, f"{chosen.reason}; complete reads {in_ranges(entity.ranges)}", entity.ranges)


def in_ranges(count: int) -> str:
    """What people read of a read in ranges."""
    return f"in ranges of createdon, {count} at once"


def as_one(addresses: Iterable[str]) -> str:
    """Several addresses as one text, which ``Read.starts`` takes apart again."""
    return "\n".join(addresses)


def _chosen(spec: TableSpec, entity: EntityConfig) -> Plan:
    if entity.filtered:
        return Plan(Strategy.RELATED, "filtered: only records that synced rows point at")
    if entity.strategy:
        return _demanded(spec, Strategy(entity.strategy))
    if spec.is_tracked:
        return Plan(Strategy.DELTA, "change tracking is on")
    if spec.has_modified_on:
        return Plan(Strategy.MODIFIEDON, "no change tracking; has modifiedon")
    return Plan(Strategy.SNAPSHOT, "neither change tracking nor modifiedon")


def _demanded(spec: TableSpec, strategy: Strategy) -> Plan:
    if strategy is Strategy.DELTA and not spec.is_tracked:
        msg = f"{spec.logical_name}: strategy 'delta' needs change tracking; switch it on in Dataverse or drop it"
        raise SchemaError(msg)
    if strategy is Strategy.MODIFIEDON and not spec.has_modified_on:
        msg = f"{spec.logical_name}: strategy 'modifiedon' needs a modifiedon column; use 'snapshot'"
        raise SchemaError(msg)
    if strategy is Strategy.RELATED:
        msg = f"{spec.logical_name}: strategy 'related' needs \"filtered\": true beside it"
        raise SchemaError(msg)
    return Plan(strategy, "demanded by the entities file")


@lru_cache(maxsize=1024)
def digest(spec: TableSpec) -> str:
    """Fingerprint of the columns: links made under another one no longer cover the table."""
    text = "\n".join(sorted(f"{column.name} {column.kind}" for column in spec.columns))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def next_read(spec: TableSpec, plan: Plan, state: SyncState, *, api_root: str, organisation: Organisation) -> Read:
    """Decide the first read of a run.

    Args:
        spec: The entity.
        plan: Its strategy.
        state: How far it has come.
        api_root: Root of the Web API, ending in "/".
        organisation: Tells how long deletions are kept, and the time on the server's clock.
    """
    links = (state.next_link or state.delta_link or api_root).splitlines()
    is_ours = all(is_under(link, api_root) for link in links)
    if state.next_link and state.read_kind and is_ours and _is_covered(spec, plan, state):
        return Read(
            ReadKind(state.read_kind),
            state.next_link,
            track_changes=plan.strategy is Strategy.DELTA,
            reason="goes on after its last stored page",
            is_resumed=True,
        )
    stale = _why_stale(spec, plan, state, organisation) if is_ours else ADDRESS_CHANGED
    if stale is None and plan.strategy is Strategy.DELTA and state.delta_link:
        return Read(ReadKind.DELTA, state.delta_link)
    if stale is None and plan.strategy is Strategy.MODIFIEDON and state.last_timestamp:
        return increment(spec, since=state.last_timestamp, api_root=api_root)
    return full_read(spec, plan, state, api_root=api_root, reason=stale or "")


def full_read(spec: TableSpec, plan: Plan, state: SyncState, *, api_root: str, reason: str) -> Read:
    """A read of every record: ``first`` where nothing was ever stored, else ``snapshot``."""
    kind = ReadKind.FIRST if state.last_sync_time is None else ReadKind.SNAPSHOT
    tracked = plan.strategy is Strategy.DELTA
    return Read(kind, entity_url(api_root, spec.entity_set), track_changes=tracked, reason=reason)


def increment(spec: TableSpec, *, since: datetime, api_root: str) -> Read:
    """The records modified since *since*, less the overlap; by modifiedon, then key."""
    where = f"modifiedon ge {datetime_literal(overlapping(since))}"
    order = ("modifiedon asc", f"{spec.key} asc")
    return Read(ReadKind.INCREMENT, entity_url(api_root, spec.entity_set, where=where, order_by=order))


def overlapping(since: datetime) -> datetime:
    """An overlap before *since*, as far back as filters go."""
    return max(since, EARLIEST + OVERLAP) - OVERLAP


def without_order(url: str) -> str:
    """The same query in the server's own order, for tables that refuse ``$orderby``; its cookies keep it complete."""
    return url.partition("&$orderby=")[0]


def without_tracking(spec: TableSpec, reason: str) -> Plan:
    """The next best strategy where the server refuses change tracking after all."""
    return Plan(Strategy.MODIFIEDON if spec.has_modified_on else Strategy.SNAPSHOT, reason)


def watermark(state: SyncState) -> datetime | None:
    """The largest ``modifiedon`` stored, never beyond the server's time at the start of the read (law 2)."""
    if state.read_latest is None or state.read_started is None:
        return state.last_timestamp
    reached = min(state.read_latest, state.read_started)
    return max(reached, state.last_timestamp) if state.last_timestamp else reached


def _is_covered(spec: TableSpec, plan: Plan, state: SyncState) -> bool:
    return state.columns_digest == digest(spec) and state.strategy == plan.strategy


def _why_stale(spec: TableSpec, plan: Plan, state: SyncState, organisation: Organisation) -> str | None:
    """Why the stored progress cannot be continued; None where it can, "" where there is none."""
    if not (state.delta_link or state.last_timestamp):
        return ""
    if state.strategy != plan.strategy:
        return f"the strategy was {state.strategy or 'unknown'} before; read whole"
    if state.columns_digest != digest(spec):
        return "the columns changed; read whole"
    return why_expired(state, organisation) if plan.strategy is Strategy.DELTA else None


def why_expired(state: SyncState, organisation: Organisation) -> str | None:
    """Why the stored delta link must not be trusted any more; None where it may."""
    if state.delta_link is None or state.delta_link_time is None:
        return None
    age = organisation.server_time - state.delta_link_time
    if age <= timedelta(days=organisation.token_days) - TOKEN_MARGIN:
        return None
    return f"the delta link is {age.days} days old and deletions are kept {organisation.token_days}; read whole"
