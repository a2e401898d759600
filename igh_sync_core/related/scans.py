"""What new rows point at: each table's rows are gone through from where the last scan of them ended.

A scan notes what it finds on the list ``_sync_wanted``, see ``closure``, and how far it came, in the caller's
transaction.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    CompoundSelect,
    Connection,
    Insert,
    Select,
    Text,
    Update,
    bindparam,
    cast,
    func,
    literal,
    literal_column,
    select,
    union,
    union_all,
    update,
)

from igh_sync_core.model import TableSpec
from igh_sync_core.related.references import points_at
from igh_sync_core.related.relations import Relation, digest
from igh_sync_core.schema.tables import entity_tables
from igh_sync_core.store.control import SyncState, SyncWanted
from igh_sync_core.store.dialect import insert_missing, is_one_of, listed
from igh_sync_core.store.driver import Prepared

REFERENCED = "referenced"
"""Standing on the list of an id that a row points at."""

_STATE = SyncState.metadata.tables["_sync_state"]
_WANTED = SyncWanted.metadata.tables["_sync_wanted"]
_COLUMNS = ("entity_name", "key", "standing")


@dataclass(frozen=True)
class Scan:
    """A scan that is due.

    Attributes:
        source: The table to go through.
        relations: What of it is followed.
        start: The last version that an earlier scan has seen, by ``row_id``.
        end: The last version there is.
        is_again: Whether it must be done again, since columns are being filled meanwhile.
    """

    source: TableSpec
    relations: tuple[Relation, ...]
    start: int
    end: int
    is_again: bool


def due(conn: Connection, relations: Sequence[Relation]) -> list[Scan]:
    """Scans of the tables that *relations* start from, where rows were not seen yet, or not with these relations.

    Args:
        conn: A connection inside a transaction, which may be one that only reads.
        relations: All that are followed.
    """
    sources = list(dict.fromkeys(one.source for one in relations))
    progress = _progress_of(conn, *sources)
    scans = []
    for source, end in zip(sources, _last_versions(conn, sources), strict=True):
        followed = _from(source, relations)
        start, is_filling = _scanned(progress.get(source.entity_set), digest(followed))
        if end > start:
            scans.append(Scan(source, followed, start, end, is_filling))
    return scans


def _last_versions(conn: Connection, sources: Sequence[TableSpec]) -> Iterator[int]:
    """The largest ``row_id`` of each table, a hundred tables a statement."""
    for start in range(0, len(sources), 100):
        last = dict(_largest.rows(conn, tuple(sources[start : start + 100])))
        yield from (last[at] or 0 for at in range(len(last)))


@Prepared
def _largest(sources: tuple[TableSpec, ...]) -> CompoundSelect[Any]:
    tables = (entity_tables(one).main for one in sources)
    return union_all(*(select(literal_column(str(at)), func.max(table.c.row_id)) for at, table in enumerate(tables)))


def note_references(conn: Connection, scans: Sequence[Scan]) -> None:
    """List what the current rows of tables point at, as far as no earlier scan has seen them.

    Args:
        conn: A connection inside a transaction; nothing was written to the tables since the scans were found due.
        scans: Of some tables; ids already stored are listed too, see ``closure.drop_stored``.
    """
    for scan in scans:
        _note.execute(conn, (conn.dialect.name, scan.relations), after=scan.start)
    _reach.execute_many(conn, None, map(_reached, scans))


def _reached(scan: Scan) -> dict[str, Any]:
    end = 0 if scan.is_again else scan.end
    return {"of": scan.source.entity_set, "scanned_row_id": end, "relations_digest": digest(scan.relations)}


@Prepared
def _note(about: tuple[str, tuple[Relation, ...]]) -> Insert:
    engine, relations = about
    pointed_at = _pointed_at(relations, after=bindparam("after", type_=BigInteger()))
    return insert_missing(engine, _WANTED).from_select(_COLUMNS, pointed_at)


@Prepared
def _reach(_: None) -> Update:
    reached: dict[str, Any] = {name: bindparam(name) for name in ("scanned_row_id", "relations_digest")}
    return update(_STATE).where(_STATE.c.entity_name == bindparam("of")).values(reached)


def scan_again(conn: Connection) -> None:
    """Let every row of every table count as not seen yet, also of those that take no part in this run."""
    _forget.execute(conn, None)


@Prepared
def _forget(_: None) -> Update:
    return update(_STATE).where(_STATE.c.scanned_row_id != 0).values(scanned_row_id=0)


def _from(source: TableSpec, relations: Sequence[Relation]) -> tuple[Relation, ...]:
    return tuple(one for one in relations if one.source == source)


def _scanned(progress: Sequence[Any] | None, followed: str) -> tuple[int, bool]:
    """Up to which version the same relations were scanned, and whether columns are being filled in place.

    While they are, a version's number does not tell whether it was seen with them, and everything is scanned.
    """
    if progress is None:
        return 0, False
    fresh_columns, followed_before, scanned_row_id = progress
    is_filling = bool(fresh_columns)
    return 0 if is_filling or followed_before != followed else scanned_row_id, is_filling


def _progress_of(conn: Connection, *sources: TableSpec) -> dict[str, Sequence[Any]]:
    """What is on record of the scans of tables, by entity set."""
    names = listed(conn.dialect.name, [one.entity_set for one in sources])
    return {name: progress for name, *progress in _progress.rows(conn, None, names=names)}


@Prepared
def _progress(_: None) -> Select[Any]:
    told = ("entity_name", "fresh_columns", "relations_digest", "scanned_row_id")
    return select(*(_STATE.c[name] for name in told)).where(is_one_of(_STATE.c.entity_name, "names"))


def pointed_at(
    conn: Connection, source: TableSpec, target: TableSpec, relations: Sequence[Relation], *, is_recorded: bool
) -> Select[Any]:
    """Query for what the rows of one table point at in another, as far as no scan has seen them: set, id, standing.

    Args:
        conn: Any database.
        source: A table that points at *target*.
        target: A related table.
        relations: All that are followed.
        is_recorded: Whether there is a record of scans; without one no row counts as seen.
    """
    followed = _from(source, relations)
    progress = _progress_of(conn, source).get(source.entity_set) if is_recorded else None
    start, _is_filling = _scanned(progress, digest(followed))
    return _pointed_at([one for one in followed if one.target == target], after=start)


def _pointed_at(relations: Sequence[Relation], *, after: int | BindParameter[int]) -> Select[Any]:
    """Distinct pairs of related table and id, and their standing, from the current rows beyond a ``row_id``.

    One pass over the wide rows, in the order they lie in; what it gathers is narrow and is gone through per relation.
    """
    main = entity_tables(relations[0].source).main
    names = dict.fromkeys(name for one in relations for name in (one.column, one.type_column) if name)
    is_wanted = (main.c.valid_to.is_(None), main.c.row_id > after)
    rows = select(*(main.c[name].label(name) for name in names)).where(*is_wanted).cte()
    pairs = (
        select(literal(one.target.entity_set, Text()).label("entity_name"), cast(rows.c[one.column], Text).label("key"))
        .select_from(rows)
        .where(points_at(one, rows))
        for one in relations
    )
    pointed = union(*pairs).subquery("pointed")
    standing = literal(REFERENCED).label("standing")
    # The condition holds anyway; without one SQLite takes the ON CONFLICT that follows for that of a join.
    return select(pointed.c.entity_name, pointed.c.key, standing).where(pointed.c.key.is_not(None))
