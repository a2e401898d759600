"""Tables in the database: created where they are missing, extended where metadata grew, never dropped (law 11).

What is to be done is worked out first, see ``outline``. Everything here runs inside the caller's transaction, and both
engines take DDL back with it.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, Update, bindparam, func, inspect, null, select, update
from sqlalchemy.exc import DBAPIError

from igh_sync_core.model import LogicalName, TableSpec
from igh_sync_core.schema import belongings, junctions, obstacles, shapes
from igh_sync_core.schema.outline import Work, outline_one, surroundings
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
        unseen: That an entity's tables were made to fit, but without views or with those of before, and why, in words.
        is_settled: Whether there is nothing that the next run is to try again.
    """

    made: tuple[str, ...] = ()
    failed: tuple[tuple[LogicalName, str], ...] = ()
    unseen: tuple[tuple[LogicalName, str], ...] = ()
    is_settled: bool = True


def create_control_tables(database: Database) -> None:
    """Make the control tables where they are missing."""
    with database.writing() as conn:
        database.queue(conn)
        present = set(inspect(conn).get_table_names())
        missing = [table for table in CONTROL.sorted_tables if table.name not in present]
        if missing:
            CONTROL.create_all(conn, missing, checkfirst=False)


def apply(conn: Connection, stored: Stored, specs: Iterable[TableSpec], *, language: int) -> Applied:
    """Make the tables of entities what metadata wants: created, extended, widened, with their views.

    Args:
        conn: A connection inside a transaction; the control tables exist.
        stored: What the database holds of *specs*.
        specs: Entities that ``drift`` found no error in.
        language: LCID of the labels in the views.
    """
    made: list[str] = []
    outcomes: dict[LogicalName, _Outcome] = {}
    specs = tuple(specs)
    around = surroundings(stored, specs, language)
    for spec in specs:
        then = around.copy()
        work = outline_one(stored, spec, then)
        outcomes[spec.logical_name] = outcome = _execute(conn, work)
        if outcome.fault:
            continue
        around = then
        if work.is_new:
            made.append(str(entity_tables(spec).main.name))
    return Applied(
        tuple(made),
        tuple((name, one.fault) for name, one in outcomes.items() if one.fault),
        tuple((name, one.note) for name, one in outcomes.items() if one.note),
        is_settled=not any(one.fault or one.is_left for one in outcomes.values()),
    )


class _Outcome(NamedTuple):
    """How one entity's work ended, in words.

    Attributes:
        fault: Why nothing was done; "" where something was.
        note: What was done without its views, and why; "" where all was.
        is_left: Whether its views stay unfit until another run.
    """

    fault: str = ""
    note: str = ""
    is_left: bool = False


def _execute(conn: Connection, work: Work) -> _Outcome:
    """Do one entity's work or nothing of it, leaving out its views where nothing else is refused."""
    refusal = _try(conn, work) if work.is_due else None
    if refusal is None:
        return _Outcome()
    # Only now a second time, since a savepoint of the views' own would cost every first run two statements a table.
    table = str(entity_tables(work.spec).main.name)
    without, leaving = work.without_views, work.leaving_views
    if not refusal.is_late and len(without.statements) < len(work.statements) and _try(conn, without) is None:
        return _Outcome(note=f"table {table} is copied without its views: {refusal.words}")
    is_worth_it = len(leaving.statements) < len(work.statements) and not (refusal.is_late and leaving.is_waiting)
    if is_worth_it and _try(conn, leaving) is None:
        return _Outcome(note=f"the views of {table} stay as they were: {refusal.words}", is_left=True)
    return _Outcome(fault=f"table {table} could not be changed: {refusal.words}")


class _Refusal(NamedTuple):
    """What the database said, and whether it was that others were reading."""

    words: str
    is_late: bool


def _try(conn: Connection, work: Work) -> _Refusal | None:
    try:
        with attempt(conn):
            limited = obstacles.limited(conn) if work.is_waiting else contextlib.nullcontext()
            with limited, belongings.kept(conn, work.dropped):
                for statement in work.statements:
                    conn.execute(statement)
            junctions.end_with_versions(conn, entity_tables(work.spec), work.back)
            _remember(conn, work)
    except DBAPIError as exc:
        changed = (str(entity_tables(work.spec).main.name), *work.dropped)
        return _Refusal(obstacles.describe(conn, exc, changed), obstacles.are_readers(exc))
    return None


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
    nothing = {
        "columns_digest": None,
        "fresh_columns": "",
        "page_digest": None,
        "records_count": 0,
        "scanned_row_id": 0,
    }
    # Nor has it rows that a smaller role might no longer see, see ``sync.fallbacks.is_narrowed``; a link stays good.
    untracked = {"delta_link_time": null(), "strategy": func.nullif(_STATE.c.strategy, "delta")}
    return update(_STATE).where(_STATE.c.entity_name == bindparam("of")).values(nothing | untracked)
