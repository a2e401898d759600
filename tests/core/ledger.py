"""A plain model of history, written from the laws and from nothing else: lists, loops and one record at a time."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from igh_sync_core.report import Counts

SECOND = timedelta(seconds=1)
Record = Mapping[str, Any]


@dataclass
class Version:
    """What was true of one key from *start* until *end*."""

    record: Record
    start: datetime
    end: datetime | None = None
    reason: str | None = None


@dataclass
class Ledger:
    """The versions of every key, oldest first.

    Attributes:
        modified: Gives a record's own time of change, or None where it has none.
        declared: Gives what of a record counts as its contents.
    """

    modified: Callable[[Record], datetime | None]
    declared: Callable[[Record], Any]
    versions: dict[str, list[Version]] = field(default_factory=dict)

    def open(self, key: str) -> Version | None:
        """The version that holds now."""
        last = self.versions.get(key, [None])[-1]
        return last if last is not None and last.end is None else None

    def open_keys(self) -> set[str]:
        """Keys that have one."""
        return {key for key in self.versions if self.open(key)}

    def meet(self, key: str, record: Record, now: datetime) -> Counts:
        """The source has this record."""
        current = self.open(key)
        if current is None:
            self._begin(key, record, self._first_moment(key, record, now))
            return Counts(added=1)
        if self.declared(current.record) == self.declared(record):
            return Counts(unchanged=1)
        source = self.modified(record)
        boundary = source if source is not None and source > current.start else max(now, current.start + SECOND)
        current.end, current.reason = boundary, "updated"
        self._begin(key, record, boundary)
        return Counts(updated=1)

    def vanish(self, key: str, now: datetime, reason: str) -> Counts:
        """The source has the key no more."""
        current = self.open(key)
        if current is None:
            return Counts()
        current.end, current.reason = max(now, current.start + SECOND), reason
        return Counts(closed=1)

    def read_whole(self, records: Mapping[str, Record], now: datetime, reason: str = "absent") -> Counts:
        """The source has these records and no others."""
        met = [self.meet(key, record, now) for key, record in records.items()]
        gone = [self.vanish(key, now, reason) for key in self.open_keys() - records.keys()]
        return total([*met, *gone])

    def _first_moment(self, key: str, record: Record, now: datetime) -> datetime:
        begin = self.modified(record) or now
        ended = self.versions[key][-1].end if key in self.versions else None
        return begin if ended is None or begin >= ended else max(now, ended)

    def _begin(self, key: str, record: Record, start: datetime) -> None:
        self.versions.setdefault(key, []).append(Version(record, start))


def total(counts: Iterable[Counts]) -> Counts:
    """All of them together."""
    return sum(counts, Counts())
