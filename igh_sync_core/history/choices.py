"""Choices: the codes that occur in synced rows, with the labels that people read; ``labels`` keeps the dates of all.

Labels come from metadata. Where that may not be read they come from the records' annotations, in a language nobody
tells (0). A code without any label shows its number. A renamed or removed option keeps its old label, dated; no row
version comes of it. Every function runs inside the caller's transaction.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    CompoundSelect,
    Connection,
    Insert,
    bindparam,
    inspect,
    literal_column,
    select,
    union_all,
    update,
)

from igh_sync_core.history.batch import Batch
from igh_sync_core.history.labels import Key, Labels, Shown
from igh_sync_core.metadata.annotations import labels_in
from igh_sync_core.metadata.options import UNKNOWN_LANGUAGE
from igh_sync_core.model import LogicalName, Option, TableSpec
from igh_sync_core.schema.optionsets import codes_table, optionset_name, optionset_table
from igh_sync_core.store.dialect import insert_missing
from igh_sync_core.store.driver import Prepared


def record(
    conn: Connection, entities: Iterable[LogicalName], options: Iterable[Option], *, now: datetime, language: int
) -> None:
    """Bring the labels of *entities* up to what metadata says: new ones in, renamed and removed ones dated.

    Labels beside the codes that occur (``_optionset_{field}``) change in place.

    Args:
        conn: The control tables exist.
        entities: Those whose definitions were read completely; what is not in *options* is gone.
        options: Everything metadata knows of them; other entities' are passed over.
        now: Date of what changes.
        language: LCID of the labels that people read.
    """
    told: dict[str, dict[Key, str]] = {entity: {} for entity in entities}
    for option in options:
        if option.entity in told:
            told[option.entity][option.entity, option.field, option.code, option.language] = option.label
    present = set(inspect(conn).get_table_names())
    for entity, labels in told.items():
        changed = Labels(LogicalName(entity), language).become(conn, labels, now)
        for field in sorted({field for field, _code in changed}):
            if optionset_name(field) in present:
                _relabel(conn, field, changed)


class Choices:
    """Writer of the ``_optionset_{field}`` tables of one entity.

    Args:
        spec: The entity.
        language: LCID of the labels wanted; any other language stands in where it has none.
    """

    def __init__(self, spec: TableSpec, language: int) -> None:
        self._spec = spec
        self._labels = Labels(spec.logical_name, language)
        self._noted: dict[str, set[int]] = {}
        self._annotated: Shown = {}

    def note(self, conn: Connection, batch: Batch, now: datetime) -> None:
        """Store the codes of a page that are not stored yet, and labels that only its annotations tell."""
        if not (len(batch) and batch.codes):
            return
        if not self._noted:
            self._noted = _stored_codes(conn, sorted(column.name for column in self._spec.choices))
        changed = self._learn(conn, batch, now)
        # Fields and codes in one order everywhere: entities that share a field must not wait for each other in a ring.
        for field in sorted(batch.codes):
            _relabel(conn, field, changed)
            noted = self._noted[field]
            if missing := sorted(batch.codes[field] - noted):
                self._add(conn, field, missing, now)
                noted.update(missing)

    def _add(self, conn: Connection, field: str, codes: Sequence[int], now: datetime) -> None:
        self._labels.load(conn)
        labels = self._labels.shown
        told = ({"code": code, "label": labels.get((field, code), str(code)), "first_seen": now} for code in codes)
        _add_code.execute_many(conn, conn.dialect.name, told, places={"table": optionset_name(field)})

    def _learn(self, conn: Connection, batch: Batch, now: datetime) -> dict[tuple[str, int], tuple[str, str]]:
        """Labels from annotations, where metadata told none of this entity; gives those that changed."""
        if self._labels.are_told(conn):
            return {}
        self._labels.load(conn)
        found = labels_in(self._spec, batch.column("json_response"))
        if found.items() <= self._annotated.items():
            return {}
        self._annotated |= found
        entity = self._spec.logical_name
        labels = {(entity, field, code, UNKNOWN_LANGUAGE): label for (field, code), label in found.items()}
        return self._labels.become(conn, self._labels.open | labels, now)


def _stored_codes(conn: Connection, fields: Sequence[str]) -> dict[str, set[int]]:
    """The codes stored of each field, a hundred fields a statement."""
    stored: dict[str, set[int]] = {field: set() for field in fields}
    for start in range(0, len(fields), 100):
        part = tuple(fields[start : start + 100])
        for at, code in _codes_of.rows(conn, part):
            stored[part[at]].add(code)
    return stored


@Prepared
def _codes_of(fields: tuple[str, ...]) -> CompoundSelect[Any]:
    tables = (optionset_table(field) for field in fields)
    return union_all(*(select(literal_column(str(at)), table.c.code) for at, table in enumerate(tables)))


@Prepared
def _add_code(engine: str) -> Insert:
    return insert_missing(engine, codes_table("{table}")).values(
        {name: bindparam(name) for name in ("code", "label", "first_seen")}
    )


def _relabel(conn: Connection, field: str, changed: Mapping[tuple[str, int], tuple[str, str]]) -> None:
    """Change labels beside codes in place; another entity's label of the same code stays."""
    parameters = [
        {"of": code, "old": old, "new": new} for (name, code), (old, new) in sorted(changed.items()) if name == field
    ]
    if parameters:
        table = optionset_table(field)
        same = (table.c.code == bindparam("of"), table.c.label == bindparam("old"))
        conn.execute(update(table).where(*same).values(label=bindparam("new")), parameters)
