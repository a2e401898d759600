"""A complete read of one table in several ranges of ``createdon``, each a chain of pages of its own, on request.

One chain can only be as fast as one page follows the other. The ranges are half open and cover every time, and records
without a time belong to the first; ``createdon`` never changes, so no record moves between them while they are read.
They are of equal length in time, not in rows; so that a busy time holds up nothing there are more of them than are read
at once. The watermark is that of the page that came first; chains that were asked a moment earlier are covered by the
overlap of the next read (law 2).
"""

from dataclasses import replace
from datetime import datetime
from itertools import pairwise

import msgspec
from msgspec import Struct

from igh_sync_core.errors import RequestRejected
from igh_sync_core.instants import EARLIEST, utc
from igh_sync_core.model import TableSpec
from igh_sync_core.sync.strategy import Plan, Read, as_one, in_ranges
from igh_sync_core.webapi.client import Channel
from igh_sync_core.webapi.odata import datetime_literal, entity_url, parse_page

PIECES = 4
"""Ranges for each that is read at a time."""

_WHEN = "createdon"


class _Created(Struct):
    createdon: datetime | None = None


_CREATED = msgspec.json.Decoder(_Created)


def spread(channel: Channel, spec: TableSpec, plan: Plan, read: Read, *, api_root: str) -> Read:
    """The same read, in ranges where the plan says so and it begins anew; two small requests tell how to cut.

    Where the server refuses to tell the oldest or the newest record the read stays one chain.

    Raises:
        SourceError: The server is away, or does not know us.
    """
    if plan.ranges <= 1 or not read.is_complete or read.is_resumed:
        return read
    try:
        oldest, newest = (_created(channel, spec, api_root, order) for order in ("asc", "desc"))
    except RequestRejected as exc:
        return _with_reason(read, f"to order by {_WHEN} was refused ({exc.code or exc.status}); read in one chain")
    if oldest is None or newest is None:
        return read
    wheres = _conditions(oldest, newest, plan.ranges * PIECES)
    url = as_one(entity_url(api_root, spec.entity_set, where=where) for where in wheres)
    return replace(_with_reason(read, in_ranges(plan.ranges)), url=url)


def _with_reason(read: Read, reason: str) -> Read:
    return replace(read, reason="; ".join(filter(None, (read.reason, reason))))


def _created(channel: Channel, spec: TableSpec, api_root: str, order: str) -> datetime | None:
    """When the first or last record was created, as far back as filters go; None where none was."""
    where, order_by = f"{_WHEN} ne null", (f"{_WHEN} {order}",)
    url = entity_url(api_root, spec.entity_set, select=(_WHEN,), where=where, order_by=order_by, top=1)
    records = parse_page(channel.get(url).body).value
    created = _CREATED.decode(records[0]).createdon if records else None
    return created and max(EARLIEST, utc(created))


def _conditions(oldest: datetime, newest: datetime, count: int) -> list[str]:
    """Filters of at most *count* ranges of equal length."""
    step = (newest - oldest) / count
    cuts = list(dict.fromkeys(datetime_literal(oldest + step * at) for at in range(1, count)))
    first = f"{_WHEN} lt {cuts[0]} or {_WHEN} eq null"
    between = (f"{_WHEN} ge {start} and {_WHEN} lt {end}" for start, end in pairwise(cuts))
    return [first, *between, f"{_WHEN} ge {cuts[-1]}"]
