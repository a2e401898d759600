"""Choices: the codes that occur in synced rows, each with its label.

Labels come from metadata; a code that metadata does not name keeps its number as label. Every function runs inside
the caller's transaction.
"""

from datetime import datetime

from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, case, select

from igh_sync_core.control import OptionSetLabel
from igh_sync_core.dialect import Instant, insert_missing
from igh_sync_core.model import TableSpec
from igh_sync_core.rows import Batch
from igh_sync_core.tables import optionset_name

_LABELS = OptionSetLabel.metadata.tables["_optionset"]


def optionset_table(field: str) -> Table:
    """The table of the codes of one field: ``code``, ``label``, ``first_seen``."""
    return Table(
        optionset_name(field),
        MetaData(),
        Column("code", Integer, primary_key=True, autoincrement=False),
        Column("label", Text, nullable=False),
        Column("first_seen", Instant, nullable=False),
        quote=True,
    )


class Choices:
    """Writer of the ``_optionset_{field}`` tables of one entity.

    Args:
        conn: The entity's connection.
        spec: The entity.
        language: LCID of the labels wanted; any other language stands in where it has none.
    """

    def __init__(self, conn: Connection, spec: TableSpec, language: int) -> None:
        self._conn, self._spec, self._language = conn, spec, language
        self._known: dict[str, set[int]] = {}

    def note(self, batch: Batch, now: datetime) -> None:
        """Store the codes of a page that were not met before."""
        # Fields and codes in one order everywhere: entities that share a field must not wait for each other in a ring.
        for field in sorted(batch.codes):
            missing = sorted(batch.codes[field] - self._codes(field))
            if missing:
                labels = self._labels(field)
                rows = [{"code": code, "label": labels.get(code, str(code)), "first_seen": now} for code in missing]
                self._conn.execute(insert_missing(self._conn, optionset_table(field)), rows)
                self._known[field].update(missing)

    def _labels(self, field: str) -> dict[int, str]:
        """Current labels of one field by code."""
        wanted_last = case((_LABELS.c.language == self._language, 1), else_=0)
        rows = self._conn.execute(
            select(_LABELS.c.code, _LABELS.c.label)
            .where(_LABELS.c.entity == self._spec.logical_name, _LABELS.c.field == field, _LABELS.c.last_seen.is_(None))
            .order_by(wanted_last, _LABELS.c.language.desc())
        )
        return {code: label for code, label in rows if label}

    def _codes(self, field: str) -> set[int]:
        if field not in self._known:
            self._known[field] = set(self._conn.scalars(select(optionset_table(field).c.code)))
        return self._known[field]
