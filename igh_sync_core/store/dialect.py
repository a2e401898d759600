"""Expressions that SQLite and PostgreSQL spell differently; everything else is plain SQLAlchemy."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import (
    TIMESTAMP,
    Boolean,
    Dialect,
    FromClause,
    Insert,
    String,
    Table,
    Text,
    TypeDecorator,
    bindparam,
    column,
    func,
    literal,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import TypeEngine

from igh_sync_core.instants import spelled, utc

_POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]
_SECOND = timedelta(seconds=1)
_LAST = datetime.max.replace(tzinfo=UTC)


class Document(Text):
    """Text of which SQLite is given the bytes as they were received, in UTF-8; ``jsonb`` in PostgreSQL."""


class Instant(TypeDecorator[datetime]):
    """A point in time in whole seconds: ``timestamptz``, or ``YYYY-MM-DDTHH:MM:SSZ`` text in SQLite (law 4)."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the engine's own type."""
        return dialect.type_descriptor(TIMESTAMP(timezone=True) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ANN401 - SQLAlchemy's contract
        """Cut to whole seconds of UTC."""
        return None if value is None else stored_instant(value, dialect.name)

    def process_result_value(self, value: Any, _dialect: Dialect) -> datetime | None:  # noqa: ANN401
        """Give an aware datetime on both engines."""
        return given_instant(value)


def stored_instant(value: datetime, engine: str) -> Any:  # noqa: ANN401 - text or datetime, by engine
    """A time as the driver takes it, cut to whole seconds of UTC."""
    return value.astimezone(UTC).replace(microsecond=0) if engine == "postgresql" else spelled(value)


def given_instant(value: Any) -> datetime | None:  # noqa: ANN401
    """A time as the driver gives it, in UTC."""
    if value is None:
        return None
    return value.astimezone(UTC) if isinstance(value, datetime) else parse_instant(value)


def second_after(value: Any) -> Any:  # noqa: ANN401
    """A stored time plus one second, as the driver gives and takes it; after the last second of all there is none."""
    time = value if isinstance(value, datetime) else parse_instant(value)
    if time > _LAST - _SECOND:
        return value
    return time + _SECOND if isinstance(value, datetime) else stored_instant(time + _SECOND, "sqlite")


def parse_instant(text: str) -> datetime:
    """Read a stored time; a time without a zone is UTC, and a year may come without its leading zeros."""
    if "-" in text[:4]:  # as years before 1000 were once stored
        year, dash, rest = text.partition("-")
        text = f"{year:0>4}{dash}{rest}"
    return utc(datetime.fromisoformat(text))


class later_of(FunctionElement[Any]):  # noqa: N801 - reads like the SQL function it is
    """The later of two times."""

    type = Instant()
    inherit_cache = True


class one_second_after(FunctionElement[Any]):  # noqa: N801
    """A time plus one second."""

    type = Instant()
    inherit_cache = True


class json_member(FunctionElement[Any]):  # noqa: N801
    """Text of one member of a JSON object; built by :func:`member_of`."""

    type = Text()
    inherit_cache = True


class one_of(FunctionElement[bool]):  # noqa: N801
    """Whether a column holds one of many values; built by :func:`is_one_of`."""

    type = Boolean()
    inherit_cache = True

    def self_group(self, against: OperatorType | None = None) -> "one_of":  # noqa: ARG002 - SQLAlchemy's contract
        """Itself: SQLAlchemy would add ``= 1`` in SQLite, which then goes through all rows instead of the index."""
        return self


def is_one_of(column: ColumnElement[Any], name: str) -> one_of:
    """Whether *column* holds one of the values that the parameter *name* lists, however many; see :func:`listed`."""
    one = column.type.dialect_impl(_POSTGRESQL)
    # A cast to a text of a certain length would cut longer ones.
    kind = postgresql.ARRAY(Text() if isinstance(one, String) else column.type).with_variant(Text(), "sqlite")
    return one_of(column, bindparam(name, type_=kind))


def listed(engine: str, values: Sequence[Any]) -> Any:  # noqa: ANN401 - a list, or JSON text for SQLite
    """Values as the driver takes them for a parameter of :func:`is_one_of`."""
    return list(values) if engine == "postgresql" else msgspec.json.encode(values).decode()


def rows_listed(engine: str, name: str, kinds: Mapping[str, TypeEngine[Any]]) -> FromClause:
    """A table of rows that parameters list, for one statement; see :func:`given_rows`.

    Args:
        engine: Name of the engine.
        name: What the statement calls it.
        kinds: Types of its columns, by name.
    """
    if engine == "postgresql":
        lists = (bindparam(f"{name}_{label}", type_=postgresql.ARRAY(kind)) for label, kind in kinds.items())
        columns = (column(label, kind) for label, kind in kinds.items())
        return func.unnest(*lists).table_valued(*columns, name=name).render_derived()
    each = func.json_each(bindparam(name, type_=Text())).table_valued("value")
    members = (
        func.json_extract(each.c.value, literal_column(f"'$[{at}]'", Text()), type_=kind).label(label)
        for at, (label, kind) in enumerate(kinds.items())
    )
    return select(*members).subquery(name)


def given_rows(engine: str, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Rows as the driver takes them for the parameters of :func:`rows_listed`; numbers, texts and stored times."""
    if engine == "postgresql":
        lists = zip(*rows, strict=True)
        return {f"{name}_{label}": list(values) for label, values in zip(columns, lists, strict=True)}
    return {name: msgspec.json.encode(rows).decode()}


def member_of(document: ColumnElement[Any], name: str) -> json_member:
    """Text of the member *name* of a stored record.

    Args:
        document: A ``json_response`` column.
        name: A property name, already checked to be an identifier.
    """
    return json_member(document, literal(name, Text()), literal(f'$."{name}"', Text()))


@compiles(later_of)
def _later_of(element: later_of, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    return f"greatest({compiler.process(element.clauses, **options)})"


@compiles(later_of, "sqlite")
def _later_of_sqlite(element: later_of, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    return f"max({compiler.process(element.clauses, **options)})"


@compiles(one_second_after)
def _one_second_after(element: one_second_after, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    return f"({compiler.process(element.clauses, **options)} + interval '1 second')"


@compiles(one_second_after, "sqlite")
def _one_second_after_sqlite(element: one_second_after, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    inner = compiler.process(element.clauses, **options)
    return f"strftime('%Y-%m-%dT%H:%M:%SZ', {inner}, '+1 second')"


@compiles(json_member)
def _json_member(element: json_member, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    document, name, _path = element.clauses
    return f"({compiler.process(document, **options)} ->> {compiler.process(name, **options)})"


@compiles(json_member, "sqlite")
def _json_member_sqlite(element: json_member, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    document, _name, path = element.clauses
    return f"json_extract({compiler.process(document, **options)}, {compiler.process(path, **options)})"


@compiles(one_of)
def _one_of(element: one_of, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} = ANY({values})"


@compiles(one_of, "sqlite")
def _one_of_sqlite(element: one_of, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608 - compiled clauses


def insert_missing(engine: str, table: Table) -> Insert:
    """An INSERT that skips rows whose key is already there."""
    build = postgresql.insert if engine == "postgresql" else sqlite.insert
    return build(table).on_conflict_do_nothing()


def upsert(engine: str, table: Table, *, keeping: Collection[str] = ()) -> Insert:
    """An INSERT of whole rows that replaces the row of the same primary key; columns in *keeping* stay."""
    inserting = postgresql.insert(table) if engine == "postgresql" else sqlite.insert(table)
    own = [column.name for column in table.primary_key]
    kept = {*own, *keeping}
    rest = {column.name: inserting.excluded[column.name] for column in table.columns if column.name not in kept}
    return inserting.values({column.name: bindparam(column.name) for column in table.columns}).on_conflict_do_update(
        index_elements=own, set_=rest
    )
