"""A file of the program before this one is taken over as it is: what it lacks is added, what it holds stays.

That program kept the same tables, without ``closed_reason``, without the types of polymorphic lookups, and with times
in several text forms, all of which are read. The types are filled from the stored records themselves; where those do
not tell, the next read is a full one and fills them, making no versions. Images it kept as text become bytes.

It wrote SQLite files only; of an earlier form of this program state and log may lack columns, on both engines.
Everything here runs in the one transaction that also checks the schema.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Table, inspect, select, update
from sqlalchemy.schema import CreateIndex, ExecutableDDLElement

from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.model import TableSpec
from igh_sync_core.preparation.takeover import Takeover, adding
from igh_sync_core.schema import indexes
from igh_sync_core.schema.tables import OURS, identifier
from igh_sync_core.store.control import ControlTable, SyncLog, SyncShape, SyncState

_SHAPES = SyncShape.metadata.tables["_sync_shape"]
_CONTROL: tuple[tuple[type[ControlTable], Table], ...] = (
    (SyncState, SyncState.metadata.tables["_sync_state"]),
    (SyncLog, SyncLog.metadata.tables["_sync_log"]),
)
CONTROL_COLUMNS = tuple(str(column) for _model, table in _CONTROL for column in table.columns)
"""Those of state and log; moves with each that is added, so that stored tables are looked at again, and extended."""


def adopt(
    conn: Connection, specs: Sequence[TableSpec], entities: Sequence[EntityConfig], *, now: datetime
) -> tuple[str, ...]:
    """Take over the tables of *specs* that the earlier program made; what is ours already is left alone.

    Args:
        conn: A connection inside a transaction; the control tables exist, in whatever form.
        specs: Entities that metadata knows.
        entities: As configured.
        now: The server's clock.

    Returns:
        What was taken over, for people; empty where there was nothing.
    """
    _extend_control_tables(conn)
    taken = find(conn, specs, entities)
    for one in taken:
        one.execute(now)
    return (*tell(taken, "taken over"), *(note for one in taken for note in one.notes))


def find(conn: Connection, specs: Sequence[TableSpec], entities: Sequence[EntityConfig]) -> list[Takeover]:
    """The earlier program's tables among those of *specs*, and what it takes to make them ours; writes nothing.

    Args:
        conn: Any database, in whatever state.
        specs: Entities that metadata knows.
        entities: As configured, those of *specs* among them.
    """
    if conn.dialect.name != "sqlite":
        return []
    configured = {entity.name: entity for entity in entities}
    return [Takeover(conn, spec, configured[spec.logical_name]) for spec in _foreign(conn, specs)]


def tell(taken: Sequence[Takeover], verb: str) -> tuple[str, ...]:
    """The same in words for people; empty where there is nothing."""
    if not taken:
        return ()
    rows = sum(one.versions for one in taken)
    whole = [one.spec.entity_set for one in taken if one.unfilled]
    text = f"{verb} from an earlier program: {len(taken)} tables with {rows} versions, all of them kept"
    return (
        (text, f"read whole once, to fill in what their records do not tell: {', '.join(whole)}") if whole else (text,)
    )


def control_statements(conn: Connection) -> list[ExecutableDDLElement]:
    """What state and log lack that an earlier program made, or an earlier form of this one, as DDL; writes nothing."""
    return [statement for _model, table in _CONTROL for statement in _extension(table, _missing(conn, table))]


def _foreign(conn: Connection, specs: Sequence[TableSpec]) -> Iterator[TableSpec]:
    """Entities whose table is one of the earlier program's."""
    inspector = inspect(conn)
    unknown = set(inspector.get_table_names())
    if _SHAPES.name in unknown:
        unknown.difference_update(conn.scalars(select(_SHAPES.c.table_name)))
    for spec in specs:
        table = identifier(spec.entity_set)
        if table in unknown:
            present = {column["name"] for column in inspector.get_columns(table)}
            if set(OURS) - present == {"closed_reason"}:
                yield spec


def _extend_control_tables(conn: Connection) -> None:
    """Give state and log the columns they lack, of an earlier program or an earlier form of this one; filled."""
    for model, table in _CONTROL:
        missing = _missing(conn, table)
        for statement in _extension(table, missing):
            conn.execute(statement)
        if missing:
            conn.execute(update(table).values(_defaults(model, missing)))


def _missing(conn: Connection, table: Table) -> list[Column[Any]]:
    """Columns that a stored table lacks; none where the table itself is yet to be made."""
    inspector = inspect(conn)
    if not inspector.has_table(table.name):
        return []
    present = {column["name"] for column in inspector.get_columns(table.name)}
    return [column for column in table.columns if column.name not in present]


def _extension(table: Table, missing: Sequence[Column[Any]]) -> Iterator[ExecutableDDLElement]:
    yield from adding(table, [column.name for column in missing])
    if missing:
        yield from (CreateIndex(index, if_not_exists=True) for index in indexes.in_order(table))


def _defaults(model: type[ControlTable], columns: Sequence[Column[Any]]) -> Mapping[str, Any]:
    return {column.name: model.model_fields[column.name].default for column in columns}
