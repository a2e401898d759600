"""Views for people: ``{table}_history``, and ``{table}_current``, which is what of it holds now.

Each choice stands beside its label in the organisation's base language, each lookup beside the table it points at;
a multi-select shows all its codes (``2,3``) and all its labels (``A; B``). A code whose option was removed keeps its
last label, one that never had a label shows its number. The record's JSON is left out.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, FromClause, Integer, Text, case, cast, literal, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql import ClauseElement, quoted_name
from sqlalchemy.sql.compiler import DDLCompiler, SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from igh_sync_core.model import Column, Kind, Lookup, OptionKind, TableSpec
from igh_sync_core.schema.tables import EntityTables, entity_tables, identifier
from igh_sync_core.store.control import OptionSetLabel

_LABELS = OptionSetLabel.metadata.tables["_optionset"]
LABELS_BETWEEN = "; "
CODES_BETWEEN = ","
_FORM = 2
"""Moves when this module builds views in another way, so that they are built again."""


class CreateView(ExecutableDDLElement):
    """``CREATE VIEW``."""

    def __init__(self, name: str, query: ClauseElement) -> None:
        self.name, self.query = name, query


class DropView(ExecutableDDLElement):
    """``DROP VIEW IF EXISTS``; refused by PostgreSQL while other views are built on it."""

    def __init__(self, name: str) -> None:
        self.name = name


class joined_text(FunctionElement[str]):  # noqa: N801 - reads like the SQL function it is
    """All texts of a group in one, with a separator between them."""

    type = Text()
    inherit_cache = True


@compiles(joined_text)
def _joined_text(element: joined_text, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    return f"string_agg({compiler.process(element.clauses, **options)})"


@compiles(joined_text, "sqlite")
def _joined_text_sqlite(element: joined_text, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    return f"group_concat({compiler.process(element.clauses, **options)})"


class label_of(FunctionElement[str]):  # noqa: N801 - reads like the SQL function it might be
    """The text of an option: in the language wanted, else in another one, else its last one; else its number.

    Args:
        code: The option.
        entity: Logical name.
        field: The column, whose options they are.
        language: LCID wanted.
    """

    type = Text()
    inherit_cache = False

    def __init__(self, code: ColumnElement[Any], *, entity: str, field: str, language: int) -> None:
        super().__init__(code)
        self.entity, self.field, self.language = entity, field, language


@compiles(label_of)
def _label_of(element: label_of, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    # Written out: views hold hundreds of these, and to build one from expressions takes longer than to create a table.
    code = compiler.process(element.clauses, **options)
    entity, field = (compiler.render_literal_value(text, Text()) for text in (element.entity, element.field))
    is_meant = f"o.entity = {entity} AND o.field = {field} AND o.code = {code} AND o.label <> ''"
    by_rank = f"o.last_seen IS NULL DESC, o.language = {element.language:d} DESC, o.last_seen DESC, o.language"
    found = f"SELECT o.label FROM {_LABELS.name} AS o WHERE {is_meant} ORDER BY {by_rank} LIMIT 1"  # noqa: S608 - quoted above
    return f"coalesce(({found}), CAST({code} AS TEXT))"


class open_of(ClauseElement):  # noqa: N801 - reads like the query it is
    """Columns of those rows of a view that hold now.

    Args:
        view: Its name.
        columns: Names of the columns.
    """

    inherit_cache = False

    def __init__(self, view: str, columns: Sequence[str]) -> None:
        self.view, self.columns = view, columns


@compiles(open_of)
def _open_of(element: open_of, compiler: SQLCompiler, **_options: Any) -> str:  # noqa: ANN401
    quote = compiler.preparer.quote_identifier  # written out as labels are, and for the same reason
    return f"SELECT {', '.join(map(quote, element.columns))} FROM {quote(element.view)} WHERE valid_to IS NULL"  # noqa: S608


@compiles(CreateView)
def _create_view(element: CreateView, compiler: DDLCompiler, **_options: Any) -> str:  # noqa: ANN401
    query = compiler.sql_compiler.process(element.query, literal_binds=True)
    return " ".join(("CREATE VIEW", compiler.preparer.quote_identifier(element.name), "AS", query))


@compiles(DropView)
def _drop_view(element: DropView, compiler: DDLCompiler, **_options: Any) -> str:  # noqa: ANN401
    return f"DROP VIEW IF EXISTS {compiler.preparer.quote_identifier(element.name)}"


def names(spec: TableSpec, taken: Collection[str]) -> tuple[str, str]:
    """Names of both views, avoiding every relation in *taken* and each other.

    Args:
        spec: The entity.
        taken: Names of all tables, stored and wanted, and of views not ours.
    """
    folded = {name.casefold() for name in taken}
    return free(f"{spec.entity_set}_current", folded), free(f"{spec.entity_set}_history", folded)


def creation(spec: TableSpec, names: Sequence[str], language: int) -> Iterator[CreateView]:
    """The statements that make both views, the history first.

    The current view is built on it: spelled out twice, the views of wide tables would be most of what SQLite reads
    whenever a connection is opened.

    Args:
        spec: The entity.
        names: Of the current view and of the history, see :func:`names`.
        language: LCID of the labels; any other language stands in where an option has none.
    """
    current, history = map(_quoted, names)
    rows = entity_tables(spec).main.alias("r")
    columns = list(_columns(spec, rows, language))
    times = (rows.c.sync_time, rows.c.valid_from)
    yield CreateView(history, select(rows.c.row_id, *columns, *times, rows.c.valid_to, rows.c.closed_reason))
    yield CreateView(current, open_of(history, [one.name for one in (*columns, *times)]))


def digest(spec: TableSpec, language: int) -> str:
    """Fingerprint of what the views show."""
    return hashlib.sha256(msgspec.json.encode((_FORM, spec, language))).hexdigest()[:16]


def _columns(spec: TableSpec, rows: FromClause, language: int) -> Iterator[ColumnElement[Any]]:
    """Every declared column of the versions in *rows* in its order, with what belongs beside it."""
    tables = entity_tables(spec)
    lookups = {lookup.column: lookup for lookup in spec.lookups}
    taken = {name.casefold() for name in tables.main.c.keys()}  # noqa: SIM118 - a collection of columns
    for one in spec.columns:
        if one.kind is Kind.COMPLEX:
            continue  # an object, kept as JSON, which is for programs
        own = lookups.get(one.name)
        if one.option is OptionKind.MULTISELECT:
            yield _joined(tables, rows, one.name, _as_text, CODES_BETWEEN).label(_quoted(identifier(one.name)))
        else:
            yield rows.c[one.name]
        beside = _beside_lookup(rows, own) if own else _beside_choice(tables, rows, one, language)
        if beside is not None:
            wished, element = beside
            name = wished if own and own.is_polymorphic else free(wished, taken)
            taken.add(name.casefold())
            yield element.label(_quoted(name))


def _quoted(name: str) -> quoted_name:
    """A name that is always quoted, as those of tables are: nobody knows every engine's keywords."""
    return quoted_name(name, quote=True)


