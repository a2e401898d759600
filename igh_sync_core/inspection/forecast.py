"""What a run would do, as values: one forecast per entity, and the outlook over all of them."""

from typing import Any

import msgspec
from msgspec import Struct

from igh_sync_core.preparation.drift import Verdict


class Forecast(Struct, frozen=True, kw_only=True):
    """What a run would do with one entity.

    Attributes:
        entity: Logical name.
        table: Its table.
        strategy: How it would be read; "" where it would not.
        reason: Why so, or why not.
        read: Kind of the first read: ``first``, ``snapshot``, ``delta`` or ``increment``; of a related table the feed
            that tells its changes: ``keys``, ``changes``, ``recent`` or ``by_id``; "" where nothing tells.
        rows: Records expected: all of them for a complete read, by the server's count of up to a day ago; of a related
            table those known now to be asked by id; None where only the changes come.
        rows_at_most: Where there may be more than ``rows``, and nobody can tell before the other tables are read: all
            records that the server counts. None where ``rows`` is the whole of it, or the count is not told.
        requests: Data requests expected; at least so many unless ``is_whole``.
        is_whole: Whether ``rows`` and ``requests`` are expected to be the whole of it: a complete read.
        ddl: Statements that would be executed, in their order.
        error: Why a run would fail on it; "" where nothing tells so.
    """

    entity: str
    table: str
    strategy: str = ""
    reason: str = ""
    read: str = ""
    rows: int | None = None
    rows_at_most: int | None = None
    requests: int | None = None
    is_whole: bool = False
    ddl: tuple[str, ...] = ()
    error: str = ""


class Outlook(Struct, frozen=True, kw_only=True):
    """What a run would do.

    Attributes:
        entities: One forecast per configured entity, in the order of the entities file.
        verdict: How the stored tables fit.
        notes: What could not be read and what would be done without it; whether a file would be taken over.
        ddl: Statements for the tables that belong to no entity, executed before all others.
        requests: Those before any table is read: for the environment itself, and for metadata where it has moved.
    """

    entities: tuple[Forecast, ...]
    verdict: Verdict
    notes: tuple[str, ...] = ()
    ddl: tuple[str, ...] = ()
    requests: int = 0

    @property
    def passed(self) -> bool:
        """Whether nothing tells that a run would fail."""
        return self.verdict.passed and not any(forecast.error for forecast in self.entities)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "entities": msgspec.to_builtins(self.entities),
            "verdict": self.verdict.as_dict(),
            "notes": list(self.notes),
            "ddl": list(self.ddl),
            "requests": self.requests,
        }
