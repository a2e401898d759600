"""Rows to JSON, fast: untouched rows from templates with holes, changed ones column by column.

A template is the JSON of one variant under one projection, as a format string for ``%``. Its holes are what the row's
position decides: version, time of change, and the first eight digits of its own key and of each lookup's target.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from operator import itemgetter
from typing import NamedTuple

from igh_sync_core.sandbox.data.organisation import Organisation
from igh_sync_core.sandbox.data.population import VARIANTS, Link, Population, day_text, time_text
from igh_sync_core.sandbox.data.records import Found, Pointer, Row
from igh_sync_core.sandbox.data.schema import Column, Kind, Shape
from igh_sync_core.sandbox.data.table import Table
from igh_sync_core.sandbox.queries.spelling import NULL, Spelled, quoted, spell

FORMATTED = "OData.Community.Display.V1.FormattedValue"
LOGICAL_NAME = "Microsoft.Dynamics.CRM.lookuplogicalname"
NAVIGATION = "Microsoft.Dynamics.CRM.associatednavigationproperty"

HOLE = re.compile(rb"\x01([^\x02]+)\x02")
VERSION, VERSION_SHOWN, DAY, TIME, DAY_SHOWN, TIME_SHOWN, OWN_KEY, FIRST_HEAD = range(8)
"""Places of the row's own holes; the heads of keys follow them, one per table."""


class Projection(NamedTuple):
    """Which columns and annotations each row carries, in this order."""

    columns: tuple[Column, ...]
    formatted: bool = False
    logical_names: bool = False
    navigations: bool = False
    secured: frozenset[str] = frozenset()


Getter = Callable[[Sequence[bytes]], object]
Template = tuple[bytes, Getter]


class Renderer:
    """Renders rows of one organisation; call under its lock."""

    def __init__(self, organisation: Organisation) -> None:
        self._organisation = organisation
        self._templates: dict[tuple[str, Projection], list[Template | None]] = {}
        self._metadata_version = organisation.metadata_version

    def render(self, table: Table, projection: Projection, found: Iterable[Found]) -> list[bytes]:
        """One JSON object per row, in the order given."""
        templates = self._templates_of(table, projection)
        untouched = _Untouched(self._organisation, table)
        stale = self._stale_lookups(table, projection)
        rows: list[bytes] = []
        for row in found:
            if isinstance(row, Row) or (stale and self._is_stale(table, row, stale)):
                rows.append(self._render_one(table, projection, row))
                continue
            template = templates[row & 255]
            if template is None:
                template = templates[row & 255] = self._compile(table, projection, row & 255)
            rows.append(template[0] % template[1](untouched.holes(row)))
        return rows

    def _templates_of(self, table: Table, projection: Projection) -> list[Template | None]:
        if self._metadata_version != self._organisation.metadata_version:
            self._templates.clear()
            self._metadata_version = self._organisation.metadata_version
        return self._templates.setdefault((table.logical_name, projection), [None] * VARIANTS)

    def _stale_lookups(self, table: Table, projection: Projection) -> list[str]:
        """Lookups into tables where a row got another name, which templates do not know of."""
        tables = self._organisation.tables
        if not projection.formatted:
            return []
        renamed = {name for name, other in tables.items() if other.rows.renamed}
        return (
            [column.name for column in table.shape.columns if renamed.intersection(column.targets)] if renamed else []
        )

    def _is_stale(self, table: Table, position: int, lookups: Sequence[str]) -> bool:
        pointers = (table.rows.raw(position, name) for name in lookups)
        tables = self._organisation.tables
        return any(isinstance(each, Pointer) and each.key in tables[each.table].rows.renamed for each in pointers)

    def _render_one(self, table: Table, projection: Projection, found: Found) -> bytes:
        cells = [self._cell(table, column, found) for column in projection.columns]
        return compose(projection, cells, str(table.rows.version(found)), table.shape).encode()

    def _cell(self, table: Table, column: Column, found: Found) -> Spelled:
        if column.targets:
            pointer = table.rows.raw(found, column.name)
            return self._point(column, pointer) if isinstance(pointer, Pointer) else NULL
        return spell(column, table.rows.value(found, column.name))

    def _point(self, column: Column, pointer: Pointer) -> Spelled:
        if column.kind is Kind.GUID:
            return Spelled(f'"{pointer.key}"')
        return Spelled(f'"{pointer.key}"', self._organisation.name_of(pointer), pointer.table)

    def _compile(self, table: Table, projection: Projection, variant: int) -> Template:
        cells = [self._hollow(table, column, variant) for column in projection.columns]
        text = compose(projection, cells, _hole("version"), table.shape).encode()
        return _template(text, {name: FIRST_HEAD + place for place, name in enumerate(_heads(table.shape))})

    def _hollow(self, table: Table, column: Column, variant: int) -> Spelled:
        """The cell of a variant, with holes where the position decides."""
        own = table.rows.population
        if column.name in {table.shape.key, table.shape.csdl_key}:
            return Spelled(f'"{_hole("own key")}{own.tail}{variant:02x}"')
        if column.name == "versionnumber":
            return Spelled(_hole("version"), _hole("version shown"))
        if column.name == "modifiedon":
            return Spelled(f'"{_hole("day")}{_hole("time")}"', f"{_hole('day shown')} {_hole('time shown')}")
        value = table.rows.variant(variant).get(column.name)
        return self._link(column, value) if isinstance(value, Link) else spell(column, value)

    def _link(self, column: Column, link: Link) -> Spelled:
        target = self._organisation.tables[link.table]
        text = f'"{_hole(link.table)}{target.rows.population.tail}{link.slot:02x}"'
        if column.kind is Kind.GUID:
            return Spelled(text)
        name = target.rows.variant(link.slot).get(target.shape.primary_name or "")
        return Spelled(text, None if name is None else str(name), link.table)


