"""What the known faults of the program before this one left behind in an adopted file: found and told, always.

Repaired only by a reconcile run, and even then nothing is dropped or deleted (law 11): versions and rows of options
are closed. Option tables made from numbers are told and left alone. Codes that are missing beside the rows are added
at once, see ``occurring``, or by a reconcile run to a table that counts as clean.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    cast,
    exists,
    func,
    inspect,
    literal,
    or_,
    select,
    update,
)
from sqlmodel import Field

from igh_sync_core.history import duplicates
from igh_sync_core.metadata.options import UNKNOWN_LANGUAGE
from igh_sync_core.model import TableSpec
from igh_sync_core.preparation import occurring
from igh_sync_core.preparation.occurring import Told
from igh_sync_core.schema import shapes
from igh_sync_core.schema.optionsets import optionset_name
from igh_sync_core.schema.tables import EntityTables, entity_tables, identifier
from igh_sync_core.store.control import ControlTable, OptionSetLabel
from igh_sync_core.store.dialect import Instant, later_of, member_of, one_second_after
from igh_sync_core.store.driver import Prepared


class SyncAdoption(ControlTable, table=True):
    """Tables taken over from the program before this one.

    Attributes:
        is_clean: Whether its known faults were looked for and none is left.
    """

    __tablename__ = "_sync_adoption"

    table_name: str = Field(primary_key=True)
    adopted_at: datetime = Field(sa_type=Instant)
    is_clean: bool = False


_LABELS = OptionSetLabel.metadata.tables["_optionset"]
ADOPTIONS: Table = SyncAdoption.metadata.tables["_sync_adoption"]


def report(
    conn: Connection, specs: Sequence[TableSpec], *, repair: bool, now: datetime, language: int
) -> tuple[str, ...]:
    """Look for leftovers in the adopted tables among *specs*, and repair them where told to.

    Args:
        conn: A connection inside a transaction; the control tables exist.
        specs: Entities that metadata knows.
        repair: Whether this is a reconcile run.
        now: Date of what has no better one.
        language: LCID of labels.

    Returns:
        One line for people per kind of leftover and table; empty for files that were never adopted.
    """
    adopted = dict(_adopted.rows(conn, None))
    mine = [spec for spec in specs if identifier(spec.entity_set) in adopted]
    if not mine:
        return ()
    present = set(inspect(conn).get_table_names())
    notes: list[str] = []
    for spec in mine:
        if not adopted[identifier(spec.entity_set)]:
            notes += _examine(conn, entity_tables(spec), present, repair=repair, now=now)
    if repair or not all(adopted.values()):  # or every run would ask whether anything is left to do
        notes += occurring.add(conn, mine, present, Told(now, language))
    return (*notes, *_stale_options(conn, mine, present))


@Prepared
def _adopted(_: None) -> Select[Any]:
    return select(ADOPTIONS.c.table_name, ADOPTIONS.c.is_clean)


def index_open(conn: Connection, tables: EntityTables) -> bool:
    """Make the unique index on open versions, if none is doubled; gives whether it is there."""
    if not duplicates.are_possible(conn, tables):
        return True
    if duplicates.count(conn, tables):
        return False
    for index in tables.main.indexes:
        if index.unique:
            index.create(conn)
    return True


def _examine(
    conn: Connection, tables: EntityTables, present: set[str], *, repair: bool, now: datetime
) -> Iterator[str]:
    """The faults of one table; it counts as clean from the first look that finds none, and can see to its codes."""
    table = str(tables.main.name)
    is_clean = occurring.is_whole(conn, tables.spec, present)
    for note, is_left in (
        *_doubled(conn, tables, repair=repair),
        *_left_open(conn, tables, present, repair=repair, now=now),
    ):
        is_clean = is_clean and not is_left
        yield note
    conn.execute(update(ADOPTIONS).where(ADOPTIONS.c.table_name == table).values(is_clean=is_clean))


def _doubled(conn: Connection, tables: EntityTables, *, repair: bool) -> Iterator[tuple[str, bool]]:
    table = tables.main.name
    if index_open(conn, tables):
        return
    if repair:
        closed = duplicates.close_older(conn, tables)
        index_open(conn, tables)
        yield f"{table}: {closed} superseded versions that had stayed open were closed", False
        return
    keys = duplicates.count(conn, tables)
    text = f"{table}: {keys} records have more than one open version; the newest counts as current, and a run with "
    yield f"{text}--reconcile closes the others", True


def _left_open(
    conn: Connection, tables: EntityTables, present: set[str], *, repair: bool, now: datetime
) -> Iterator[tuple[str, bool]]:
    for field, junction in tables.junctions.items():
        if junction.name not in present:
            continue
        found = conn.execute(_no_longer_chosen(tables, field, junction, now)).all()
        if not found:
            continue
        if repair:
            closing = update(junction).where(junction.c.junction_id == bindparam("of"))
            rows = [{"of": at, "boundary": boundary} for at, boundary in found]
            conn.execute(closing.values(valid_to=bindparam("boundary")), rows)
            yield f"{junction.name}: {len(found)} rows of options no longer chosen were closed", False
        else:
            text = f"{junction.name}: {len(found)} open rows are of options no longer chosen, or doubled"
            yield f"{text}; a run with --reconcile closes them", True


def _no_longer_chosen(tables: EntityTables, field: str, junction: Table, now: datetime) -> Select[tuple[int, datetime]]:
    """Open rows whose option the current version does not hold, or that stand there twice; and where each ends."""
    main, spec = tables.main, tables.spec
    current = and_(
        main.c[spec.key] == junction.c.entity_id, main.c.valid_to.is_(None), ~duplicates.is_superseded(tables)
    )
    ends = func.coalesce(main.c.valid_from, literal(now, Instant()))
    boundary = later_of(ends, one_second_after(junction.c.valid_from))
    return (
        select(junction.c.junction_id, boundary)
        .select_from(junction.outerjoin(main, current))
        .where(junction.c.valid_to.is_(None), or_(~_is_chosen(main, field, junction), _is_repeated(junction)))
    )


def _is_chosen(main: Table, field: str, junction: Table) -> ColumnElement[bool]:
    chosen = func.coalesce(member_of(main.c.json_response, field), "")
    return func.instr(literal(",") + chosen + ",", literal(",") + cast(junction.c.option_code, Text) + ",") > 0


def _is_repeated(junction: Table) -> ColumnElement[bool]:
    newer = junction.alias()
    return exists().where(
        newer.c.entity_id == junction.c.entity_id,
        newer.c.option_code == junction.c.option_code,
        newer.c.valid_to.is_(None),
        newer.c.junction_id > junction.c.junction_id,
    )


def _stale_options(conn: Connection, specs: Iterable[TableSpec], present: set[str]) -> Iterator[str]:
    """Tables of codes for columns that hold none; judged only where metadata could tell an entity's options."""
    told = set(conn.scalars(select(_LABELS.c.entity).where(_LABELS.c.language != UNKNOWN_LANGUAGE).distinct()))
    known = [spec for spec in specs if spec.logical_name in told]
    columns = {column.name for spec in known for column in spec.columns}
    # A field may be a choice in one table and a number in another; one that metadata calls a choice anywhere stays.
    choices = {name for shape in shapes.kept(conn).values() for name in shape.options}
    choices |= {column.name for spec in known for column in spec.choices}
    choices |= set(conn.scalars(select(_LABELS.c.field).distinct()))
    stale = sorted({optionset_name(name) for name in columns - choices} & present)
    if stale:
        text = f"made from numbers, not from choices: {', '.join(stale)}"
        yield f"{text}; no longer filled, and never dropped by this program: do it by hand"
