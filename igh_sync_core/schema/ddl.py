"""Tables in the database: created where they are missing, extended where metadata grew, never dropped (law 11).

What is to be done is worked out first, as statements; a plan shows them, a run executes them. Everything here runs
inside the caller's transaction, and both engines take DDL back with it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec
from sqlalchemy import Connection, Update, bindparam, inspect, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable, DropIndex, ExecutableDDLElement

from igh_sync_core.model import LogicalName, OptionKind, TableSpec
from igh_sync_core.schema import indexes, junctions, shapes, views
from igh_sync_core.schema.alterations import AddColumn, RenameTable, WidenColumn
from igh_sync_core.schema.optionsets import optionset_table
from igh_sync_core.schema.shapes import Shape, Stored, declared, shape_of, widening
from igh_sync_core.schema.tables import EntityTables, entity_tables
from igh_sync_core.store.control import CONTROL, SyncState
from igh_sync_core.store.database import Database
from igh_sync_core.store.driver import Prepared, attempt

_STATE = SyncState.metadata.tables["_sync_state"]


@dataclass(frozen=True)
class Work:
    """What one entity's tables need.

    Attributes:
        spec: The entity.
        statements: DDL in the order to execute it; empty where everything fits.
        fresh: Columns to be filled into open rows by a full read.
        back: Multi-selects among those whose junctions are there from before they were none for a while.
        is_new: Whether the entity's table is made: whatever was read before, nothing of it is stored here.
        shape: What the table will then hold; None where it is on record already.
    """

    spec: TableSpec
    statements: tuple[ExecutableDDLElement, ...]
    fresh: frozenset[str]
    back: tuple[str, ...]
    is_new: bool
    shape: Shape | None

    @property
    def is_due(self) -> bool:
        """Whether there is anything to do or to remember."""
        return bool(self.statements or self.fresh or self.is_new or self.shape)


@dataclass(frozen=True)
class Applied:
    """What was done.

    Attributes:
        made: Names of the entity tables created.
        failed: Why an entity's tables could not be changed, in words; nothing of it was changed then.
    """

    made: tuple[str, ...] = ()
    failed: tuple[tuple[LogicalName, str], ...] = ()


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
        for statement in _missing_tables(stored, spec, present):
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
    specs = tuple(specs)
    around = _surroundings(stored, specs, language)
    for spec in specs:
        table, then = str(entity_tables(spec).main.name), around.copy()
        work = _outline_one(stored, spec, then)
        if fault := _execute(conn, work):
            failed.append((spec.logical_name, f"table {table} could not be changed: {fault}"))
            continue
        around = then
        if work.is_new:
            made.append(table)
    return Applied(tuple(made), tuple(failed))


def outline(stored: Stored, specs: Sequence[TableSpec], *, language: int) -> Iterator[Work]:
    """Work out what each entity's tables need, in the order of *specs*; pure."""
    around = _surroundings(stored, specs, language)
    yield from (_outline_one(stored, spec, around) for spec in specs)


@dataclass(frozen=True)
class _Surroundings:
    """What the entities of one call share.

    Attributes:
        present: Tables, those made so far included.
        taken: Names that no view may have.
        standing: Views of ours that are stored and neither dropped nor replaced so far.
        language: LCID of the labels.
    """

    present: set[str]
    taken: frozenset[str]
    standing: set[str]
    language: int

    def copy(self) -> "_Surroundings":
        """The same, to go on from: what of an entity fails is undone, and the next one finds all as it was."""
        return replace(self, present=set(self.present), standing=set(self.standing))


def _surroundings(stored: Stored, specs: Sequence[TableSpec], language: int) -> _Surroundings:
    own_views = {name for shape in stored.shapes.values() for name in shape.views}
    wanted = {str(entity_tables(spec).main.name) for spec in specs}
    taken = stored.tables | (stored.views - own_views) | wanted
    return _Surroundings(set(stored.tables), taken, own_views & stored.views, language)


def _in_the_way(stored: Stored, table: str) -> Iterator[str]:
    """A view that has the name of a table, and before it the one built on it."""
    for shape in stored.shapes.values():
        if table in shape.views:
            yield from shape.views[: shape.views.index(table) + 1]


