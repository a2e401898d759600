"""Why a record is in the database: one chain of references to it, from a row that is copied for its own sake.

Walks backwards, breadth first, so the chain is a shortest one. Each step is one statement per relation, whatever the
number of records; what was met is kept in a temporary table.
"""

from collections.abc import Collection, Iterator, Sequence
from enum import StrEnum

from msgspec import Struct
from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    Row,
    Select,
    Table,
    Text,
    cast,
    delete,
    insert,
    inspect,
    literal,
    select,
)

from igh_sync_core.config import Config
from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.errors import ConfigError
from igh_sync_core.inspection.looking import reading
from igh_sync_core.metadata import catalog
from igh_sync_core.model import LogicalName, TableSpec
from igh_sync_core.related.references import points_at
from igh_sync_core.related.relations import Relation, relations_of
from igh_sync_core.schema.tables import entity_tables
from igh_sync_core.store.dialect import insert_missing

_MET = Table(
    "_explained",
    MetaData(),
    Column("entity_name", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("step", Integer),
    Column("fk_column", Text),
    Column("next_entity", Text),
    Column("next_key", Text),
    prefixes=["TEMPORARY"],
)
_Met = tuple[str, str, int, str, str, str]
_METADATA = "_sync_metadata"
_NOTHING_YET = "nothing was synced into this database yet; run sync-dataverse first"
_COLUMNS = ("entity_name", "key", "step", "fk_column", "next_entity", "next_key")


class Standing(StrEnum):
    """Why a record is stored, if it is."""

    ABSENT = "absent"
    WHOLE_TABLE = "whole_table"
    REFERENCED = "referenced"
    KEPT = "kept"


class Step(Struct, frozen=True):
    """One record of a chain.

    Attributes:
        table: Its table.
        key: Its id.
        fk_column: Its column that points at the next record; "" for the last one.
    """

    table: str
    key: str
    fk_column: str = ""


class Explanation(Struct, frozen=True):
    """Why a record is stored.

    Attributes:
        standing: ``absent``: no current row; ``whole_table``: its table is copied whole; ``referenced``: the chain says
            why; ``kept``: it was referenced once, and is kept since it is still a true copy.
        steps: From a row that is copied for its own sake to the record; only the record where there is no chain.
    """

    standing: Standing
    steps: tuple[Step, ...] = ()

    def __str__(self) -> str:
        """The reason in words, then the chain, one record a line."""
        lines = [f"{step.table} {step.key}{f'  {step.fk_column} →' if step.fk_column else ''}" for step in self.steps]
        return "\n".join([_WORDS[self.standing], *lines])


_WORDS = {
    Standing.ABSENT: "no current row has this id",
    Standing.WHOLE_TABLE: "its table is copied whole",
    Standing.REFERENCED: "a row that is copied for its own sake leads to it:",
    Standing.KEPT: "nothing points at it any more; it is kept, being a true copy of the source",
}


def explain_record(config: Config, entities: Sequence[EntityConfig], *, table: str, key: str) -> Explanation:
    """Explain one record of the copy; asks the database alone, and waits for no run.

    Args:
        config: Where the copy is.
        entities: The configured entities.
        table: Logical name or entity set.
        key: The record's id.

    Raises:
        ConfigError: No such table is synced, nothing was synced yet, or the SQLite file is none that a run could write.
        StoreUnavailable: The database cannot be reached.
    """
    filtered = {LogicalName(entity.name) for entity in entities if entity.filtered}
    with reading(config, with_temporaries=True) as conn:
        if not inspect(conn).has_table(_METADATA):
            raise ConfigError([_NOTHING_YET])
        specs = list(_known(conn, entities))
        if not specs:
            raise ConfigError([_NOTHING_YET])
        return explain(conn, specs, filtered, table=table, key=key)


def _known(conn: Connection, entities: Sequence[EntityConfig]) -> Iterator[TableSpec]:
    """Tables of the entities that any run has learnt, those set aside since included: their rows are still there."""
    for entity in entities:
        spec = catalog.known_spec(conn, LogicalName(entity.name))
        if spec is not None:
            yield spec


def explain(
    conn: Connection, specs: Sequence[TableSpec], filtered: Collection[LogicalName], *, table: str, key: str
) -> Explanation:
    """Find one shortest chain of references to a record.

    Args:
        conn: A connection inside a transaction; a temporary table is made on it.
        specs: Every synced table.
        filtered: Those that are copied only as far as others point at them.
        table: Logical name or entity set.
        key: The record's id, in any case, with or without braces.

    Raises:
        ConfigError: No such table is synced.
    """
    spec = next((one for one in specs if table in (one.logical_name, one.entity_set)), None)
    if spec is None:
        msg = f"{table}: no such table is synced; name one of {', '.join(one.entity_set for one in specs)}"
        raise ConfigError([msg])
    record = Step(spec.entity_set, key.strip("{} ").lower())
    if not _is_stored(conn, spec, record.key):
        return Explanation(Standing.ABSENT, (record,))
    if spec.logical_name not in filtered:
        return Explanation(Standing.WHOLE_TABLE, (record,))
    steps = _chain(conn, relations_of(specs), filtered, record)
    return Explanation(Standing.REFERENCED, steps) if steps else Explanation(Standing.KEPT, (record,))


def _is_stored(conn: Connection, spec: TableSpec, key: str) -> bool:
    main = entity_tables(spec).main
    same = cast(main.c[spec.key], Text) == key
    return conn.execute(select(main.c.row_id).where(same, main.c.valid_to.is_(None)).limit(1)).first() is not None


def _chain(
    conn: Connection, relations: Sequence[Relation], filtered: Collection[LogicalName], record: Step
) -> tuple[Step, ...]:
    _MET.create(conn, checkfirst=True)
    conn.execute(delete(_MET))
    conn.execute(insert(_MET).values(entity_name=record.table, key=record.key, step=0))
    roots = [one for one in relations if one.source.logical_name not in filtered]
    inner = [one for one in relations if one.source.logical_name in filtered]
    step = 0
    while _targets(conn, step):
        if first := _first(conn, roots, step):
            return (
                Step(first.entity_name, first.key, first.fk_column),
                *_walk(conn, first.next_entity, first.next_key),
            )
        for relation in _leading_to(conn, inner, step):
            conn.execute(insert_missing(conn.dialect.name, _MET).from_select(_COLUMNS, _pointing(relation, step)))
        step += 1
    return ()


def _targets(conn: Connection, step: int) -> set[str]:
    return set(conn.scalars(select(_MET.c.entity_name).where(_MET.c.step == step).distinct()))


def _leading_to(conn: Connection, relations: Sequence[Relation], step: int) -> list[Relation]:
    targets = _targets(conn, step)
    return [relation for relation in relations if relation.target.entity_set in targets]


def _first(conn: Connection, roots: Sequence[Relation], step: int) -> Row[_Met] | None:
    """Any row copied for its own sake that points at a record met in *step*."""
    for relation in _leading_to(conn, roots, step):
        row = conn.execute(_pointing(relation, step).limit(1)).first()
        if row is not None:
            return row
    return None


def _pointing(relation: Relation, step: int) -> Select[_Met]:
    """Current rows that point at records met in *step*, as the next step."""
    main = entity_tables(relation.source).main
    value, key = cast(main.c[relation.column], Text), cast(main.c[relation.source.key], Text)
    target = relation.target.entity_set
    met = select(_MET.c.key).where(_MET.c.entity_name == target, _MET.c.step == step)
    return select(
        literal(relation.source.entity_set, Text).label("entity_name"),
        key.label("key"),
        literal(step + 1, Integer).label("step"),
        literal(relation.column, Text).label("fk_column"),
        literal(target, Text).label("next_entity"),
        value.label("next_key"),
    ).where(main.c.valid_to.is_(None), points_at(relation), value.in_(met))


def _walk(conn: Connection, table: str | None, key: str) -> list[Step]:
    """Follow what was met to the record it began with, which points no further."""
    steps: list[Step] = []
    while table is not None:
        here = conn.execute(select(_MET).where(_MET.c.entity_name == table, _MET.c.key == key)).one()
        steps.append(Step(table, key, here.fk_column or ""))
        table, key = here.next_entity, here.next_key
    return steps
