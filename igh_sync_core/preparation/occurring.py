"""Codes that rows of an adopted table hold, beside them: the earlier program left out those that had no label.

Looked for once for each table, by going through all of it; which are done is kept. Everything here runs inside the
caller's transaction, on SQLite, which is all that program wrote.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msgspec.json import Decoder
from sqlalchemy import Connection, FromClause, Select, case, func, insert, inspect, literal, select

from igh_sync_core.model import Column, OptionKind, TableSpec
from igh_sync_core.schema.optionsets import optionset_name, optionset_table
from igh_sync_core.schema.tables import entity_tables
from igh_sync_core.schema.views import label_of
from igh_sync_core.store import knowledge
from igh_sync_core.store.dialect import Instant, member_of

_NAMES = Decoder(list[str])
_DONE = "codes of adopted tables"
"""What the names of the tables done are kept under."""


@dataclass(frozen=True)
class Told:
    """What the codes added are to say.

    Attributes:
        first_seen: When.
        language: LCID of their labels; any other language stands in, else the number.
    """

    first_seen: datetime
    language: int


def add(conn: Connection, specs: Iterable[TableSpec], present: Collection[str], told: Told) -> Iterator[str]:
    """Add what is missing in tables that were not done yet; one line for people per field.

    Args:
        conn: A connection inside a transaction; the control tables exist.
        specs: Entities whose tables were adopted.
        present: Names of all tables.
        told: What the new codes say.
    """
    done = set(_NAMES.decode(knowledge.named(conn, [_DONE]).get(_DONE, "[]")))
    due = [spec for spec in specs if spec.entity_set not in done and is_whole(conn, spec, present)]
    for spec in due:
        yield from _add(conn, spec, told)
    if due:
        knowledge.put(conn, _DONE, sorted(done | {str(spec.entity_set) for spec in due}))


def is_whole(conn: Connection, spec: TableSpec, present: Collection[str]) -> bool:
    """Whether the columns and the tables of codes are there; not so while an entity is set aside."""
    if not {optionset_name(column.name) for column in spec.choices} <= set(present):
        return False
    main = entity_tables(spec).main
    held = {column["name"].casefold() for column in inspect(conn).get_columns(main.name)}
    return {main.c[column.name].name.casefold() for column in spec.choices} <= held


def _add(conn: Connection, spec: TableSpec, told: Told) -> Iterator[str]:
    for column in spec.choices:
        codes = optionset_table(column.name)
        found = _occurring(spec, column).subquery("found")
        label = label_of(found.c.code, entity=spec.logical_name, field=column.name, language=told.language)
        new = select(found.c.code, label, literal(told.first_seen, Instant()))
        missing = new.where(found.c.code.not_in(select(codes.c.code)))
        count = conn.execute(insert(codes).from_select(["code", "label", "first_seen"], missing)).rowcount
        if count:
            yield f"{codes.name}: codes that rows of {spec.entity_set} hold were missing, and were added: {count}"


def _occurring(spec: TableSpec, column: Column) -> Select[Any]:
    """Every code that any version holds, once."""
    main = entity_tables(spec).main
    if column.option is not OptionKind.MULTISELECT:
        return _numbers(main, main.c[column.name])
    listed = literal("[") + func.coalesce(member_of(main.c.json_response, column.name), "") + "]"
    picks = func.json_each(case((func.json_valid(listed), listed), else_="[]")).table_valued("value", name="picks")
    return _numbers(main.join(picks, literal(1) == 1), picks.c.value)


def _numbers(rows: FromClause, value: Any) -> Select[Any]:  # noqa: ANN401 - any expression
    is_code = func.typeof(value) == "integer"
    return select(value.label("code")).select_from(rows).where(is_code).distinct()
