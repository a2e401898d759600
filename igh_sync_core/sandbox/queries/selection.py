"""Which rows a query gives, and in which order: the cheapest of the ways that ``Rows`` offers."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import cmp_to_key
from typing import Any

from igh_sync_core.sandbox.data.organisation import Organisation
from igh_sync_core.sandbox.data.population import FIRST_MODIFIED, VARIANTS
from igh_sync_core.sandbox.data.records import Found, Pointer, Row
from igh_sync_core.sandbox.data.schema import Shape
from igh_sync_core.sandbox.data.table import Table
from igh_sync_core.sandbox.queries.conditions import Narrowed, canon, matches, narrow
from igh_sync_core.sandbox.queries.cookies import Cookie, Place, check_order
from igh_sync_core.sandbox.queries.filters import Condition, Junction, Negation
from igh_sync_core.sandbox.queries.query import Order, Query, is_pointing

Rank = tuple[tuple[int, Any], ...]
KEPT_RESULTS = 8


class Selection:
    """Selects rows of one organisation; call under its lock."""

    def __init__(self, organisation: Organisation) -> None:
        self._organisation = organisation
        self._results: OrderedDict[object, list[Found]] = OrderedDict()

    def select(self, table: Table, query: Query) -> Iterator[Found]:
        """Rows after the query's cookie, in order; lazily, so that a page looks at little more than itself."""
        names = [order.column.attribute for order in query.order]
        if query.cookie is not None:
            check_order(query.cookie, names)
        narrowed = narrow(query.condition, table.shape.key)
        found = self._in_order(table, query, narrowed)
        return (row for row in found if self._is_visible(table, row))

    def count(self, table: Table, query: Query, limit: int | None = None) -> int:
        """Number of visible rows that match, counted up to *limit*."""
        if query.condition is None and not table.hidden:
            return table.rows.count()
        narrowed = narrow(query.condition, table.shape.key)
        total = 0
        for row in self._filtered(table, query.condition, _candidates(table, narrowed)):
            total += self._is_visible(table, row)
            if limit is not None and total > limit:
                break
        return total

    def cookie(self, table: Table, query: Query, rows: Sequence[Found]) -> Cookie:
        """Where the page after *rows* starts."""
        places = tuple(self._place(table, order, rows) for order in query.order)
        page = query.cookie.page + 1 if query.cookie else 2
        return Cookie(page, places)

    def _place(self, table: Table, order: Order, rows: Sequence[Found]) -> Place:
        last, first = (self._order_text(table, order, row) for row in (rows[-1], rows[0]))
        return Place(order.column.attribute, last, first)

    def _order_text(self, table: Table, order: Order, row: Found) -> str | None:
        if order.column.edm == "Edm.Guid" and not is_pointing(order.column):
            return "{" + str(table.rows.value(row, order.column.name)).upper() + "}"
        value = self._order_value(table, order, row)
        return None if value is None else str(value)

    def _is_visible(self, table: Table, row: Found) -> bool:
        return not table.hidden or table.rows.key(row) not in table.hidden

    def _in_order(self, table: Table, query: Query, narrowed: Narrowed) -> Iterator[Found]:
        names = [(order.column.name, order.is_descending) for order in query.order]
        is_bounded = narrowed.keys is not None or (narrowed.since and names[0][0] != "modifiedon")
        key = (table.shape.key, False)
        if names == [key] and not is_bounded:
            after = _plain_key(query.cookie) if query.cookie else None
            return self._filtered(table, query.condition, table.rows.by_key(after))
        if names == [("modifiedon", False), key] and narrowed.keys is None:
            return self._filtered(table, query.condition, _modified_after(table, query.cookie, narrowed.since))
        if names == [("versionnumber", False), key] and narrowed.keys is None:
            since = max(narrowed.version, int(query.cookie.last[0] or 0) if query.cookie else -1)
            return self._filtered(table, query.condition, table.rows.by_version(since))
        return self._sorted(table, query, narrowed)

    def _filtered(self, table: Table, condition: Condition | None, rows: Iterable[Found]) -> Iterator[Found]:
        if condition is None:
            return iter(rows)
        test = _tester(table, condition)
        return (row for row in rows if test(row))

    def _sorted(self, table: Table, query: Query, narrowed: Narrowed) -> Iterator[Found]:
        """The whole result, sorted and remembered until a row changes, from the cookie on."""
        rank = self._ranker(table, query.order)
        results = self._remembered(table, query, narrowed, rank)
        start = 0
        if query.cookie is not None:
            last = _cookie_rank(query.cookie, query.order)
            start = bisect_right(
                results, _comparison(query.order)(last), key=lambda row: _comparison(query.order)(rank(row))
            )
        return iter(results[start:])

    def _remembered(self, table: Table, query: Query, narrowed: Narrowed, rank: Callable[[Found], Rank]) -> list[Found]:
        orders = tuple((order.column.name, order.is_descending) for order in query.order)
        about = (
            table.logical_name,
            query.condition,
            orders,
            self._organisation.version,
            self._organisation.metadata_version,
        )
        if about not in self._results:
            found = self._filtered(table, query.condition, _candidates(table, narrowed))
            compared = _comparison(query.order)
            self._results[about] = sorted(found, key=lambda row: compared(rank(row)))
            while len(self._results) > KEPT_RESULTS:
                self._results.popitem(last=False)
        return self._results[about]

    def _ranker(self, table: Table, orders: Sequence[Order]) -> Callable[[Found], Rank]:
        return lambda row: tuple(_rank(self._order_value(table, order, row)) for order in orders)

    def _order_value(self, table: Table, order: Order, row: Found) -> object:
        """Value to sort by: for a lookup the name of its target, as Dataverse does."""
        if not is_pointing(order.column):
            return table.rows.value(row, order.column.name)
        pointer = table.rows.raw(row, order.column.name)
        return self._organisation.name_of(pointer) if isinstance(pointer, Pointer) else None


