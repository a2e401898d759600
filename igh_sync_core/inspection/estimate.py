"""How much there is to ask: records per table, roughly; pages for so many records; ids that one request can name."""

from collections.abc import Iterable
from itertools import repeat

import msgspec
from msgspec import Struct, field

from igh_sync_core.errors import ProtocolViolation, RequestRejected
from igh_sync_core.model import TableSpec
from igh_sync_core.sync.run import row_bytes
from igh_sync_core.webapi.client import Client
from igh_sync_core.webapi.odata import MAX_URL, entity_url, id_batches, in_filter, parse_page, prefer
from igh_sync_core.webapi.pacing import Pace, PageSize


class _Counts(Struct):
    keys: list[str] = field(name="Keys")
    values: list[int] = field(name="Values")


class _Reply(Struct):
    counts: _Counts = field(name="EntityRecordCountCollection")


_REPLY = msgspec.json.Decoder(_Reply)


def count_records(client: Client, names: Iterable[str]) -> dict[str, int]:
    """Ask for the environment's own counts, at most a day old; they heed neither filters nor permissions.

    Args:
        client: The wire.
        names: Logical names of *n* tables; virtual ones have no count.

    Returns:
        Records by logical name, for those that have a count.

    Raises:
        SourceError: The environment does not tell.

    Source: https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query/count-rows
    """
    quoted = ",".join(f"'{name}'" for name in names)
    url = f"{client.config.api_root}RetrieveTotalRecordCount(EntityNames=@p1)?@p1=[{quoted}]"
    try:
        counts = _REPLY.decode(client.channel("counts").get(url).body).counts
    except msgspec.DecodeError as exc:
        message = "the answer to RetrieveTotalRecordCount is not understood"
        raise ProtocolViolation(message, url=client.config.api_root) from exc
    return dict(zip(counts.keys, counts.values, strict=True))


class Pages:
    """Counts the pages of one table's reads, sized by the rules that a run follows.

    Args:
        client: Asked for a few records, once, where their size matters.
        spec: The table.
        page_size: Rows per page at most.
    """

    def __init__(self, client: Client, spec: TableSpec, page_size: int) -> None:
        self._client, self._spec = client, spec
        self._size = PageSize(page_size, page_bytes=Pace.page_bytes, row_bytes=row_bytes(spec))
        self._record_bytes: float | None = None

    def count(self, *reads: int) -> int:
        """Pages that reads of so many rows each come in, one at least each; their size goes on from one to the next.

        Raises:
            SourceUnavailable: The environment does not answer.
        """
        return sum(self._count(rows, is_last=at == len(reads)) for at, rows in enumerate(reads, start=1))

    def count_batches(self, ids: int, *, most: int) -> int:
        """Pages that so many records come in when they are asked by id, at most so many at a time."""
        pages = 0
        while ids > 0:
            batch = min(ids, most, self._size.current)
            pages += self._count(batch, is_last=False)
            ids -= batch
        return pages

    def _count(self, left: int, *, is_last: bool) -> int:
        pages = 1
        while left > self._size.current:
            pages += 1
            left -= self._came(self._size.current)
        if not is_last:
            self._came(left)
        return pages

    def _came(self, rows: int) -> int:
        self._size.settle(round(rows * self._bytes_of_a_record()), rows)
        return rows

    def _bytes_of_a_record(self) -> float:
        if self._record_bytes is None:
            self._record_bytes = self._measure() or row_bytes(self._spec)
        return self._record_bytes

    def _measure(self) -> float:
        """Average size of a few records with their annotations; 0 where they cannot be had."""
        url = entity_url(self._client.config.api_root, self._spec.entity_set, top=_SAMPLE)
        try:
            body = self._client.channel("sample").get(url, prefer=prefer()).body
            return len(body) / max(1, len(parse_page(body).value))
        except (RequestRejected, ProtocolViolation):
            return 0


_SAMPLE = 100


def ids_per_request(spec: TableSpec, api_root: str) -> int:
    """How many records one address can ask for by id."""
    room = MAX_URL - len(entity_url(api_root, spec.entity_set, where=in_filter(spec.key, ())))
    return len(next(id_batches(repeat(_SOME_ID), url_room=room)))


_SOME_ID = "0" * 8 + "-0000" * 3 + "-" + "0" * 12
