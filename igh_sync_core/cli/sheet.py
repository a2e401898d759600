"""Tables of text whose cells are never broken or cut: lines that people search for with grep."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table

_ANY_WIDTH = 100_000


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: Its head.
        total: Its foot; "" for none.
        is_number: Whether it is aligned to the right.
        gives_way: Where a terminal is too narrow, columns with the larger number go first; those with 0 stay.
    """

    name: str
    total: str = ""
    is_number: bool = False
    gives_way: int = 0


@dataclass(frozen=True)
class Row:
    """One line: a cell for each column."""

    cells: Sequence[str]
    style: str = ""


@dataclass(frozen=True)
class Sheet:
    """The table: as wide as it needs to be, and on a terminal with as many columns as fit.

    Where not even those that stay do, its lines run over; print it without cropping.
    """

    columns: Sequence[Column]
    rows: Sequence[Row]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width if console.is_terminal else _ANY_WIDTH
        free = options.update(width=_ANY_WIDTH)
        for table in self._tables():
            width = Measurement.get(console, free, table).maximum
            if width <= room:
                break
        yield from console.render(table, options.update(width=width))

    def _tables(self) -> Iterator[Table]:
        """With all columns, then with ever fewer."""
        kept = list(range(len(self.columns)))
        yield self._table(kept)
        spare = [at for at in kept if self.columns[at].gives_way]
        for at in sorted(spare, key=lambda at: -self.columns[at].gives_way):
            kept.remove(at)
            yield self._table(kept)

    def _table(self, kept: Sequence[int]) -> Table:
        has_totals = any(column.total for column in self.columns)
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_footer=has_totals)
        for column in (self.columns[at] for at in kept):
            table.add_column(column.name, column.total, justify="right" if column.is_number else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*(row.cells[at] for at in kept), style=row.style)
        return table
