"""Follows a chain of pages: byte for byte, never astray, a page ahead of the caller where that is worth it."""

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b
from threading import Event

import msgspec

from igh_sync_core.config.addresses import is_under
from igh_sync_core.errors import ProtocolViolation
from igh_sync_core.webapi.odata import Page

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
    """The links of one read: each once, all under the API root.

    Of each it keeps a digest: a link takes half a kilobyte, and a large table has thousands.

    Attributes:
        starts: Address of each chain's first page.
    """

    def __init__(self, root: str, starts: Sequence[str]) -> None:
        self._root = root
        self.starts = tuple(starts)
        self._seen = {_digest(check_address(start, root)) for start in starts}

    def follow(self, link: str | None) -> str | None:
        """The next address, or None at the end.

        Raises:
            ProtocolViolation: The link leads elsewhere, or back to a page already read.
        """
        if link is None:
            return None
        digest = _digest(link)
        if digest in self._seen:
            message = "a next link leads back to a page already read"
            raise ProtocolViolation(message, url=link.partition("?")[0])
        self._seen.add(digest)
        return check_address(link, self._root)


def _digest(link: str) -> bytes:
    return blake2b(link.encode(), digest_size=16).digest()


def always() -> bool:
    """Yes, whatever goes on."""
    return True


def read_ahead(
    fetch: Callable[[str, Event], Fetched],
    trail: Trail,
    abandoned: Event,
    *,
    at_once: int = 1,
    is_ahead: Callable[[], bool] = always,
) -> Iterator[Fetched]:
    """Pages in order; while the caller works on one, the next may be under way in a thread.

    Several chains may be read at once, each in its own order; where one ends, the next that waits begins. A page's next
    link then names all that is still to be read once the page is stored, an address a line: none only on the very last
    page.

    The threads end with the generator, however that ends: an unwanted request stops at its next wait or chunk, in an
    interruption at once.

    Args:
        fetch: Gets one page; told by the event that nobody wants it any more.
        trail: Judges each next link.
        abandoned: Set at the end, whoever set it before.
        at_once: Chains under way at most.
        is_ahead: Whether the next page of a chain is fetched before the caller has done with this one.
    """
    todo = dict(enumerate(trail.starts))
    waiting = deque(todo)
    under_way = _UnderWay(fetch, abandoned, at_once)
    try:
        first = [waiting.popleft() for _ in trail.starts[:at_once]]
        under_way.add({chain: todo[chain] for chain in first}, is_wanted=True)
        while under_way:
            chain, fetched = under_way.pop()
            del todo[chain]
            if link := trail.follow(fetched.page.next_link):
                todo[chain] = link
            elif waiting:
                chain = waiting.popleft()
            due = {chain: todo[chain]} if chain in todo else {}
            if is_early := is_ahead():
                under_way.add(due)
            yield _with_next(fetched, "\n".join(todo.values()) or None)
            del fetched  # or its records would stay in memory until the next page is here
            if not is_early:
                under_way.add(due, is_wanted=True)
    finally:
        under_way.close()


class _UnderWay:
    """The pages of one read that were asked for and not yet taken.

    Args:
        fetch: Gets one page; told by the event that nobody wants it any more.
        abandoned: That event.
        at_once: Pages under way at most.
    """

    def __init__(self, fetch: Callable[[str, Event], Fetched], abandoned: Event, at_once: int) -> None:
        self._fetch, self._abandoned = fetch, abandoned
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="next-page")
        self._chains: dict[Future[Fetched], int] = {}

    def __bool__(self) -> bool:
        return bool(self._chains)

    def add(self, links: Mapping[int, str], *, is_wanted: bool = False) -> None:
        """Ask for the next page of chains; where it is wanted already and the only one, a thread would be of no use."""
        get = self._now if is_wanted and len(links) == 1 and not self._chains else self._soon
        for chain, link in links.items():
            self._chains[get(link)] = chain

    def pop(self) -> tuple[int, Fetched]:
        """A page that came, and its chain; waits for one."""
        future = next(iter(wait(self._chains, return_when=FIRST_COMPLETED).done))
        return self._chains.pop(future), future.result()

    def close(self) -> None:
        """Give up what is still under way."""
        self._abandoned.set()
        self._pool.shutdown(cancel_futures=True)

    def _now(self, link: str) -> Future[Fetched]:
        future: Future[Fetched] = Future()
        future.set_result(self._fetch(link, self._abandoned))
        return future

    def _soon(self, link: str) -> Future[Fetched]:
        # In a copy of the caller's context, so that log records of the thread belong to the caller's run.
        return self._pool.submit(copy_context().run, self._fetch, link, self._abandoned)


def _with_next(fetched: Fetched, link: str | None) -> Fetched:
    if link == fetched.page.next_link:
        return fetched
    return replace(fetched, page=msgspec.structs.replace(fetched.page, next_link=link))
