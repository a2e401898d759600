"""Views for people: ``{table}_current`` and ``{table}_history``.

Each choice stands beside its label in the organisation's base language, each lookup beside the table it points at;
a multi-select shows all its codes (``2,3``) and all its labels (``A; B``). A code whose option was removed keeps its
last label, one that never had a label shows its number. The record's JSON is left out.
"""

import hashlib
from collections.abc import Collection, Iterator
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Integer, Select, Table, Text, case, cast, literal, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql.compiler import DDLCompiler, SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from igh_sync_core.control import OptionSetLabel
from igh_sync_core.model import Column, Kind, Lookup, OptionKind, TableSpec
from igh_sync_core.tables import EntityTables, entity_tables, identifier

_LABELS = OptionSetLabel.metadata.tables["_optionset"]
LABELS_BETWEEN = "; "
CODES_BETWEEN = ","
_FORM = 2
"""Moves when this module builds views in another way, so that they are built again."""


class CreateView(ExecutableDDLElement):
    """``CREATE VIEW``."""

    def __init__(self, name: str, query: Select[Any]) -> None:
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
    return _free(f"{spec.entity_set}_current", folded), _free(f"{spec.entity_set}_history", folded)


def definitions(spec: TableSpec, language: int) -> tuple[Select[Any], Select[Any]]:
    """What both views show: the current rows, and every version.

    Args:
        spec: The entity.
        language: LCID of the labels; any other language stands in where an option has none.
    """
    main = entity_tables(spec).main
    columns = list(_columns(spec, language))
    current = select(*columns, main.c.sync_time, main.c.valid_from).where(main.c.valid_to.is_(None))
    times = (main.c.sync_time, main.c.valid_from, main.c.valid_to, main.c.closed_reason)
    return current, select(main.c.row_id, *columns, *times)


def digest(spec: TableSpec, language: int) -> str:
    """Fingerprint of what the views show."""
    return hashlib.sha256(msgspec.json.encode((_FORM, spec, language))).hexdigest()[:16]


def _columns(spec: TableSpec, language: int) -> Iterator[ColumnElement[Any]]:
    """Every declared column in its order, with what belongs beside it."""
    tables = entity_tables(spec)
    lookups = {lookup.column: lookup for lookup in spec.lookups}
    taken = {name.casefold() for name in tables.main.c.keys()}  # noqa: SIM118 - a collection of columns
    for column in spec.columns:
        if column.kind is Kind.COMPLEX:
            continue  # an object, kept as JSON, which is for programs
        beside = _beside(tables, column, lookups.get(column.name), language)
        if column.option is OptionKind.MULTISELECT:
            yield _all_codes(tables, column.name).label(identifier(column.name))
        else:
            yield tables.main.c[column.name]
        if beside is not None:
            wished, element = beside
            own = lookups.get(column.name)
            name = wished if own and own.is_polymorphic else _free(wished, taken)
            taken.add(name.casefold())
            yield element.label(name)


def _beside(
    tables: EntityTables, column: Column, lookup: Lookup | None, language: int
) -> tuple[str, ColumnElement[Any]] | None:
    main = tables.main
    if lookup is not None and lookup.is_polymorphic:
        return identifier(lookup.type_column), main.c[lookup.type_column]
    if lookup is not None:
        return lookup.type_column, case((main.c[column.name].is_not(None), literal(lookup.targets[0], Text())))
    if column.option is OptionKind.MULTISELECT:
        return f"{column.name}_label", _all_labels(tables, column.name, language)
    if column.option is not None:
        return f"{column.name}_label", _label(tables, column.name, cast(main.c[column.name], Integer), language)
    return None


def _label(tables: EntityTables, field: str, code: ColumnElement[Any], language: int) -> ColumnElement[Any]:
    return label_of(code, entity=tables.spec.logical_name, field=field, language=language)


def _all_labels(tables: EntityTables, field: str, language: int) -> ColumnElement[Any]:
    code = tables.junctions[field].c.option_code
    return _joined(tables, field, _label(tables, field, code, language), LABELS_BETWEEN)


def _all_codes(tables: EntityTables, field: str) -> ColumnElement[Any]:
    code = tables.junctions[field].c.option_code
    return _joined(tables, field, cast(code, Text), CODES_BETWEEN)


def _joined(tables: EntityTables, field: str, part: ColumnElement[Any], between: str) -> ColumnElement[Any]:
    """One text from all options of a version, by code; null where none is chosen."""
    main, junction = tables.main, tables.junctions[field]
    parts = (
        select(part.label("part"))
        .where(_is_of_version(main, junction, tables.spec.key))
        .order_by(junction.c.option_code)
        .correlate(main)
        .subquery()
    )
    return select(joined_text(parts.c.part, literal(between, Text()))).scalar_subquery()


def _is_of_version(main: Table, junction: Table, key: str) -> ColumnElement[bool]:
    return (junction.c.entity_id == main.c[key]) & (junction.c.valid_from == main.c.valid_from)


def _free(wished: str, taken: Collection[str]) -> str:
    """The name itself, or the same with the first number that makes it free; names *taken* are case-folded."""
    candidates = (identifier(wished if at == 1 else f"{wished}_{at}") for at in range(1, len(taken) + 2))
    return next(name for name in candidates if name.casefold() not in taken)
