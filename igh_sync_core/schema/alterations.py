"""``ALTER TABLE`` in the forms that SQLAlchemy has no elements for."""

from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql.compiler import DDLCompiler
from sqlalchemy.types import TypeEngine

from igh_sync_core.schema.shapes import spelled


class AddColumn(ExecutableDDLElement):
    """``ALTER TABLE … ADD COLUMN``."""

    def __init__(self, column: Column[Any]) -> None:
        self.column = column


class WidenColumn(ExecutableDDLElement):
    """``ALTER TABLE … ALTER COLUMN … TYPE``, on PostgreSQL; to the column's own type where none is given."""

    def __init__(self, column: Column[Any], kind: TypeEngine[Any] | None = None) -> None:
        self.column, self.kind = column, column.type if kind is None else kind


class RenameTable(ExecutableDDLElement):
    """``ALTER TABLE … RENAME TO``; its indexes keep their names."""

    def __init__(self, table: Table, name: str) -> None:
        self.table, self.name = table, name


@compiles(AddColumn)
def _add_column(element: AddColumn, compiler: DDLCompiler, **_options: Any) -> str:  # noqa: ANN401
    table = compiler.preparer.format_table(element.column.table)
    column = compiler.get_column_specification(element.column)  # type: ignore[no-untyped-call]
    return f"ALTER TABLE {table} ADD COLUMN {column}"


@compiles(WidenColumn)
def _widen_column(element: WidenColumn, compiler: DDLCompiler, **_options: Any) -> str:  # noqa: ANN401
    table = compiler.preparer.format_table(element.column.table)
    name = compiler.preparer.format_column(element.column)
    return f"ALTER TABLE {table} ALTER COLUMN {name} TYPE {spelled(element.kind, compiler.dialect)}"


@compiles(RenameTable)
def _rename_table(element: RenameTable, compiler: DDLCompiler, **_options: Any) -> str:  # noqa: ANN401
    preparer = compiler.preparer
    return f"ALTER TABLE {preparer.format_table(element.table)} RENAME TO {preparer.quote_identifier(element.name)}"
