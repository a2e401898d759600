"""Choices: the codes that occur in synced rows, and every label that metadata knows, with its dates.

Labels come from metadata. Where that may not be read they come from the records' annotations, in a language nobody
tells (0). A code without any label shows its number. A renamed or removed option keeps its old label, dated; no row
version comes of it. Every function runs inside the caller's transaction.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    CompoundSelect,
    Connection,
    Insert,
    Select,
    bindparam,
    delete,
    inspect,
    literal_column,
    select,
    union_all,
    update,
)

from igh_sync_core.history.batch import Batch
from igh_sync_core.metadata.annotations import labels_in
from igh_sync_core.metadata.options import UNKNOWN_LANGUAGE
from igh_sync_core.model import LogicalName, Option, TableSpec
from igh_sync_core.schema.optionsets import codes_table, optionset_name, optionset_table
from igh_sync_core.store import bulk
from igh_sync_core.store.control import OptionSetLabel
from igh_sync_core.store.dialect import insert_missing, stored_instant
from igh_sync_core.store.driver import Prepared

_LABELS = OptionSetLabel.metadata.tables["_optionset"]
_KEY = ("entity", "field", "code", "language")
_IS_OPEN = (*(_LABELS.c[name] == bindparam(f"old_{name}") for name in _KEY), _LABELS.c.last_seen.is_(None))
_SECOND = timedelta(seconds=1)

Key = tuple[str, str, int, int]
Shown = dict[tuple[str, int], str]
"""Label that people read, by field and code."""


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
        changed = _Labels(LogicalName(entity), language).become(conn, labels, now)
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
        self._labels = _Labels(spec.logical_name, language)
        self._noted: dict[str, set[int]] = {}
        self._annotated: Shown = {}

    def note(self, conn: Connection, batch: Batch, now: datetime) -> None:
        """Store the codes of a page that are not stored yet, and labels that only its annotations tell."""
        if not (len(batch) and batch.codes):
            return
        self._labels.load(conn)
        if not self._noted:
            self._noted = _stored_codes(conn, sorted(column.name for column in self._spec.choices))
        changed, labels = self._learn(conn, batch, now), self._labels.shown
        # Fields and codes in one order everywhere: entities that share a field must not wait for each other in a ring.
        for field in sorted(batch.codes):
            _relabel(conn, field, changed)
            noted = self._noted[field]
            if missing := sorted(batch.codes[field] - noted):
                told = (
                    {"code": code, "label": labels.get((field, code), str(code)), "first_seen": now} for code in missing
                )
                _add_code.execute_many(conn, conn.dialect.name, told, places={"table": optionset_name(field)})
                noted.update(missing)

    def _learn(self, conn: Connection, batch: Batch, now: datetime) -> dict[tuple[str, int], tuple[str, str]]:
        """Labels from annotations, where metadata told none of this entity; gives those that changed."""
        if self._labels.are_told:
            return {}
        found = labels_in(self._spec, batch.column("json_response"))
        if found.items() <= self._annotated.items():
            return {}
        self._annotated |= found
        entity = self._spec.logical_name
        labels = {(entity, field, code, UNKNOWN_LANGUAGE): label for (field, code), label in found.items()}
        return self._labels.become(conn, self._labels.open | labels, now)


class _Labels:
    """The labels of one entity in ``_optionset`` that hold now.

    Attributes:
        open: Those labels by entity, field, code and language; empty until loaded.
    """

    def __init__(self, entity: LogicalName, language: int) -> None:
        self._entity, self._language = entity, language
        self._is_loaded = False
        self._starts: dict[Key, datetime] = {}
        self._ends: dict[Key, datetime] = {}
        self.open: dict[Key, str] = {}

    def load(self, conn: Connection) -> None:
        """Read them, the first time."""
        if not self._is_loaded:
            for *parts, label, start, end in _known.rows(conn, None, of=self._entity):
                key: Key = (*parts,)
                if end is None:
                    self.open[key], self._starts[key] = label, start
                else:
                    self._ends[key] = max(end, self._ends.get(key, end))
            self._is_loaded = True

    @property
    def are_told(self) -> bool:
        """Whether any of them comes from metadata."""
        return any(language != UNKNOWN_LANGUAGE for _entity, _field, _code, language in self.open)

    @property
    def shown(self) -> Shown:
        """What people read: the wanted language, else the first other one that has a label."""
        ranked = sorted(self.open.items(), key=lambda item: (item[0][3] == self._language, -item[0][3]))
        return {(field, code): label for (_entity, field, code, _language), label in ranked if label}

    def become(
        self, conn: Connection, wanted: Mapping[Key, str], now: datetime
    ) -> dict[tuple[str, int], tuple[str, str]]:
        """Date what ended, add what began; gives old and new text of what people read otherwise now."""
        self.load(conn)
        before, held = self.shown, self.open
        ended = [key for key, label in held.items() if wanted.get(key) != label]
        begun = {key: label for key, label in wanted.items() if held.get(key) != label}
        self._end(conn, ended, now)
        self._begin(conn, begun, now)
        self.open = dict(wanted)
        after = self.shown
        return {
            (field, code): (old, label)
            for (field, code), label in after.items()
            if (old := before.get((field, code), str(code))) != label
        }

    def _end(self, conn: Connection, keys: Sequence[Key], now: datetime) -> None:
        # A label that held for less than a second never was: its dates would make an empty interval.
        never = [key for key in keys if self._starts[key] == now]
        ends = {key: max(now, self._starts[key] + _SECOND) for key in keys if self._starts[key] != now}
        if never:
            conn.execute(delete(_LABELS).where(*_IS_OPEN), [_named(key) for key in never])
        if ends:
            ending = update(_LABELS).where(*_IS_OPEN).values(last_seen=bindparam("end"))
            conn.execute(ending, [_named(key) | {"end": end} for key, end in ends.items()])
        self._ends |= ends

    def _begin(self, conn: Connection, labels: Mapping[Key, str], now: datetime) -> None:
        """None before the last one of its option has ended: the server's clock may have stepped back."""
        starts = {key: max(now, self._ends.get(key, now)) for key in labels}
        rows = ((*key, text, stored_instant(starts[key], conn.dialect.name)) for key, text in labels.items())
        bulk.load(conn, _LABELS, (*_KEY, "label", "first_seen"), rows)
        self._starts |= starts


def _named(key: Key) -> dict[str, Any]:
    return {f"old_{name}": part for name, part in zip(_KEY, key, strict=True)}


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


@Prepared
def _known(_: None) -> Select[Any]:
    told = (*_KEY, "label", "first_seen", "last_seen")
    return select(*(_LABELS.c[name] for name in told)).where(_LABELS.c.entity == bindparam("of"))


def _relabel(conn: Connection, field: str, changed: Mapping[tuple[str, int], tuple[str, str]]) -> None:
    """Change labels beside codes in place; another entity's label of the same code stays."""
    parameters = [
        {"of": code, "old": old, "new": new} for (name, code), (old, new) in sorted(changed.items()) if name == field
    ]
    if parameters:
        table = optionset_table(field)
        same = (table.c.code == bindparam("of"), table.c.label == bindparam("old"))
        conn.execute(update(table).where(*same).values(label=bindparam("new")), parameters)
