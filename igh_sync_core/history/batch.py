"""A page of records, column by column, in values that the engine takes. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from igh_sync_core.instants import EARLIEST, LATEST, spelled
from igh_sync_core.metadata.codes import codes_in

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
        latest: Largest ``modifiedon`` (UTC), from ``instants.EARLIEST`` on; None where there is none.
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
                    for code in codes_in(text):
                        yield key, field, code

    def picks_from(self, field: str, starts: Values) -> Iterator[tuple[Any, int, Any]]:
        """Every chosen option of one multi-select: ``(key, code, start)``, with *starts* one per record."""
        for key, text, start in zip(self.keys, self.raw[field], starts, strict=True):
            if text:
                for code in codes_in(text):
                    yield key, code, start


def starts_of(values: Values, engine: str) -> Values:
    """A finished ``modifiedon`` column in the form of ``valid_from``: whole seconds (law 4), within those there are."""
    if engine == "postgresql":
        whole = [value and value.replace(microsecond=0, tzinfo=value.tzinfo or UTC) for value in values]
        return _within(whole, EARLIEST, LATEST)
    texts = [value if value is None or len(value) == STAMP_LENGTH else value[:19] + "Z" for value in values]
    return _within(texts, spelled(EARLIEST), spelled(LATEST))


def _within(values: Values, least: Any, most: Any) -> Values:  # noqa: ANN401 - text or datetime, by engine
    told = [value for value in values if value is not None]
    if not told or (least <= min(told) and max(told) <= most):
        return values
    return [value and max(least, min(value, most)) for value in values]
