"""Rows that nobody has touched yet, by formula: a million of them cost no memory.

Row *i* of a table is variant ``i % 256`` in block ``i // 256``. A variant fixes every plain value and which 256th of
each target its lookups point at; the block fixes the rest of key and targets. So within one block only version and
dates differ from row to row, and pages can be rendered from 256 templates per table.
"""

from dataclasses import dataclass
from datetime import date
from functools import cache
from math import gcd, lcm
from random import Random
from typing import NamedTuple

from igh_sync_core.sandbox.data.clock import format_date, format_minutes

VARIANTS = 256
FIRST_MODIFIED = 1_709_280_000
"""2024-03-01T08:00:00Z in seconds since 1970."""
SPAN_S = 400 * 86_400
ROWS_PER_SECOND = 7
"""Rows that share one ``modifiedon``, as bulk edits leave them."""
EPOCH_ORDINAL = 719_163


class Link(NamedTuple):
    """Where the lookup of a variant points: row ``slot`` of every block of *table*, or an N:N end."""

    table: str
    slot: int


@dataclass(frozen=True, slots=True)
class Population:
    """The untouched rows of one table: keys, versions and times of change from the row's position alone.

    Attributes:
        count: Number of rows; positions are 0 … count-1 and follow the order of keys.
        prefix: First eight hex digits of the first block's keys, as a number.
        tail: The fixed middle of every key of the table.
        first_version: Version of the row that was changed first.
        stride: Multiplier of the permutation from position to order of change.
    """

    count: int
    prefix: int
    tail: str
    first_version: int
    stride: int

    @property
    def blocks(self) -> int:
        """Blocks that lookups may point into; at least 1, so that small tables work alike."""
        return max(1, self.count // VARIANTS)

    @property
    def slots(self) -> int:
        """See ``slots_of``."""
        return slots_of(self.count)

    def head(self, block: int) -> str:
        """First eight digits of the keys of *block*, for lookups from any row of the same block number."""
        return f"{self.prefix + block % self.blocks:08x}"

    def key(self, position: int) -> str:
        """Primary key of the row at *position*."""
        return f"{self.prefix + (position >> 8):08x}{self.tail}{position & 255:02x}"

    def position(self, key: str) -> int | None:
        """Position of *key*, or None when no untouched row ever had it."""
        if key[8:-2] != self.tail:
            return None
        try:
            found = (int(key[:8], 16) - self.prefix << 8) + int(key[-2:], 16)
        except ValueError:
            return None
        return found if 0 <= found < self.count else None

    def rank(self, position: int) -> int:
        """How many rows were changed before this one."""
        return (position * self.stride + 11) % self.count

    def at_rank(self, rank: int) -> int:
        """Position of the row that was changed as number *rank*."""
        return (rank - 11) * _inverse(self.stride, self.count) % self.count

    @property
    def seconds_per_step(self) -> int:
        """Seconds between two groups of rows that changed together."""
        return _seconds_per_step(self.count)

    def modified_s(self, rank: int) -> int:
        """Time of change of the row of *rank*, in seconds since 1970."""
        return FIRST_MODIFIED + rank // ROWS_PER_SECOND * self.seconds_per_step

    def rank_since(self, seconds: int) -> int:
        """Smallest rank whose time of change is not before *seconds*; *count* when there is none."""
        steps = -((FIRST_MODIFIED - seconds) // self.seconds_per_step)
        return min(max(0, steps * ROWS_PER_SECOND), self.count)


def slots_of(count: int) -> int:
    """Positions of a block that lookups may point at, in a table of *count* rows; the others stay unreferenced."""
    return max(1, int(min(count, VARIANTS) * 0.85)) if count else 0


def possible_pairs(first: int, second: int) -> int:
    """Distinct pairs of rows that N:N rows between tables of these sizes can hold."""
    pairs = slots_of(first) * slots_of(second)
    return VARIANTS * lcm(*(max(1, side // VARIANTS) for side in (first, second))) if pairs >= VARIANTS else pairs


@cache  # asked for each row of each page
def _seconds_per_step(count: int) -> int:
    return max(1, SPAN_S // max(1, count // ROWS_PER_SECOND))


@cache
def _inverse(stride: int, count: int) -> int:
    return pow(stride, -1, count) if count > 1 else 0


def populate(*, table: str, number: int, count: int, first_version: int, random: Random) -> Population:
    """Lay out *count* untouched rows of *table*.

    Args:
        table: Logical name.
        number: Which table of the organisation it is, from 0; keeps keys of tables apart.
        count: Rows.
        first_version: Versions from here to ``first_version + count - 1`` are taken.
        random: Gives the look of the keys.
    """
    stride = max(1, int(count * 0.618) | 1)
    while count and gcd(stride, count) != 1:
        stride += 1
    prefix = random.randrange(0x1000_0000, 0xE000_0000)
    tail = f"-{number + 0x0A10:04x}-ef11-840b-000d3a{len(table) * 7919 + number & 0xFFFF:04x}"
    return Population(count=count, prefix=prefix, tail=tail, first_version=first_version, stride=stride)


@cache
def day_text(day: int) -> tuple[str, str]:
    """Day *day* since 1970 for JSON and for people: ``("2024-05-01", "5/1/2024")``."""
    text = date.fromordinal(day + EPOCH_ORDINAL).isoformat()
    return text, format_date(text)


@cache
def time_text(second: int) -> tuple[str, str]:
    """Second *second* of a day for JSON and for people: ``("T08:41:28Z", "8:41 AM")``."""
    hours, rest = divmod(second, 3600)
    text = f"{hours:02d}:{rest // 60:02d}"
    return f"T{text}:{rest % 60:02d}Z", format_minutes(text)
