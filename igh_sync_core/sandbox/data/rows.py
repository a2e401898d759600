"""The rows of one table in the three orders that cost no look at every row: key, time of change, version."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping

from igh_sync_core.sandbox.data.population import Population
from igh_sync_core.sandbox.data.records import Found, Records, Row, Tombstone
from igh_sync_core.sandbox.data.schema import Shape


class Rows(Records):
    """All rows of one table, in order."""

    def __init__(
        self,
        shape: Shape,
        populations: Mapping[str, Population],
        *,
        seed: int,
        pairs: tuple[tuple[int, int], ...] = (),
    ) -> None:
        super().__init__(shape, populations, seed=seed, pairs=pairs)
        self._sorted: tuple[int, list[Row], list[Row]] = (-1, [], [])

    def by_key(self, after: str | None = None) -> Iterator[Found]:
        """Rows in key order, those after *after* only."""
        start = self._keys_up_to(after) if after is not None else 0
        first = bisect_right(self.inserted, after) if after is not None else 0
        for key in self.inserted[first:]:
            stop = self._keys_up_to(key)
            yield from self._stretch(start, stop)
            yield self.own[key]
            start = stop
        yield from self._stretch(start, self.population.count)

    def _keys_up_to(self, key: str) -> int:
        return bisect_right(range(self.population.count), key, key=self.population.key)

    def _stretch(self, start: int, stop: int) -> Iterable[Found]:
        positions = range(start, stop)
        return self._overlaid(positions) if self.overlay else positions

    def _overlaid(self, positions: Iterable[int]) -> Iterator[Found]:
        overlay = self.overlay
        for position in positions:
            if position not in overlay:
                yield position
            elif (key := overlay[position]) is not None:
                yield self.own[key]

    def by_version(self, since: int = -1) -> Iterator[Found]:
        """Rows whose version is larger than *since*, the smallest first."""
        population = self.population
        for rank in range(max(0, since + 1 - population.first_version), population.count):
            position = population.at_rank(rank)
            if position not in self.overlay:
                yield position
        own = self._own_sorted()[0]
        yield from own[bisect_right(own, since, key=lambda row: row.version) :]

    def by_modified(self, since: str = "", since_s: int = 0) -> Iterator[Found]:
        """Rows in order of time of change, then key.

        Args:
            since: Earliest time of change, as rows carry it.
            since_s: The same in seconds since 1970.
        """
        own = self._own_sorted()[1]
        at = bisect_left(own, since, key=lambda row: row.modified)
        for text, positions in self._groups(since_s):
            stop = bisect_right(own, text, lo=at, key=lambda row: row.modified)
            earlier = bisect_left(own, text, lo=at, hi=stop, key=lambda row: row.modified)
            yield from own[at:earlier]
            together: list[Found] = [*positions, *own[earlier:stop]]
            yield from sorted(together, key=self.key)
            at = stop
        yield from own[at:]

    def _groups(self, since_s: int) -> Iterator[tuple[str, list[int]]]:
        """Untouched rows that were changed in the same second, oldest second first."""
        population, ranks = self.population, range(self.population.rank_since(since_s), self.population.count)
        group: list[int] = []
        last = ""
        for rank in ranks:
            text = self.modified_at(rank)
            if text != last and group:
                yield last, group
                group = []
            last = text
            position = population.at_rank(rank)
            if position not in self.overlay:
                group.append(position)
        if group:
            yield last, group

    def _own_sorted(self) -> tuple[list[Row], list[Row]]:
        """Changed rows by version, and by time of change then key; sorted once per mutation."""
        if self._sorted[0] != self.mutations:
            by_version = sorted(self.own.values(), key=lambda row: row.version)
            by_modified = sorted(self.own.values(), key=lambda row: (row.modified, row.key))
            self._sorted = (self.mutations, by_version, by_modified)
        return self._sorted[1], self._sorted[2]

    def tombstones_since(self, since: int) -> list[Tombstone]:
        """Deletions after version *since* of rows that still are deleted, oldest first, the last one per key."""
        recent = self.tombstones[bisect_right(self.tombstones, since, key=lambda tombstone: tombstone.version) :]
        last = {tombstone.key: tombstone for tombstone in recent if self.find(tombstone.key) is None}
        return sorted(last.values())
