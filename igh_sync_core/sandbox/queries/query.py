"""What a request asks for: query options, preferences, and the links built from them."""

import re
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote, unquote_plus

from igh_sync_core.sandbox.data.schema import POINTING, Column, Kind, Shape
from igh_sync_core.sandbox.data.table import Table
from igh_sync_core.sandbox.queries.conditions import resolve
from igh_sync_core.sandbox.queries.cookies import Cookie, DeltaToken, read_cookie, read_token
from igh_sync_core.sandbox.queries.filters import Condition, parse
from igh_sync_core.sandbox.replies import refuse, refuse_property

OPTIONS = frozenset(
    {"$select", "$filter", "$orderby", "$top", "$count", "$apply", "$skiptoken", "$deltatoken", "$expand"}
)
IGNORED = frozenset({"$search", "$format"})
SAFE = "(),'@$:*/=!"


class Preferences(NamedTuple):
    """The ``Prefer`` header.

    Attributes:
        page_rows: ``odata.maxpagesize``, or None.
        annotations: Patterns of ``odata.include-annotations``.
        track_changes: Whether ``odata.track-changes`` was asked for.
        applied: What ``Preference-Applied`` says.
    """

    page_rows: int | None = None
    annotations: tuple[str, ...] = ()
    track_changes: bool = False
    applied: str = ""

    def includes(self, term: str) -> bool:
        """Whether annotations of *term* are wanted."""
        return any(_covers(pattern, term) for pattern in self.annotations)


def _covers(pattern: str, term: str) -> bool:
    return pattern in {"*", term} or (pattern.endswith(".*") and term.startswith(pattern[:-1]))


def read_preferences(header: str) -> Preferences:
    """The preferences that this server knows; others are not applied."""
    items = {name.strip().lower(): value.strip('"') for name, value in _items(header)}
    pages = items.get("odata.maxpagesize", "")
    known = ("odata.include-annotations", "odata.maxpagesize", "odata.track-changes")
    return Preferences(
        page_rows=int(pages) if pages.isdigit() and int(pages) > 0 else None,
        annotations=tuple(
            part.strip() for part in items.get("odata.include-annotations", "").split(",") if part.strip()
        ),
        track_changes="odata.track-changes" in items,
        applied=",".join(_applied(name, items[name]) for name in known if name in items),
    )


def _items(header: str) -> list[tuple[str, str]]:
    parts = re.findall(r'((?:[^,"]|"[^"]*")+)', header)
    return [(name, value.strip()) for name, _, value in (part.partition("=") for part in parts)]


def _applied(name: str, value: str) -> str:
    if name == "odata.include-annotations":
        return f'{name}="{value}"'
    return f"{name}={value}" if value else name


class Order(NamedTuple):
    """One column of the order."""

    column: Column
    is_descending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A request for rows of one table.

    Attributes:
        columns: What each row carries.
        selected: Names as ``$select`` gives them; empty for all.
        order: The order asked for, the key last.
        items: Names and values of the query string, for links.
    """

    columns: tuple[Column, ...]
    selected: tuple[str, ...]
    condition: Condition | None
    order: tuple[Order, ...]
    top: int | None
    wants_count: bool
    cookie: Cookie | None
    token: DeltaToken | None
    aggregate: str
    items: tuple[tuple[str, str], ...]

    @property
    def options(self) -> frozenset[str]:
        """Names of the options that were given."""
        return frozenset(name for name, _ in self.items)


def split(query: str) -> tuple[tuple[str, str], ...]:
    """Names and decoded values of a query string, in order."""
    pairs = (part.partition("=") for part in query.split("&") if part)
    return tuple((unquote_plus(name), unquote_plus(value)) for name, _, value in pairs)


def read_query(query: str, table: Table) -> Query:
    """The options of *query*, checked against the columns of *table*.

    Raises:
        Refusal: 400 for what Dataverse refuses: unknown options, columns and literals, bad cookies and tokens.
    """
    items = split(query)
    given = dict(items)
    _check_names(given)
    shape = table.shape
    selected = tuple(name.strip() for name in given.get("$select", "").split(",") if name.strip())
    condition = parse(given["$filter"], given) if given.get("$filter") else None
    return Query(
        columns=_columns(shape, selected),
        selected=selected,
        condition=resolve(condition, shape) if condition else None,
        order=_order(shape, given.get("$orderby", "")),
        top=_top(given.get("$top")),
        wants_count=given.get("$count", "false").lower() == "true",
        cookie=read_cookie(given["$skiptoken"]) if "$skiptoken" in given else None,
        token=read_token(given["$deltatoken"]) if "$deltatoken" in given else None,
        aggregate=given.get("$apply", ""),
        items=items,
    )


def _check_names(given: dict[str, str]) -> None:
    if "$skip" in given:
        refuse("Skip Clause is not supported in CRM")
    if "$expand" in given:
        refuse("The sandbox does not expand related rows.", "0x80060888", status=501)
    unknown = [name for name in given if name.startswith("$") and name not in OPTIONS | IGNORED]
    if unknown:
        refuse(f"The query parameter {unknown[0]} is not supported")


def _columns(shape: Shape, selected: tuple[str, ...]) -> tuple[Column, ...]:
    """Selected columns, and after them what Dataverse always adds: keys, and the currency of amounts."""
    if not selected:
        return tuple(shape.columns)
    missing = [name for name in selected if name not in shape.by_name]
    if missing:
        refuse_property(missing[0], shape.logical_name)
    names = list(selected)
    if any(shape.by_name[name].kind is Kind.MONEY for name in selected):
        names.append("_transactioncurrencyid_value")
    names += [shape.key, shape.csdl_key]
    return tuple(shape.by_name[name] for name in dict.fromkeys(names) if name in shape.by_name)


def _order(shape: Shape, text: str) -> tuple[Order, ...]:
    orders = [_one_order(shape, part.split()) for part in text.split(",") if part.strip()]
    if shape.key not in {order.column.name for order in orders}:
        orders.append(Order(shape.by_name[shape.key]))
    return tuple(orders)


def _one_order(shape: Shape, words: list[str]) -> Order:
    name, direction = words[0], (words[1:] or ["asc"])[0]
    if name not in shape.by_name:
        refuse_property(name, shape.logical_name)
    if shape.by_name[name].declared_by == "principal":
        message = f"The $orderby expression '{name}' of type 'Microsoft.Dynamics.CRM.principal' is not supported."
        refuse(message)
    return Order(shape.by_name[name], direction == "desc")


def _top(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdigit():
        refuse(f"Invalid value '{text}' for $top query option found.")
    return int(text)


def link(path: str, query: Query, **added: str) -> str:
    """Address of another page of the same query.

    Args:
        path: Absolute address without query.
        query: Its own ``$skiptoken`` and ``$deltatoken`` are left out.
        added: Encoded values by name, such as ``skiptoken``.
    """
    kept = [(name, value) for name, value in query.items if name not in {"$skiptoken", "$deltatoken"}]
    parts = [f"{quote(name, safe='@$')}={quote(value, safe=SAFE)}" for name, value in kept]
    parts += [f"${name}={value}" for name, value in added.items()]
    return f"{path}?{'&'.join(parts)}"


def is_pointing(column: Column) -> bool:
    """Whether ordering by *column* means ordering by the name of what it points at."""
    return column.kind in POINTING
