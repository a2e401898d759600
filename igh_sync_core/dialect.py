"""Expressions that SQLite and PostgreSQL spell differently; everything else is plain SQLAlchemy."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import TIMESTAMP, Connection, Dialect, Table, Text, TypeDecorator, literal
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

TEXT_FORM = "%Y-%m-%dT%H:%M:%SZ"


class Instant(TypeDecorator[datetime]):
    """A point in time in whole seconds: ``timestamptz``, or ``YYYY-MM-DDTHH:MM:SSZ`` text in SQLite (law 4)."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the engine's own type."""
        return dialect.type_descriptor(TIMESTAMP(timezone=True) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ANN401 - SQLAlchemy's contract
        """Cut to whole seconds of UTC."""
        if value is None:
            return None
        whole = value.astimezone(UTC).replace(microsecond=0)
        return whole if dialect.name == "postgresql" else whole.strftime(TEXT_FORM)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ANN401
        """Give an aware datetime on both engines."""
        if value is None:
            return None
        return value.astimezone(UTC) if dialect.name == "postgresql" else parse_instant(value)


def parse_instant(text: str) -> datetime:
    """Read a stored time; a time without a zone is UTC."""
    value = datetime.fromisoformat(text)
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class later_of(FunctionElement[Any]):  # noqa: N801 - reads like the SQL function it is
    """The later of two times."""

    type = Instant()
    inherit_cache = True


class one_second_after(FunctionElement[Any]):  # noqa: N801
    """A time plus one second."""

    type = Instant()
    inherit_cache = True


class whole_second(FunctionElement[Any]):  # noqa: N801
    """A time cut to whole seconds, in the stored text form on SQLite."""

    type = Instant()
    inherit_cache = True


class json_member(FunctionElement[Any]):  # noqa: N801
    """Text of one member of a JSON object; built by :func:`member_of`."""

    type = Text()
    inherit_cache = True


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


@compiles(whole_second)
def _whole_second(element: whole_second, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    return f"date_trunc('second', {compiler.process(element.clauses, **options)})"


@compiles(whole_second, "sqlite")
def _whole_second_sqlite(element: whole_second, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    return f"strftime('%Y-%m-%dT%H:%M:%SZ', {compiler.process(element.clauses, **options)})"


@compiles(json_member)
def _json_member(element: json_member, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    document, name, _path = element.clauses
    return f"({compiler.process(document, **options)} ->> {compiler.process(name, **options)})"


@compiles(json_member, "sqlite")
def _json_member_sqlite(element: json_member, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    document, _name, path = element.clauses
    return f"json_extract({compiler.process(document, **options)}, {compiler.process(path, **options)})"


def insert_missing(conn: Connection, table: Table) -> Any:  # noqa: ANN401 - one of two classes of equal interface
    """An INSERT that skips rows whose key is already there."""
    build = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    return build(table).on_conflict_do_nothing()
