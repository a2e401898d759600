"""Labels of options with their dates, in ``_optionset``: one ends where the next begins, whatever the clock does.

Every function runs inside the caller's transaction.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, select, update

from igh_sync_core.metadata.options import UNKNOWN_LANGUAGE
from igh_sync_core.model import LogicalName
from igh_sync_core.store import bulk
from igh_sync_core.store.control import OptionSetLabel
from igh_sync_core.store.dialect import stored_instant
from igh_sync_core.store.driver import Prepared

_LABELS = OptionSetLabel.metadata.tables["_optionset"]
_KEY = ("entity", "field", "code", "language")
_IS_OPEN = (*(_LABELS.c[name] == bindparam(f"old_{name}") for name in _KEY), _LABELS.c.last_seen.is_(None))
_SECOND = timedelta(seconds=1)

Key = tuple[str, str, int, int]
Shown = dict[tuple[str, int], str]
"""Label that people read, by field and code."""


class Labels:
    """The labels of one entity, of which those that hold now are kept in mind.

    Args:
        entity: Logical name.
        language: LCID of the labels that people read; any other language stands in where an option has none.

    Attributes:
        open: Those labels by entity, field, code and language; empty until loaded.
    """

    def __init__(self, entity: LogicalName, language: int) -> None:
        self._entity, self._language = entity, language
        self._is_loaded = False
        self._are_told: bool | None = None
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

    def are_told(self, conn: Connection) -> bool:
        """Whether any of them comes from metadata, which does not change within a run; reads no more than that."""
        if self._are_told is None:
            self._are_told = bool(_any_told.rows(conn, None, of=self._entity))
        return self._are_told

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


@Prepared
def _known(_: None) -> Select[Any]:
    told = (*_KEY, "label", "first_seen", "last_seen")
    return select(*(_LABELS.c[name] for name in told)).where(_LABELS.c.entity == bindparam("of"))


@Prepared
def _any_told(_: None) -> Select[Any]:
    is_told = (
        _LABELS.c.entity == bindparam("of"),
        _LABELS.c.last_seen.is_(None),
        _LABELS.c.language != UNKNOWN_LANGUAGE,
    )
    return select(_LABELS.c.code).where(*is_told).limit(1)