def _outline_one(stored: Stored, spec: TableSpec, around: _Surroundings) -> Work:
    tables = entity_tables(spec)
    name = str(tables.main.name)
    is_new = name not in stored.columns
    # What is remembered of a table that is gone says nothing of the one to be made, but where its views are.
    before = stored.shapes.get(name)
    making_way = list(_dropping(_in_the_way(stored, name), around))
    setting_apart = list(_setting_apart(stored, tables, around)) if is_new else []
    creating = list(_missing_tables(stored, spec, around.present))
    altering = [] if is_new else list(_alterations(stored, tables))
    fresh = frozenset() if is_new else _fresh(stored, spec, before)
    after = _with_views(shape_of(spec, None if is_new else before), spec, around)
    viewing = list(_viewing(spec, before, after, around, is_altered=is_new or bool(altering)))
    statements = _ordered(making_way, setting_apart, creating, altering, viewing)
    shape = None if after == before and not statements else after
    return Work(spec, statements, fresh, tuple(_back(stored, tables, fresh)), is_new, shape)


def _back(stored: Stored, tables: EntityTables, fresh: frozenset[str]) -> Iterator[str]:
    return (name for name, junction in tables.junctions.items() if name in fresh and junction.name in stored.tables)


def _ordered(*groups: Sequence[ExecutableDDLElement]) -> tuple[ExecutableDDLElement, ...]:
    """PostgreSQL widens no column that a view shows, so views go before everything else and come back last."""
    everything = [statement for group in groups for statement in group]
    drops = [one for one in everything if isinstance(one, views.DropView)]
    return (*drops, *(one for one in everything if not isinstance(one, views.DropView)))


def _setting_apart(stored: Stored, tables: EntityTables, around: _Surroundings) -> Iterator[RenameTable]:
    """Give the names of junctions free that belong to a table that is gone, most likely under another name.

    Their rows are tied to its versions by key and start, and so they would be to those of the table to be made.
    """
    for junction in tables.junctions.values():
        if junction.name in stored.tables:
            taken = {name.casefold() for name in around.taken | around.present}
            apart = views.free(f"{junction.name}_old", taken)
            around.present.remove(str(junction.name))
            around.present.add(apart)
            yield RenameTable(junction, apart)


def _missing_tables(stored: Stored, spec: TableSpec, present: set[str]) -> Iterator[ExecutableDDLElement]:
    tables = entity_tables(spec)
    choices = [optionset_table(column.name) for column in spec.choices]
    for table in (tables.main, *tables.junctions.values(), *choices):
        if table.name not in present:
            present.add(str(table.name))
            yield CreateTable(table)
            for index in indexes.in_order(table):
                if indexes.is_left(index, stored.indexes):
                    yield DropIndex(index)  # it holds nothing of its own, and SQLite renames none
                yield CreateIndex(index)


def _alterations(stored: Stored, tables: EntityTables) -> Iterator[ExecutableDDLElement]:
    table = str(tables.main.name)
    for name in declared(tables.spec):
        column = tables.main.c[name]
        if stored.column_type(table, name) is None:
            yield AddColumn(column)
        elif widening(stored, table, column):
            yield WidenColumn(column)


def _fresh(stored: Stored, spec: TableSpec, before: Shape | None) -> frozenset[str]:
    """Columns whose open rows lack what metadata now tells: new, back again, or of a new meaning."""
    table = str(entity_tables(spec).main.name)
    gone = set(before.gone) if before else set()
    added = {name for name in declared(spec) if name in gone or stored.column_type(table, name) is None}
    return frozenset(added | (set(_reread(spec, before)) if before else set()))


def _reread(spec: TableSpec, before: Shape) -> Iterator[str]:
    """Columns found to be choices since, whose codes and picks were not stored; and multi-selects that are none."""
    for column in spec.columns:
        was, is_now = before.options.get(column.name), column.option
        was_multi, is_multi = was is OptionKind.MULTISELECT, is_now is OptionKind.MULTISELECT
        if column.name in before.kinds and (was_multi != is_multi or (was is None and is_now is not None)):
            yield column.name


def _with_views(shape: Shape, spec: TableSpec, around: _Surroundings) -> Shape:
    names = views.names(spec, around.taken)
    digest = views.digest(spec, around.language)
    return msgspec.structs.replace(shape, views=names, views_digest=digest, language=around.language)


def _viewing(
    spec: TableSpec, before: Shape | None, after: Shape, around: _Surroundings, *, is_altered: bool
) -> Iterator[ExecutableDDLElement]:
    is_same = before is not None and (before.views, before.views_digest) == (after.views, after.views_digest)
    if is_same and not is_altered and around.standing >= set(after.views):
        return
    yield from _dropping(before.views if before else (), around)
    yield from views.creation(spec, after.views, after.language)


def _dropping(names: Iterable[str], around: _Surroundings) -> Iterator[ExecutableDDLElement]:
    for name in names:
        if name in around.standing:
            around.standing.remove(name)
            yield views.DropView(name)


def _execute(conn: Connection, work: Work) -> str:
    """Do one entity's work or nothing of it; gives the database's refusal in words, or ""."""
    if not work.is_due:
        return ""
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