def _plain_key(cookie: Cookie) -> str:
    return str(cookie.last[-1]).strip("{}").lower()


def _modified_after(table: Table, cookie: Cookie | None, since: str) -> Iterator[Found]:
    floor = f"{since}Z" if since else ""
    if cookie is None:
        return table.rows.by_modified(floor[:19] + "Z" if floor else "", _seconds(since))
    last = (str(cookie.last[0]), _plain_key(cookie))
    rows = table.rows.by_modified(last[0], _seconds(canon(last[0])))
    return (row for row in rows if (table.rows.modified(row), table.rows.key(row)) > last)


def _seconds(since: str) -> int:
    if not since:
        return FIRST_MODIFIED
    return int(datetime.fromisoformat(since).replace(tzinfo=UTC).timestamp())


def _candidates(table: Table, narrowed: Narrowed) -> Iterable[Found]:
    """The rows that are worth a look, in no particular order."""
    rows = table.rows
    if narrowed.keys is not None:
        return [row for key in narrowed.keys if (row := rows.find(key)) is not None]
    if narrowed.since:
        return rows.by_modified(f"{narrowed.since[:19]}Z", _seconds(narrowed.since))
    if narrowed.version >= 0:
        return rows.by_version(narrowed.version)
    return rows.by_key()


def _tester(table: Table, condition: Condition) -> Callable[[Found], bool]:
    """A test of rows; where only plain columns matter, untouched rows are decided by their variant."""
    rows = table.rows

    def test(row: Found) -> bool:
        return matches(condition, lambda name: rows.value(row, name))

    if not _is_plain(condition, table.shape):
        return test
    decided: dict[int, bool] = {}

    def test_variant(row: Found) -> bool:
        if isinstance(row, Row):
            return test(row)
        variant = row % VARIANTS
        if variant not in decided:
            decided[variant] = test(row)
        return decided[variant]

    return test_variant


def _is_plain(condition: Condition, shape: Shape) -> bool:
    if isinstance(condition, Junction):
        return all(_is_plain(part, shape) for part in condition.parts)
    if isinstance(condition, Negation):
        return _is_plain(condition.part, shape)
    apart = {shape.key, shape.csdl_key, "versionnumber", "modifiedon"}
    return condition.path not in apart and not shape.by_name[condition.path].targets


def _rank(value: object) -> tuple[int, Any]:
    if value is None:
        return 0, 0
    if isinstance(value, int | float | Decimal):
        return 1, Decimal(str(value)) if not isinstance(value, bool) else Decimal(int(value))
    return 1, str(value).casefold()


def _cookie_rank(cookie: Cookie, orders: Sequence[Order]) -> Rank:
    return tuple(_read_rank(last, order) for last, order in zip(cookie.last, orders, strict=True))


def _read_rank(last: str | None, order: Order) -> tuple[int, Any]:
    if last is None:
        return 0, 0
    if order.column.edm in {"Edm.Int32", "Edm.Int64", "Edm.Decimal", "Edm.Double"}:
        return 1, Decimal(last)
    if order.column.edm == "Edm.Boolean":
        return 1, Decimal(int(last == "True"))
    return 1, last.strip("{}").casefold()


def _comparison(orders: Sequence[Order]) -> Callable[[Rank], Any]:
    def compare(left: Rank, right: Rank) -> int:
        for one, other, order in zip(left, right, orders, strict=True):
            if one != other:
                is_before = one < other
                return -1 if is_before is not order.is_descending else 1
        return 0

    return cmp_to_key(compare)
