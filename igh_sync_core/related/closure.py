"""Which related records are wanted: the ids that synced rows point at, kept as a list in the database.

A scan notes what new versions point at, and how far it came, in one transaction; so nothing is scanned or asked twice,
and a kill at any instant loses nothing. What moves an id on the list ``_sync_wanted``:

    before        what happens                                    after
    ------------  ----------------------------------------------  ---------------------------
    not listed    a new version points at it, it is not stored    referenced
    not listed    a key feed says that a stored record changed    changed
    not listed    a stored record is deleted                      missing
    any           it is asked, and its record comes               not listed, and stored
    any           it is asked, and nothing comes                  missing
    missing       a key feed names it                             changed
    missing       its table has no key feed, a new run            referenced, or changed where it is stored
    missing       a second look by id, see ``feeds``              the same

A record that nothing points at any more stays: it is still a true copy, and keeping it costs no request of its own.
Every function here runs inside the caller's transaction.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Insert,
    Select,
    Text,
    Update,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal,
    or_,
    select,
    true,
    union_all,
    update,
)

from igh_sync_core.history import current
from igh_sync_core.history.staging import Condition, is_listed
from igh_sync_core.model import TableSpec
from igh_sync_core.related import scans
from igh_sync_core.related.relations import Relation
from igh_sync_core.related.scans import REFERENCED
from igh_sync_core.schema.tables import EntityTables, entity_tables
from igh_sync_core.store.control import SyncSeen, SyncWanted
from igh_sync_core.store.dialect import given_rows, insert_missing, is_one_of, listed, rows_listed
from igh_sync_core.store.driver import Prepared

_SEEN = SyncSeen.metadata.tables["_sync_seen"]
_WANTED = SyncWanted.metadata.tables["_sync_wanted"]
_COLUMNS = ("entity_name", "key", "standing")
_OF_TABLE = _WANTED.c.entity_name == bindparam("of")
_GIVEN_TABLE = bindparam("of", type_=Text())
CHANGED, MISSING = "changed", "missing"
IDS_AT_A_TIME = 2_000
"""Ids held in memory at most, of each table."""


def are_awaited(conn: Connection) -> bool:
    """Whether any id of any table is still to be asked, or dropped because it is stored."""
    return bool(_awaited.rows(conn, None))


@Prepared
def _awaited(_: None) -> Select[Any]:
    return select(_WANTED.c.key).where(_WANTED.c.standing != MISSING).limit(1)


def drop_stored(conn: Connection, targets: Iterable[TableSpec]) -> dict[str, int]:
    """Take from the list what is referenced and stored already.

    Returns:
        How many ids are still to be asked, by entity set; of none where there are none.
    """
    for target in targets:
        _drop.execute(conn, target)
    return dict(_count_wanted.rows(conn, None))


@Prepared
def _drop(target: TableSpec) -> Delete:
    is_referenced = (_WANTED.c.entity_name == target.entity_set, _WANTED.c.standing == REFERENCED)
    return delete(_WANTED).where(*is_referenced, _is_stored(target))


@Prepared
def _count_wanted(_: None) -> Select[Any]:
    of = _WANTED.c.entity_name
    return select(of, func.count()).where(_WANTED.c.standing != MISSING).group_by(of)


def count_awaited(
    conn: Connection, target: TableSpec, relations: Sequence[Relation], *, stored: Collection[str], with_changed: bool
) -> int:
    """How many ids of one related table a run would ask for, as things stand; writes nothing.

    Args:
        conn: Any database.
        target: The related table.
        relations: All relations to related tables, as a run follows them.
        stored: Names of the tables that exist; what is not there points at nothing.
        with_changed: Whether stored records known to have changed count too.
    """
    parts = list(_told_so_far(conn, target, relations, stored))
    if not parts:
        return 0
    found = union_all(*parts).subquery("found")
    rank = case({MISSING: 2, CHANGED: 1}, value=found.c.standing, else_=0)
    told = select(found.c.key, func.max(rank).label("rank")).group_by(found.c.key).subquery("told")
    is_new = told.c.rank == 0
    if entity_tables(target).main.name in stored:
        is_new = and_(is_new, ~_is_stored_under(target, told.c.key))
    is_awaited = or_(is_new, told.c.rank == 1) if with_changed else is_new
    return conn.execute(select(func.count()).select_from(told).where(is_awaited)).scalar_one()


def _told_so_far(
    conn: Connection, target: TableSpec, relations: Sequence[Relation], stored: Collection[str]
) -> Iterator[Select[Any]]:
    """Queries for what is on the list and for what no scan has seen yet: entity set, id, standing."""
    has_list = _WANTED.name in stored
    # What was found before is nothing to a table that is to be made anew.
    is_recorded = has_list and entity_tables(target).main.name in stored
    for source in dict.fromkeys(one.source for one in relations if one.target == target):
        if entity_tables(source).main.name in stored:
            yield scans.pointed_at(conn, source, target, relations, is_recorded=is_recorded)
    if has_list:
        is_target = _WANTED.c.entity_name == target.entity_set
        yield select(_WANTED.c.entity_name, _WANTED.c.key, _WANTED.c.standing).where(is_target)


def count_missing(conn: Connection, target: TableSpec, *, stored: Collection[str] = (_WANTED.name,)) -> int:
    """How many ids of one related table were asked in vain; *stored* names the tables that exist."""
    if _WANTED.name not in stored:
        return 0
    return int(_count_missing.rows(conn, None, of=target.entity_set)[0][0])


@Prepared
def _count_missing(_: None) -> Select[Any]:
    return select(func.count()).select_from(_WANTED).where(_OF_TABLE, _WANTED.c.standing == MISSING)


def wanted_ids(conn: Connection, target: TableSpec, *, after: str) -> list[str]:
    """Ids of one table to be asked, in order: at most ``IDS_AT_A_TIME`` of those beyond *after*."""
    return [key for (key,) in _next_wanted.rows(conn, None, of=target.entity_set, after=after)]


@Prepared
def _next_wanted(_: None) -> Select[Any]:
    is_wanted = (_OF_TABLE, _WANTED.c.standing != MISSING, _WANTED.c.key > bindparam("after"))
    return select(_WANTED.c.key).where(*is_wanted).order_by(_WANTED.c.key).limit(IDS_AT_A_TIME)


def settle(conn: Connection, target: TableSpec, *, came: Sequence[str], missing: Sequence[str]) -> None:
    """Take ids off the list that came and are stored now, and remember those that did not come."""
    engine, of = conn.dialect.name, target.entity_set
    _strike.execute(conn, None, of=of, keys=listed(engine, came))
    if missing:
        _miss.execute(conn, None, of=of, keys=listed(engine, missing))


@Prepared
def _strike(_: None) -> Delete:
    return delete(_WANTED).where(_OF_TABLE, is_one_of(_WANTED.c.key, "keys"))


@Prepared
def _miss(_: None) -> Update:
    return update(_WANTED).where(_OF_TABLE, is_one_of(_WANTED.c.key, "keys")).values(standing=MISSING)


def ask_missing_again(conn: Connection, target: TableSpec) -> None:
    """Put what was asked in vain back on the list: no key feed would say that it has appeared."""
    _ask_again.execute(conn, target, of=target.entity_set)


@Prepared
def _ask_again(target: TableSpec) -> Update:
    standing = case((_is_stored(target), CHANGED), else_=REFERENCED)
    return update(_WANTED).where(_OF_TABLE, _WANTED.c.standing == MISSING).values(standing=standing)


def want_all_stored(conn: Connection, tables: EntityTables) -> None:
    """Put every current record of a related table on the list, to be asked again by id."""
    _list_stored(conn, tables, CHANGED, _is_any)


def _is_any(_tables: EntityTables) -> ColumnElement[bool]:
    return true()


def want_changed(conn: Connection, tables: EntityTables, told: Sequence[tuple[str, int | None]]) -> None:
    """List those of the keys told whose stored record has another version number, or that were asked in vain before.

    Args:
        conn: The connection.
        tables: The related table.
        told: Keys and version numbers, those of a page at most.
    """
    engine, of, numbers = conn.dialect.name, tables.spec.entity_set, dict(told)
    _ask_named.execute(conn, None, of=of, keys=listed(engine, [*numbers]))
    if changed := sorted(_changed(conn, tables, numbers)):
        _want_given.execute(conn, engine, of=of, **given_rows(engine, "given", ("key",), [(key,) for key in changed]))


def _changed(conn: Connection, tables: EntityTables, numbers: Mapping[str, int | None]) -> Collection[str]:
    """Those of the keys whose stored record has not the number told; where there are no numbers, all that are stored.

    Looked up, not found by a temporary list: of one just filled PostgreSQL knows nothing, and would read all rows.
    """
    if not tables.spec.has_version:
        return current.find(conn, tables, [*numbers])
    stored = current.version_numbers(conn, tables, [*numbers])
    return {key for key, _row_id, number in stored if number != numbers[key]}


@Prepared
def _ask_named(_: None) -> Update:
    is_named = (_OF_TABLE, _WANTED.c.standing == MISSING, is_one_of(_WANTED.c.key, "keys"))
    return update(_WANTED).where(*is_named).values(standing=CHANGED)


@Prepared
def _want_given(engine: str) -> Insert:
    key = rows_listed(engine, "given", {"key": Text()}).c.key
    # The condition holds anyway; without one SQLite takes the ON CONFLICT that follows for that of a join.
    rows = select(_GIVEN_TABLE, key, literal(CHANGED, Text())).where(key.is_not(None))
    return insert_missing(engine, _WANTED).from_select(_COLUMNS, rows)


def note_seen(conn: Connection, tables: EntityTables) -> None:
    """Remember stored records whose keys are on the temporary list as met by the read of all keys in progress."""
    engine, of = conn.dialect.name, tables.spec.entity_set
    _see.execute(conn, (engine, tables.pattern), places=tables.places, of=of)


@Prepared
def _see(about: tuple[str, EntityTables]) -> Insert:
    engine, tables = about
    rows = select(_GIVEN_TABLE, cast(tables.main.c[tables.spec.key], Text))
    is_met = (tables.main.c.valid_to.is_(None), is_listed(tables))
    return insert_missing(engine, _SEEN).from_select(["entity_name", "key"], rows.where(*is_met))


def note_deleted(conn: Connection, tables: EntityTables, is_gone: Condition) -> None:
    """Remember stored records about to be closed: rows may still point at them, and they may come back."""
    _list_stored(conn, tables, MISSING, is_gone)


def _list_stored(conn: Connection, tables: EntityTables, standing: str, which: Condition) -> None:
    about, of = (conn.dialect.name, tables.pattern, which), tables.spec.entity_set
    _list_those.execute(conn, about, places=tables.places, of=of, standing=standing)


@Prepared
def _list_those(about: tuple[str, EntityTables, Condition]) -> Insert:
    engine, tables, which = about
    main, standing = tables.main, bindparam("standing", type_=Text())
    rows = select(_GIVEN_TABLE, cast(main.c[tables.spec.key], Text), standing)
    return insert_missing(engine, _WANTED).from_select(_COLUMNS, rows.where(main.c.valid_to.is_(None), which(tables)))


def _is_stored(target: TableSpec) -> ColumnElement[bool]:
    return _is_stored_under(target, _WANTED.c.key)


def _is_stored_under(target: TableSpec, wanted: ColumnElement[str]) -> ColumnElement[bool]:
    main = entity_tables(target).main
    key = main.c[target.key]
    found = select(main.c.row_id).where(key == cast(wanted, key.type), main.c.valid_to.is_(None)).limit(1)
    # Not EXISTS: of tables just filled PostgreSQL knows nothing yet, and would go through all open rows for each id.
    return found.scalar_subquery().is_not(None)
