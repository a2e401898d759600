"""Asks the Web API and iterates pages; only ever GET.

One ``Client`` for all threads of a process, one ``Channel`` for each entity. HTTP faults are retried here (in
``sending``) and nowhere else.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from threading import Event, Lock
from types import TracebackType
from typing import Self, TypeVar

import httpx

from igh_sync_core.config import Config
from igh_sync_core.errors import SourceUnavailable
from igh_sync_core.webapi import odata
from igh_sync_core.webapi.interruption import Interruption
from igh_sync_core.webapi.pacing import Pace, PageSize
from igh_sync_core.webapi.paging import Fetched, Trail, always, read_ahead
from igh_sync_core.webapi.replies import SQL_TIMEOUT, parse_http_date
from igh_sync_core.webapi.sending import Sender, read_chunks

__all__ = ["Channel", "Client", "Fetched", "Pace", "Reply"]

log = logging.getLogger(__name__)
T = TypeVar("T")

_HEADERS = {
    "Accept": "application/json",
    "OData-MaxVersion": "4.0",
    "OData-Version": "4.0",
    "If-None-Match": "null",
}
_TIMEOUT_STATUSES = {408, 504}


@dataclass(frozen=True)
class Reply:
    """One whole 2xx reply.

    Attributes:
        status: HTTP status.
        headers: Names in any case.
        body: Decoded from its content encoding.
        url: Address asked, with its query.
        server_date: The server's clock when it answered, UTC; None where it does not say.
    """

    status: int
    headers: httpx.Headers
    body: bytes | bytearray
    url: str
    server_date: datetime | None


class Client:
    """The connection of one process to one environment; a context manager, safe for any number of threads.

    Args:
        config: Where and as whom.
        transport: Stands in for the network.
        pace: Limits of patience and breadth.
        interruption: Ends all waits from outside; its own unless given.
    """

    def __init__(
        self,
        config: Config,
        *,
        transport: httpx.BaseTransport | None = None,
        pace: Pace | None = None,
        interruption: Interruption | None = None,
    ) -> None:
        self.config = config
        self._pace = pace or Pace()
        self._interruption = interruption or Interruption()
        self._sender = Sender(config, self._pace, transport, self._interruption)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; channels are of no use afterwards."""
        self._sender.close()

    @property
    def is_interrupted(self) -> bool:
        """Whether all its waits have been ended: it is of no more use."""
        return self._interruption.is_set

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """While inside, what ends this thread (Ctrl-C, a termination) ends the waits of all others, to be joined soon.

        An error is no such end: others may go on.
        """
        try:
            yield
        except Exception:
            raise
        except BaseException:
            self._interruption.set()
            raise

    def channel(self, label: str, *, page_size: int = odata.MAX_PAGE_SIZE, row_bytes: int = 0) -> "Channel":
        """Open an entity's own line: its counter and its page size.

        Args:
            label: Stands in log records.
            page_size: Rows per page at most; 5000 is the server's own limit.
            row_bytes: Size of a record as expected, so that the first page already is of a good size; 0 if unknown.
        """
        return Channel(self._sender, label, PageSize(page_size, page_bytes=self._pace.page_bytes, row_bytes=row_bytes))