def compose(projection: Projection, cells: Sequence[Spelled], version: str, shape: Shape) -> str:
    """One row's JSON object from its cells, annotations before their property."""
    parts = [f'"@odata.etag":"W/\\"{version}\\""'] if "versionnumber" in shape.by_name else []
    for column, cell in zip(projection.columns, cells, strict=True):
        if column.name in projection.secured:
            parts.append(f'"{column.name}":null')
            continue
        if projection.formatted and cell.shown is not None:
            parts.append(f'"{column.name}@{FORMATTED}":{_shown(cell.shown)}')
        if cell.target is not None:
            parts += _pointing(projection, column, cell.target)
        parts.append(f'"{column.name}":{cell.json}')
    return "{" + ",".join(parts) + "}"


def _shown(text: str) -> str:
    return f'"{text}"' if text.startswith("\x01") else quoted(text)


def _pointing(projection: Projection, column: Column, target: str) -> list[str]:
    parts: list[str] = []
    if projection.navigations and column.is_writable and column.navigations:
        place = min(column.targets.index(target), len(column.navigations) - 1)
        parts.append(f'"{column.name}@{NAVIGATION}":"{column.navigations[place]}"')
    if projection.logical_names:
        parts.append(f'"{column.name}@{LOGICAL_NAME}":"{target}"')
    return parts


def _hole(name: str) -> str:
    return f"\x01{name}\x02"


PLACES = {
    b"version": VERSION,
    b"version shown": VERSION_SHOWN,
    b"day": DAY,
    b"time": TIME,
    b"day shown": DAY_SHOWN,
    b"time shown": TIME_SHOWN,
    b"own key": OWN_KEY,
}


def _template(text: bytes, heads: dict[str, int]) -> Template:
    """*text* with marked holes as a format and what fills its holes."""
    pieces = HOLE.split(text)
    places = [PLACES[name] if name in PLACES else heads[name.decode()] for name in pieces[1::2]]
    layout = b"%b".join(piece.replace(b"%", b"%%") for piece in pieces[::2])
    return layout, itemgetter(*places) if places else lambda _holes: ()


def _heads(shape: Shape) -> list[str]:
    """Tables whose keys a row carries: its own and its lookups' targets."""
    names = [shape.mirrors or shape.logical_name, *(target for column in shape.columns for target in column.targets)]
    return list(dict.fromkeys(names))


class _Untouched:
    """What fills the holes of one table's templates, row by row; one list, filled again for each row."""

    def __init__(self, organisation: Organisation, table: Table) -> None:
        self._own = table.rows.population
        names = (name for name in _heads(table.shape))
        known = organisation.tables
        self._heads: list[Population | None] = [
            known[name].rows.population if name in known else None for name in names
        ]
        self._block = -1
        self._holes: list[bytes] = [b""] * (FIRST_HEAD + len(self._heads))

    def holes(self, position: int) -> list[bytes]:
        if position >> 8 != self._block:
            self._block = position >> 8
            # A lookup wraps around in a smaller table; a row's own key never does, not even in the last, short block.
            self._holes[OWN_KEY] = b"%08x" % (self._own.prefix + self._block)
            self._holes[FIRST_HEAD:] = [each.head(self._block).encode() if each else b"" for each in self._heads]
        population, holes = self._own, self._holes
        rank = (position * population.stride + 11) % population.count
        version = population.first_version + rank
        day, second = divmod(population.modified_s(rank), 86_400)
        holes[:OWN_KEY] = (b"%d" % version, f"{version:,}".encode(), *_day_and_time(day, second))
        return holes


def _day_and_time(day: int, second: int) -> tuple[bytes, bytes, bytes, bytes]:
    day_json, day_shown = _day(day)
    time_json, time_shown = _time(second)
    return day_json, time_json, day_shown, time_shown


@cache
def _day(day: int) -> tuple[bytes, bytes]:
    json, shown = day_text(day)
    return json.encode(), shown.encode()


@cache
def _time(second: int) -> tuple[bytes, bytes]:
    json, shown = time_text(second)
    return json.encode(), shown.encode()
