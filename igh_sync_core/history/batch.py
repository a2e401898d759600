"""A page of records, column by column, in values that the engine takes. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

STAMP_LENGTH = len("2023-04-07T21:59:01Z")

Values = Sequence[Any]


@dataclass(frozen=True)
class Batch:
    """One page of records, column by column; keys are distinct and never null.

    Attributes:
        names: The *c* columns of the entity's table that a record fills, in stored order.
        columns: *c* sequences of *n* engine values.
        raw: Per multi-select column its *n* texts as received (``"2,3,8"``), or None.
        keys: The *n* keys.
        codes: Per choice column the option codes that occur.
        latest: Largest ``modifiedon`` (UTC), or None where the entity has none or the page is empty.
    """

    names: tuple[str, ...]
    columns: list[Values]
    raw: dict[str, Values]
    keys: Values
    codes: dict[str, set[int]]
    latest: datetime | None

    def __len__(self) -> int:
        return len(self.keys)

    def column(self, name: str) -> Values:
        """The *n* values of one column."""
        return self.columns[self.names.index(name)]

    def take(self, positions: Sequence[int]) -> "Batch":
        """The records at *positions*, which ascend; ``codes`` and ``latest`` stay those of the page."""
        if len(positions) == len(self):
            return self
        raw: dict[str, Values] = {field: [texts[at] for at in positions] for field, texts in self.raw.items()}
        columns: list[Values] = [[values[at] for at in positions] for values in self.columns]
        return replace(self, columns=columns, raw=raw, keys=[self.keys[at] for at in positions])

    def picks(self) -> Iterator[tuple[Any, str, int]]:
        """Every chosen option of every multi-select: ``(key, field, code)``."""
        for field, texts in self.raw.items():
            for key, text in zip(self.keys, texts, strict=True):
                if text:
                    for code in text.split(","):
                        yield key, field, int(code)

    def picks_from(self, field: str, starts: Values) -> Iterator[tuple[Any, int, Any]]:
        """Every chosen option of one multi-select: ``(key, code, start)``, with *starts* one per record."""
        for key, text, start in zip(self.keys, self.raw[field], starts, strict=True):
            if text:
                for code in text.split(","):
                    yield key, int(code), start


LATEST_START = datetime(9999, 1, 1, tzinfo=UTC)
"""No version begins later, whatever the source says: the year that is left holds any number of versions after it."""


def starts_of(values: Values, engine: str) -> Values:
    """A finished ``modifiedon`` column in the form of ``valid_from``: whole seconds (law 4), none after the latest."""
    if engine == "postgresql":
        whole = [value and value.replace(microsecond=0, tzinfo=value.tzinfo or UTC) for value in values]
        return _capped(whole, LATEST_START)
    texts = [value if value is None or len(value) == STAMP_LENGTH else value[:19] + "Z" for value in values]
    return _capped(texts, f"{LATEST_START:%Y-%m-%dT%H:%M:%SZ}")


def _capped(values: Values, most: Any) -> Values:  # noqa: ANN401 - text or datetime, by engine
    if max(filter(None, values), default=most) <= most:
        return values
    return [value and min(value, most) for value in values]
