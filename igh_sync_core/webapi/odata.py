"""The Web API's language, without a wire: requests are text to build, pages are bytes to parse.

Every query goes out in exactly the form built here; what a refused reply means is decided in ``replies``.
Source: https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query/overview
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from urllib.parse import quote

from msgspec import DecodeError, Raw, Struct, field, structs
from msgspec.json import Decoder

from igh_sync_core.errors import ProtocolViolation, SourceUnavailable
from igh_sync_core.instants import spelled

__all__ = [
    "MAX_CONDITIONS",
    "MAX_PAGE_SIZE",
    "MAX_URL",
    "Page",
    "datetime_literal",
    "entity_url",
    "id_batches",
    "in_filter",
    "parse_page",
    "prefer",
    "refuse_cut",
    "string_literal",
]

MAX_URL = 32_768
"""Characters of a GET's address at most."""

MAX_CONDITIONS = 500
"""Values that one query may compare with at most."""

MAX_PAGE_SIZE = 5_000
"""Rows of a page at most; elastic tables answer with 500."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# Characters that RFC 3986 allows in a query and that do not end an option's value; the rest is percent-encoded.
_SAFE_IN_QUERY = "$,()':/@*;!~?="


class Page(Struct, frozen=True):
    """One page of records, each still the bytes the server sent.

    Attributes:
        value: n records in the server's order; tombstones of a delta among them.
        next_link: Where the next page is; None on the last one only.
        delta_link: Where to ask for later changes; on the last page of a tracked read only.
        context: What the page is, such as ``…/$metadata#accounts/$delta``.
        metadata_version: Moves with every schema edit of the environment; None without annotations.
    """

    value: list[Raw]
    next_link: str | None = field(name="@odata.nextLink", default=None)
    delta_link: str | None = field(name="@odata.deltaLink", default=None)
    context: str = field(name="@odata.context", default="")
    metadata_version: str | None = field(name="@Microsoft.Dynamics.CRM.globalmetadataversion", default=None)

    @property
    def is_delta(self) -> bool:
        """Whether it holds changes and tombstones instead of all records."""
        return self.context.endswith("$delta")


_MARK = b"\xef\xbb\xbf"
_PAGE_DECODER = Decoder(Page)
_ANY = Decoder()
_TEXT = Decoder(Raw)
_OBJECT = json.JSONDecoder()
_TRUNCATED = "Input data was truncated"  # as msgspec says it


def parse_page(body: bytes | bytearray) -> Page:
    """Split a page into its records, which are parts of the body, without decoding them.

    The order of keys in the body does not matter: links stand before ``value`` or after it.

    Raises:
        SourceUnavailable: The body ends before its time; asked again, it may come whole.
        ProtocolViolation: The body is no JSON or has no list ``value``.
    """
    try:
        return _PAGE_DECODER.decode(_unmarked(body))
    except (DecodeError, UnicodeDecodeError) as exc:
        if page := _lenient(body):
            return page
        _refuse_cut(body, exc)
        message = f"the reply is no page of records: {exc}"
        raise ProtocolViolation(message) from exc


def refuse_cut(body: bytes | bytearray) -> None:
    """Refuse JSON that ends before its time; whatever else may be wrong is left to whoever reads it.

    A gateway that gives up may end a reply in good order, so that nothing but the text itself tells.

    Raises:
        SourceUnavailable: It does, or is empty.
    """
    try:
        _TEXT.decode(_unmarked(body))
    except (DecodeError, UnicodeDecodeError) as exc:
        _refuse_cut(body, exc)


def _refuse_cut(body: bytes | bytearray, exc: Exception) -> None:
    text = body.removeprefix(_MARK).strip()
    is_object_without_end = text.startswith(b"{") and not text.endswith(b"}") and not _begins_whole(text)
    if is_object_without_end or str(exc) == _TRUNCATED:
        message = f"the reply ends before its time, after {len(body)} bytes"
        raise SourceUnavailable(message) from exc


def _begins_whole(text: bytes | bytearray) -> bool:
    """Whether an object is whole, and what follows it is too much: asked again, that would come again."""
    try:
        _OBJECT.raw_decode(text.decode(errors="replace"))
    except (ValueError, RecursionError):
        return False
    return True


def _unmarked(body: bytes | bytearray) -> bytes | bytearray | memoryview:
    """Without the mark that some replies begin with; to cut it off would copy the whole page."""
    return memoryview(body)[len(_MARK) :] if body.startswith(_MARK) else body


def _lenient(body: bytes | bytearray) -> Page | None:
    """A page whose only fault lies within records, such as half a surrogate pair: whoever reads those names it."""
    try:
        page = json.loads(body.removeprefix(_MARK))
        records = [Raw(json.dumps(record).encode()) for record in page.pop("value")]
        whole = structs.replace(_PAGE_DECODER.decode(json.dumps(page | {"value": []})), value=records)
    except (ValueError, KeyError, TypeError, AttributeError):  # a DecodeError is a ValueError
        return None
    return whole if any(map(_is_faulty, records)) else None


def _is_faulty(record: Raw) -> bool:
    try:
        _ANY.decode(record)
    except DecodeError:
        return True
    return False


def entity_url(  # noqa: PLR0913 - one keyword for each query option of OData
    api_root: str,
    entity_set: str,
    *,
    select: Sequence[str] = (),
    where: str = "",
    order_by: Sequence[str] = (),
    top: int | None = None,
) -> str:
    """Address of a query, encoded and ready to be sent as it is.

    Args:
        api_root: With its closing slash.
        entity_set: ``accounts``, or a longer path below the root.
        select: Properties; the key always comes with them. Empty for all.
        where: Filter in plain, unencoded OData.
        order_by: Terms such as ``modifiedon`` or ``createdon desc``.
        top: Rows at most; not to be combined with a page size.
    """
    options = {"$select": ",".join(select), "$filter": where, "$orderby": ",".join(order_by)}
    if top is not None:
        options["$top"] = str(top)
    query = "&".join(f"{name}={_encode(value)}" for name, value in options.items() if value)
    return f"{api_root}{entity_set}" + (f"?{query}" if query else "")


def datetime_literal(value: datetime) -> str:
    """An aware time as filters take it, in UTC and whole seconds: ``2021-04-28T15:19:30Z``.

    Fractions are cut, since the Web API keeps whole seconds; ``ge`` then loses nothing.

    Raises:
        ValueError: The time is naive.
    """
    if value.tzinfo is None:
        message = "a time without zone cannot be compared with the server's"
        raise ValueError(message)
    return spelled(value)


def string_literal(value: str) -> str:
    """Text as filters take it: in single quotes, its own quotes doubled."""
    return "'" + value.replace("'", "''") + "'"


def in_filter(column: str, ids: Iterable[str]) -> str:
    """Filter for records whose column holds one of the ids; OData's own ``in`` is not supported.

    Args:
        column: Property name; a lookup ``_x_value`` is compared under its column name ``x``, as the vendor wants it.
        ids: Up to ``MAX_CONDITIONS`` values.

    Raises:
        ValueError: The column is no name, or an id holds a quote.

    Source: https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query/filter-rows
    """
    name = column.removeprefix("_").removesuffix("_value") if _is_lookup(column) else column
    if not _NAME.fullmatch(name):
        message = f"{column!r} is no column name"
        raise ValueError(message)
    values = ",".join(f"'{_plain(value)}'" for value in ids)
    return f"Microsoft.Dynamics.CRM.In(PropertyName='{name}',PropertyValues=[{values}])"


def id_batches(
    ids: Iterable[str], *, url_room: int, most: Callable[[], int] = lambda: MAX_CONDITIONS
) -> Iterator[list[str]]:
    """Split ids into lists that each fit one ``in_filter``, as large as may be.

    Args:
        ids: Consumed once; order is kept.
        url_room: Characters left for them: ``MAX_URL`` less the address built with an empty list.
        most: Gives the ids of the next list at most.

    Raises:
        ValueError: There is no room for even one.
    """
    batch: list[str] = []
    used = 0
    for value in ids:
        size = len(_encode(f"'{value}',"))
        if size > url_room:
            message = f"no room for an id of {size} characters in the {url_room} left"
            raise ValueError(message)
        if used + size > url_room or len(batch) >= min(most(), MAX_CONDITIONS):
            yield batch
            batch, used = [], 0
        batch.append(value)
        used += size
    if batch:
        yield batch


def prefer(*, page_size: int | None = None, annotations: bool = True, track_changes: bool = False) -> str:
    """Value of the ``Prefer`` header; "" when nothing is preferred.

    Args:
        page_size: Rows at most per page; None for the server's choice.
        annotations: Ask for labels, lookup targets and the metadata version.
        track_changes: Ask for a delta link after the last page.
    """
    wishes = [
        "odata.track-changes" if track_changes else "",
        f"odata.maxpagesize={page_size}" if page_size else "",
        'odata.include-annotations="*"' if annotations else "",
    ]
    return ",".join(filter(None, wishes))


def _is_lookup(column: str) -> bool:
    return column.startswith("_") and column.endswith("_value")


def _plain(value: str) -> str:
    if "'" in value or '"' in value or "\\" in value:
        message = "an id holds a quote or backslash"
        raise ValueError(message)
    return value


def _encode(value: str) -> str:
    return quote(value, safe=_SAFE_IN_QUERY)
