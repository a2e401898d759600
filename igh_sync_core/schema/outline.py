"""What the tables of entities need, worked out as statements before anything is done; pure.

A plan shows them, a run executes them, see ``ddl``.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec
from sqlalchemy import String
from sqlalchemy.schema import CreateIndex, CreateTable, DropIndex, ExecutableDDLElement

from igh_sync_core.model import OptionKind, TableSpec
from igh_sync_core.schema import indexes, views
from igh_sync_core.schema.alterations import AddColumn, RenameTable, WidenColumn
from igh_sync_core.schema.optionsets import optionset_table
from igh_sync_core.schema.shapes import Shape, Stored, declared, shape_of, widening
from igh_sync_core.schema.tables import EntityTables, entity_tables


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
        before: What is on record of it; None where nothing is.
    """

    spec: TableSpec
    statements: tuple[ExecutableDDLElement, ...]
    fresh: frozenset[str]
    back: tuple[str, ...]
    is_new: bool
    shape: Shape | None
    before: Shape | None

    @property
    def is_due(self) -> bool:
        """Whether there is anything to do or to remember."""
        return bool(self.statements or self.fresh or self.is_new or self.shape)

    @property
    def without_views(self) -> "Work":
        """The same, but that no view is made."""
        shape = self.shape and msgspec.structs.replace(self.shape, views=())
        tables = tuple(one for one in self.statements if not isinstance(one, views.CreateView))
        return replace(self, statements=tables, shape=shape)

    @property
    def leaving_views(self) -> "Work":
        """The same, but that all views stay as they are, and all limits of texts: room is made when one needs it.

        The next work of this table finds the views as unfit as they were for this one.
        """
        old = self.before or Shape(self.spec.key, {})
        # No digest: views of a table that was renamed show that one still, and nothing else would tell.
        seen = {"views": old.views, "views_digest": "", "language": old.language}
        shape = self.shape and msgspec.structs.replace(self.shape, **seen)
        return replace(self, statements=tuple(one for one in self.statements if not _is_of_views(one)), shape=shape)

    @property
    def dropped(self) -> tuple[str, ...]:
        """Names of the views that are dropped."""
        return tuple(one.name for one in self.statements if isinstance(one, views.DropView))

    @property
    def is_waiting(self) -> bool:
        """Whether something changes that others may be reading, and that waits until they have done."""
        return any(not isinstance(one, CreateTable | CreateIndex | views.CreateView) for one in self.statements)


def _is_of_views(statement: ExecutableDDLElement) -> bool:
    if isinstance(statement, WidenColumn):
        return isinstance(statement.kind, String)
    return isinstance(statement, views.CreateView | views.DropView)


def outline(stored: Stored, specs: Sequence[TableSpec], *, language: int) -> Iterator[Work]:
    """Work out what each entity's tables need, in the order of *specs*; pure."""
    around = surroundings(stored, specs, language)
    yield from (outline_one(stored, spec, around) for spec in specs)


@dataclass(frozen=True)
class Surroundings:
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

    def copy(self) -> "Surroundings":
        """The same, to go on from: what of an entity fails is undone, and the next one finds all as it was."""
        return replace(self, present=set(self.present), standing=set(self.standing))


def surroundings(stored: Stored, specs: Sequence[TableSpec], language: int) -> Surroundings:
    """What the entities of one call find; *language* is the LCID of the labels in their views."""
    own_views = {name for shape in stored.shapes.values() for name in shape.views}
    wanted = {str(entity_tables(spec).main.name) for spec in specs}
    taken = stored.tables | (stored.views - own_views) | wanted
    return Surroundings(set(stored.tables), taken, own_views & stored.views, language)


def _in_the_way(stored: Stored, table: str) -> Iterator[str]:
    """A view that has the name of a table, and before it the one built on it."""
    for shape in stored.shapes.values():
        if table in shape.views:
            yield from shape.views[: shape.views.index(table) + 1]


def outline_one(stored: Stored, spec: TableSpec, around: Surroundings) -> Work:
    """Work out what one entity's tables need; *around* is brought up to what they then are."""
    tables = entity_tables(spec)
    name = str(tables.main.name)
    is_new = name not in stored.columns
    # What is remembered of a table that is gone says nothing of the one to be made, but where its views are.
    before = stored.shapes.get(name)
    making_way = list(_dropping(_in_the_way(stored, name), around))
    setting_apart = list(_setting_apart(stored, tables, around)) if is_new else []
    creating = list(missing_tables(stored, spec, around.present))
    altering = [] if is_new else list(_alterations(stored, tables))
    fresh = frozenset() if is_new else _fresh(stored, spec, before)
    after = _with_views(shape_of(spec, None if is_new else before), spec, around)
    is_altered = is_new or any(not isinstance(one, CreateIndex) for one in altering)
    viewing = list(_viewing(spec, before, after, around, is_altered=is_altered))
    statements = _ordered(making_way, setting_apart, creating, altering, viewing)
    shape = None if after == before and not statements else after
    return Work(spec, statements, fresh, tuple(_back(stored, tables, fresh)), is_new, shape, before)


def _back(stored: Stored, tables: EntityTables, fresh: frozenset[str]) -> Iterator[str]:
    return (name for name, junction in tables.junctions.items() if name in fresh and junction.name in stored.tables)


def _ordered(*groups: Sequence[ExecutableDDLElement]) -> tuple[ExecutableDDLElement, ...]:
    """PostgreSQL widens no column that a view shows, so views go before everything else and come back last."""
    everything = [statement for group in groups for statement in group]
    drops = [one for one in everything if isinstance(one, views.DropView)]
    return (*drops, *(one for one in everything if not isinstance(one, views.DropView)))


def _setting_apart(stored: Stored, tables: EntityTables, around: Surroundings) -> Iterator[RenameTable]:
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


def missing_tables(stored: Stored, spec: TableSpec, present: set[str]) -> Iterator[ExecutableDDLElement]:
    """Statements that make the tables of one entity that are not among those *present*, to which they are added."""
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
    yield from _lost_indexes(stored, tables)


def _lost_indexes(stored: Stored, tables: EntityTables) -> Iterator[CreateIndex]:
    """Those that somebody dropped, or left out when a table was restored: without them history may double.

    On PostgreSQL: files of SQLite that are taken over lack them for a reason at times, see ``leftovers``.
    """
    if stored.dialect.name != "postgresql":
        return
    standing = [one for one in tables.junctions.values() if one.name in stored.tables]
    for index in (index for table in (tables.main, *standing) for index in indexes.in_order(table)):
        if index.name not in stored.indexes:
            yield CreateIndex(index)


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


def _with_views(shape: Shape, spec: TableSpec, around: Surroundings) -> Shape:
    names = views.names(spec, around.taken)
    digest = views.digest(spec, around.language)
    return msgspec.structs.replace(shape, views=names, views_digest=digest, language=around.language)


def _viewing(
    spec: TableSpec, before: Shape | None, after: Shape, around: Surroundings, *, is_altered: bool
) -> Iterator[ExecutableDDLElement]:
    is_same = before is not None and (before.views, before.views_digest) == (after.views, after.views_digest)
    if is_same and not is_altered and around.standing >= set(after.views):
        return
    yield from _dropping(before.views if before else (), around)
    yield from views.creation(spec, after.views, after.language)


def _dropping(names: Iterable[str], around: Surroundings) -> Iterator[ExecutableDDLElement]:
    for name in names:
        if name in around.standing:
            around.standing.remove(name)
            yield views.DropView(name)
