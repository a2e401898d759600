"""Tables in the database: created where they are missing, extended where metadata grew, never dropped (law 11).

What is to be done is worked out first, see ``outline``. Everything here runs inside the caller's transaction, and both
engines take DDL back with it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, Update, bindparam, inspect, select, update
from sqlalchemy.exc import DBAPIError

from igh_sync_core.model import LogicalName, TableSpec
from igh_sync_core.schema import junctions, shapes
from igh_sync_core.schema.outline import Work, missing_tables, outline_one, surroundings
from igh_sync_core.schema.shapes import Stored
from igh_sync_core.schema.tables import entity_tables
from igh_sync_core.store.control import CONTROL, SyncState
from igh_sync_core.store.database import Database
from igh_sync_core.store.driver import Prepared, attempt

_STATE = SyncState.metadata.tables["_sync_state"]


@dataclass(frozen=True)
class Applied:
    """What was done.

    Attributes:
        made: Names of the entity tables created.
        failed: Why an entity's tables could not be changed, in words; nothing of it was changed then.
        unseen: Why an entity's tables were made to fit, but without their views, in words.
    """

    made: tuple[str, ...] = ()
    failed: tuple[tuple[LogicalName, str], ...] = ()
    unseen: tuple[tuple[LogicalName, str], ...] = ()


def create_control_tables(database: Database) -> None:
    """Make the control tables where they are missing."""
    with database.writing() as conn:
        database.queue(conn)
        present = set(inspect(conn).get_table_names())
        missing = [table for table in CONTROL.sorted_tables if table.name not in present]
        if missing:
            CONTROL.create_all(conn, missing, checkfirst=False)


def create_tables(conn: Connection, specs: Iterable[TableSpec]) -> list[str]:
    """Make the tables of entities where they are missing, without views and without a memory of them.

    Returns:
        Names of the entity tables made, in the order of *specs*.
    """
    specs = tuple(specs)
    stored = shapes.read(conn, ())
    present = set(stored.tables)
    made = [str(entity_tables(spec).main.name) for spec in specs if entity_tables(spec).main.name not in present]
    for spec in specs:
        for statement in missing_tables(stored, spec, present):
            conn.execute(statement)
    return made


def apply(conn: Connection, stored: Stored, specs: Iterable[TableSpec], *, language: int) -> Applied:
    """Make the tables of entities what metadata wants: created, extended, widened, with their views.

    Args:
        conn: A connection inside a transaction; the control tables exist.
        stored: What the database holds of *specs*.
        specs: Entities that ``drift`` found no error in.
        language: LCID of the labels in the views.
    """
    made: list[str] = []
    failed: list[tuple[LogicalName, str]] = []
    unseen: list[tuple[LogicalName, str]] = []
    specs = tuple(specs)
    around = surroundings(stored, specs, language)
    for spec in specs:
        table, then = str(entity_tables(spec).main.name), around.copy()
        work = outline_one(stored, spec, then)
        fault, refusal = _execute(conn, work)
        if fault:
            failed.append((spec.logical_name, f"table {table} could not be changed: {fault}"))
            continue
        if refusal:
            unseen.append((spec.logical_name, f"table {table} is copied without its views: {refusal}"))
        around = then
        if work.is_new:
            made.append(table)
    return Applied(tuple(made), tuple(failed), tuple(unseen))


def _execute(conn: Connection, work: Work) -> tuple[str, str]:
    """Do one entity's work or nothing of it, leaving out its views where nothing else is refused.

    Returns:
        Why nothing was done, and why no views were made: the database's refusal in words, or "".
    """
    refusal = _try(conn, work) if work.is_due else ""
    if not refusal:
        return "", ""
    # Only now a second time, since a savepoint of the views' own would cost every first run two statements a table.
    unseen = work.without_views
    is_of_views = len(unseen.statements) < len(work.statements) and not _try(conn, unseen)
    return ("", refusal) if is_of_views else (refusal, "")


def _try(conn: Connection, work: Work) -> str:
    try:
        with attempt(conn):
            for statement in work.statements:
                conn.execute(statement)
            junctions.end_with_versions(conn, entity_tables(work.spec), work.back)
            _remember(conn, work)
    except DBAPIError as exc:
        return str(exc.orig).strip().splitlines()[0]
    return ""


def _remember(conn: Connection, work: Work) -> None:
    table = str(entity_tables(work.spec).main.name)
    if work.shape is not None:
        shapes.keep(conn, table, work.shape)
    where = _STATE.c.entity_name == work.spec.entity_set
    if work.is_new:
        _start_anew.execute(conn, None, of=work.spec.entity_set)
    elif work.fresh and (due := conn.scalar(select(_STATE.c.fresh_columns).where(where))) is not None:
        names = sorted(work.fresh | set(filter(None, due.split(","))))
        # Without a digest no stored link covers the columns any more, so the next read is a full one.
        conn.execute(update(_STATE).where(where).values(fresh_columns=",".join(names), columns_digest=None))


@Prepared
def _start_anew(_: None) -> Update:
    nothing = {"columns_digest": None, "fresh_columns": "", "records_count": 0, "scanned_row_id": 0}
    return update(_STATE).where(_STATE.c.entity_name == bindparam("of")).values(nothing)