class Channel:
    """One entity's line to the Web API; made by ``Client.channel``.

    Attributes:
        requests: Data requests sent through it so far, retries included.
    """

    def __init__(self, sender: Sender, label: str, size: PageSize) -> None:
        self._sender = sender
        self._label = label
        self._size = size
        self._lock = Lock()
        self.requests = 0

    @property
    def page_rows(self) -> int:
        """Rows that the next page is asked to have."""
        return self._size.current

    def get(self, url: str, *, prefer: str = "") -> Reply:
        """One whole reply, retried while the server is busy or away.

        Args:
            url: Under the API root; sent byte for byte.
            prefer: Value of the ``Prefer`` header, see ``odata.prefer``.

        Raises:
            SourceUnavailable: Still busy after all patience.
            RequestRejected: The server refused it.
            AuthError: No token, a refused one, or no application user.
            Interrupted: The run is being ended.
            ProtocolViolation: The address or the reply breaks the contract.
        """
        abandoned = self._sender.interruption.event()
        return self._sender.retrying(partial(self._got, url, prefer, abandoned), abandoned)

    def read(self, url: str, parse: Callable[[Iterator[bytes]], T], *, accept: str) -> T:
        """What *parse* makes of a reply as it comes, for one too large to hold, such as ``$metadata``.

        Retried as ``get``, from the first byte on, also where it is cut in the middle.

        Args:
            url: Under the API root.
            parse: Takes the decoded body in pieces, once for each try.
            accept: Media type wanted.

        Raises:
            SyncError: As ``get``; also whatever *parse* raises, of which ``SourceUnavailable`` is tried again.
        """
        abandoned = self._sender.interruption.event()
        headers = _HEADERS | {"Accept": accept}

        def attempt() -> T:
            stack, response = self._sender.open_reply(url, headers, abandoned=abandoned, on_sent=self._count)
            with stack:
                return parse(read_chunks(response, url, abandoned))

        return self._sender.retrying(attempt, abandoned)

    def pages(
        self,
        *urls: str,
        at_once: int = 1,
        track_changes: bool = False,
        annotations: bool = True,
        is_ahead: Callable[[], bool] = always,
    ) -> Iterator[Fetched]:
        """Pages of a query in order, one ahead where that is worth it; the read is complete where the iterator ends.

        Args:
            urls: A query, or a delta link as the server gave it; or several queries, see ``read_ahead``.
            at_once: How many of them are under way at most.
            track_changes: Ask for a delta link with the last page.
            annotations: Ask for labels and lookup targets.
            is_ahead: Whether a page is worth fetching before it is wanted; asked before each.

        Raises:
            SyncError: As ``get``; also a page without records, a link astray or a link seen before.
        """
        wish = partial(odata.prefer, annotations=annotations, track_changes=track_changes)
        fetch = partial(self._page, wish)
        trail, abandoned = Trail(self._sender.root, urls), self._sender.interruption.event()
        return read_ahead(fetch, trail, abandoned, at_once=at_once, is_ahead=is_ahead)

    def _page(self, wish: Callable[..., str], url: str, abandoned: Event) -> Fetched:
        fetched = self._sender.retrying(partial(self._sized, wish, url, abandoned), abandoned)
        rows, size_bytes = len(fetched.page.value), fetched.size_bytes
        self._size.settle(size_bytes, rows)
        log.debug("page read", extra={"entity": self._label, "rows": rows, "size_bytes": size_bytes})
        return fetched

    def _sized(self, wish: Callable[..., str], url: str, abandoned: Event) -> Fetched:
        """One try at a page, in the size that seems right by now."""
        try:
            reply = self._whole(url, wish(page_size=self._size.current), abandoned)
        except SourceUnavailable as error:
            if _took_too_long(error):
                self._size.shrink()
            raise
        return Fetched(odata.parse_page(reply.body), reply.server_date, len(reply.body))

    def _got(self, url: str, prefer: str, abandoned: Event) -> Reply:
        """One try at a reply of another kind, which its reader parses."""
        reply = self._whole(url, prefer, abandoned)
        odata.refuse_cut(reply.body)
        return reply

    def _whole(self, url: str, prefer: str, abandoned: Event) -> Reply:
        headers = _HEADERS | ({"Prefer": prefer} if prefer else {})
        stack, response = self._sender.open_reply(url, headers, abandoned=abandoned, on_sent=self._count)
        with stack:
            body = bytearray()  # a list of pieces would be put together beside itself: a page twice in memory
            for chunk in read_chunks(response, url, abandoned):
                body += chunk
        date = parse_http_date(response.headers.get("date", ""))
        return Reply(response.status_code, response.headers, body, url, date)

    def _count(self) -> None:
        with self._lock:
            self.requests += 1


def _took_too_long(error: SourceUnavailable) -> bool:
    is_read_timeout = isinstance(error.__cause__, httpx.ReadTimeout)
    return is_read_timeout or error.code == SQL_TIMEOUT or error.status in _TIMEOUT_STATUSES
