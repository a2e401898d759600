"""Follows a chain of pages: byte for byte, never astray, one page ahead of the caller."""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Event

import msgspec

from igh_sync_core.addresses import is_under
from igh_sync_core.errors import ProtocolViolation
from igh_sync_core.odata import Page

_SENDABLE = re.compile(r"[\x21-\x22\x24-\x7e]+")  # visible ASCII without "#"


@dataclass(frozen=True)
class Fetched:
    """A page, and what its reply told beside it.

    Attributes:
        page: Its records and links.
        server_date: The server's clock when it answered, UTC; None where it does not say.
        size_bytes: Length of the decoded body.
    """

    page: Page
    server_date: datetime | None
    size_bytes: int


def check_address(url: str, root: str) -> str:
    """The address itself, if it may be sent: under the API root, and plain ASCII that needs no encoding.

    Raises:
        ProtocolViolation: It may not; the text does not repeat its query.
    """
    if not _SENDABLE.fullmatch(url) or not is_under(url, root):
        message = f"a link leads out of {root}: {url.partition('?')[0][:200]!r}"
        raise ProtocolViolation(message, url=root)
    return url


class Trail:
    """The links of one read: each once, all under the API root."""

    def __init__(self, root: str, starts: Iterable[str]) -> None:
        self._root = root
        self._seen = {check_address(start, root) for start in starts}

    def follow(self, link: str | None) -> str | None:
        """The next address, or None at the end.

        Raises:
            ProtocolViolation: The link leads elsewhere, or back to a page already read.
        """
        if link is None:
            return None
        if link in self._seen:
            message = "a next link leads back to a page already read"
            raise ProtocolViolation(message, url=link.partition("?")[0])
        self._seen.add(check_address(link, self._root))
        return link


def read_ahead(
    fetch: Callable[[str, Event], Fetched], trail: Trail, starts: Sequence[str], *, at_once: int = 1
) -> Iterator[Fetched]:
    """Pages in order; while the caller works on one, the next is under way in a thread.

    Several chains may be read at once, each in its own order; where one ends, the next that waits begins. A page's next
    link then names all that is still to be read once the page is stored, an address a line: none only on the very last
    page.

    The threads end with the generator, however that ends: an unwanted request stops at its next wait or chunk.

    Args:
        fetch: Gets one page; told by the event that nobody wants it any more.
        trail: Judges each next link.
        starts: Address of each chain's first page.
        at_once: Chains under way at most.
    """
    abandoned = Event()
    todo = dict(enumerate(starts))
    waiting = deque(todo)
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="next-page")

    def ask(link: str) -> Future[Fetched]:
        # In a copy of the caller's context, so that log records of the thread belong to the caller's run.
        return pool.submit(copy_context().run, fetch, link, abandoned)

    def fetch_here(link: str) -> Future[Fetched]:
        future: Future[Fetched] = Future()
        future.set_result(fetch(link, abandoned))
        return future

    try:
        # Nothing can be done before the only chain's first page, and mostly it is the last one, too.
        begin = fetch_here if len(todo) == 1 else ask
        under_way = {begin(todo[chain]): chain for chain in (waiting.popleft() for _ in starts[:at_once])}
        while under_way:
            future = next(iter(wait(under_way, return_when=FIRST_COMPLETED).done))
            chain, fetched = under_way.pop(future), future.result()
            del todo[chain], future
            if link := trail.follow(fetched.page.next_link):
                todo[chain] = link
            elif waiting:
                chain = waiting.popleft()
            if chain in todo:
                under_way[ask(todo[chain])] = chain
            yield _with_next(fetched, "\n".join(todo.values()) or None)
    finally:
        abandoned.set()
        pool.shutdown(cancel_futures=True)


def _with_next(fetched: Fetched, link: str | None) -> Fetched:
    if link == fetched.page.next_link:
        return fetched
    return replace(fetched, page=msgspec.structs.replace(fetched.page, next_link=link))