def _beside_lookup(rows: FromClause, lookup: Lookup) -> tuple[str, ColumnElement[Any]]:
    if lookup.is_polymorphic:
        return identifier(lookup.type_column), rows.c[lookup.type_column]
    return lookup.type_column, case((rows.c[lookup.column].is_not(None), literal(lookup.targets[0], Text())))


def _beside_choice(
    tables: EntityTables, rows: FromClause, choice: Column, language: int
) -> tuple[str, ColumnElement[Any]] | None:
    if choice.option is None:
        return None
    label = partial(label_of, entity=tables.spec.logical_name, field=choice.name, language=language)
    if choice.option is OptionKind.MULTISELECT:
        labels = _joined(tables, rows, choice.name, label, LABELS_BETWEEN)
    else:
        labels = label(cast(rows.c[choice.name], Integer))
    return f"{choice.name}_label", labels


def _joined(
    tables: EntityTables,
    rows: FromClause,
    field: str,
    part: Callable[[ColumnElement[Any]], ColumnElement[Any]],
    between: str,
) -> ColumnElement[Any]:
    """One text from all options of a version, by code; null where none is chosen."""
    picks = tables.junctions[field].alias("p")
    is_of_version = (picks.c.entity_id == rows.c[tables.spec.key]) & (picks.c.valid_from == rows.c.valid_from)
    parts = select(part(picks.c.option_code).label("part")).where(is_of_version).order_by(picks.c.option_code)
    listed = parts.correlate(rows).subquery("parts")
    return select(joined_text(listed.c.part, literal(between, Text()))).scalar_subquery()


def _as_text(code: ColumnElement[Any]) -> ColumnElement[Any]:
    return cast(code, Text)


def free(wished: str, taken: Collection[str]) -> str:
    """The name itself, or the same with the first number that makes it free; names *taken* are case-folded."""
    candidates = (identifier(wished if at == 1 else f"{wished}_{at}") for at in range(1, len(taken) + 2))
    return next(name for name in candidates if name.casefold() not in taken)
