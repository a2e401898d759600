"""One table of an organisation: what it is, what is in it, and what the sync user sees of it."""

from dataclasses import dataclass, field

from igh_sync_core.sandbox.data.rows import Rows
from igh_sync_core.sandbox.data.schema import Shape


@dataclass(slots=True)
class Table:
    """One table: definition, rows, and the rules that decide which of them the sync user sees.

    Attributes:
        oldest_token: Delta tokens of a smaller version have expired.
        hidden: Keys that row security keeps from the user.
        secured: Columns that column security empties.
    """

    shape: Shape
    rows: Rows
    oldest_token: int = 0
    hidden: set[str] = field(default_factory=set)
    secured: set[str] = field(default_factory=set)

    @property
    def logical_name(self) -> str:
        """``vin_candidate``."""
        return self.shape.logical_name

    @property
    def entity_set(self) -> str:
        """``vin_candidates``."""
        return self.shape.entity_set
