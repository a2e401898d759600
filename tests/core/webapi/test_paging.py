import gc
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from msgspec import Raw
from wires import LOGIN, URL, Entra, Feed, Pieces, Time, busy, channel_to, config, until

from igh_sync_core.errors import ProtocolViolation, RequestRejected
from igh_sync_core.webapi.client import Client, Pace
from igh_sync_core.webapi.odata import Page
from igh_sync_core.webapi.paging import Fetched, Trail, read_ahead

ROOT = "https://org.crm.dynamics.com/api/data/v9.2/"


def page_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("next-page")]


class TestReadingAhead:
    def test_the_next_page_is_asked_for_while_the_caller_works_and_not_the_one_after(self) -> None:
        feed = Feed(pages=5)
        with channel_to(feed) as (channel, _):
            pages = channel.pages(URL)
            next(pages)

            assert until(lambda: len(feed.requests) == 2)
            time.sleep(0.05)
            assert len(feed.requests) == 2
            pages.close()  # type: ignore[attr-defined]  # it is a generator

    def test_an_abandoned_read_leaves_no_thread(self) -> None:
        with channel_to(Feed(pages=5)) as (channel, _):
            pages = channel.pages(URL)
            next(pages)
            del pages
            gc.collect()

            assert page_threads() == []

    def test_a_failed_read_leaves_no_thread(self) -> None:
        feed = Feed(pages=5)
        with channel_to(feed) as (channel, _):
            pages = channel.pages(URL)
            next(pages)
            assert until(lambda: len(feed.requests) == 2)
            feed.queue = [httpx.Response(400, json={"error": {"code": "0x80041129", "message": "bad cookie"}})]
            next(pages)
            with pytest.raises(RequestRejected, match="0x80041129"):
                next(pages)

            assert page_threads() == []

    def test_abandoning_does_not_wait_for_a_long_rest(self) -> None:
        feed = Feed(pages=5)
        with channel_to(feed, pace=Pace()) as (channel, _):
            pages = channel.pages(URL)
            next(pages)
            assert until(lambda: len(feed.requests) == 2)
            feed.queue = [busy(Retry_After="60")]
            next(pages)
            assert until(lambda: len(feed.requests) == 3)
            start = time.monotonic()
            pages.close()  # type: ignore[attr-defined]  # it is a generator

            assert time.monotonic() - start < 5
            assert page_threads() == []
            assert len(feed.requests) == 3

    def test_abandoning_does_not_wait_for_a_slow_body(self) -> None:
        feed = Feed(pages=5)
        with channel_to(feed) as (channel, _):
            pages = channel.pages(URL)
            next(pages)
            assert until(lambda: len(feed.requests) == 2)
            feed.queue = [httpx.Response(200, stream=Pieces([b" "] * 400, seconds=0.05))]
            next(pages)
            assert until(lambda: len(feed.requests) == 3)
            start = time.monotonic()
            pages.close()  # type: ignore[attr-defined]  # it is a generator

            assert time.monotonic() - start < 5


class TestSeveralChains:
    def test_they_are_under_way_at_once_each_in_its_own_order(self) -> None:
        together = threading.Barrier(3)

        def fetch(url: str, _abandoned: threading.Event) -> Fetched:
            chain, number = url.rpartition("/")[2].split("-")
            if number == "1":
                together.wait(10)  # breaks unless all three first pages are asked for before one has come
            following = f"{ROOT}{chain}-{int(number) + 1}" if int(number) < 3 else None
            return Fetched(Page([Raw(url.encode())], following), None, 0)

        starts = [f"{ROOT}{chain}-1" for chain in "abc"]
        left: list[set[str]] = []
        seen: dict[str, list[str]] = {"a": [], "b": [], "c": []}
        for fetched in read_ahead(fetch, Trail(ROOT, starts), threading.Event(), at_once=len(starts)):
            chain, number = bytes(fetched.page.value[0]).decode().rpartition("/")[2].split("-")
            seen[chain].append(number)
            left.append(set((fetched.page.next_link or "").splitlines()))

        assert seen == {"a": ["1", "2", "3"], "b": ["1", "2", "3"], "c": ["1", "2", "3"]}
        assert left[-1] == set()
        assert all(links for links in left[:-1])
        assert {f"{ROOT}{chain}-1" for chain in "abc"} - left[0] != set()
        assert len(left[0]) == 3

    def test_no_more_than_wished_are_under_way_and_the_others_follow(self) -> None:
        busy: set[str] = set()
        most: list[int] = []

        def fetch(url: str, _abandoned: threading.Event) -> Fetched:
            busy.add(url)
            most.append(len(busy))
            time.sleep(0.01)
            busy.discard(url)
            following = f"{url[:-1]}2" if url.endswith("1") else None
            return Fetched(Page([Raw(url.encode())], following), None, 0)

        starts = [f"{ROOT}{chain}-1" for chain in "abcde"]
        pages = list(read_ahead(fetch, Trail(ROOT, starts), threading.Event(), at_once=2))

        assert len(pages) == 10
        assert max(most) == 2
        assert [len((one.page.next_link or "").splitlines()) for one in (pages[0], pages[-2])] == [5, 1]
        assert pages[-1].page.next_link is None

    def test_none_of_them_may_lead_into_another(self) -> None:
        def fetch(_url: str, _abandoned: threading.Event) -> Fetched:
            return Fetched(Page([], f"{ROOT}b-1"), None, 0)

        starts = [f"{ROOT}a-1", f"{ROOT}b-1"]
        with pytest.raises(ProtocolViolation, match="back to a page already read"):
            list(read_ahead(fetch, Trail(ROOT, starts), threading.Event(), at_once=len(starts)))


class Plain(httpx.BaseTransport):
    """The fake login for the login host, and real sockets for everything else."""

    def __init__(self) -> None:
        self._entra = httpx.MockTransport(Entra())
        self._net = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return (self._entra if request.url.host == LOGIN else self._net).handle_request(request)

    def close(self) -> None:
        self._net.close()


@contextmanager
def raw_server(*answers: Callable[[str], bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """A socket that answers one connection after the other with given bytes; yields origin and request lines."""
    lines: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def serve() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    request = b""
                    while b"\r\n\r\n" not in request:
                        request += connection.recv(65_536)
                    lines.append(request.split(b"\r\n")[0])
                    connection.sendall(answer(origin))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield origin, lines
        finally:
            thread.join(5)


def page_bytes(link: str | None = None, *, promised: int = 0) -> bytes:
    body = json.dumps({"value": [], **({"@odata.nextLink": link} if link else {})}).encode()
    head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {promised or len(body)}\r\n\r\n"
    return head.encode() + body


def over_sockets(origin: str) -> Client:
    settings = config(api_url=origin, authority=f"https://{LOGIN}/0f6d1cf4-2c14-4d3e-9a32-5b8c1d7a9e10")
    return Client(settings, transport=Plain(), pace=Time().pace())


class TestRealSockets:
    def follow(self, tail: str) -> None:
        def first(origin: str) -> bytes:
            return page_bytes(f"{origin}/api/data/v9.2/{tail}")

        with raw_server(first, lambda _: page_bytes()) as (origin, lines), over_sockets(origin) as client:
            pages = list(client.channel("x").pages(f"{origin}/api/data/v9.2/contacts"))

        assert len(pages) == 2
        assert lines[1] == f"GET /api/data/v9.2/{tail} HTTP/1.1".encode()

    @pytest.mark.parametrize(
        "tail",
        [
            "contacts?$select=fullname&$skiptoken=%3Ccookie%20pagenumber=%222%22%20pagingcookie=%22%253ccookie%2522%22%20/%3E",
            'contacts?$skiptoken="%7b%7D"<[|]>^`{}\\%zz%2',
            "contacts?$deltatoken=919042%2108%2f22%2f2017%2008%3a10%3a44",
        ],
    )
    def test_a_next_link_is_sent_byte_for_byte(self, tail: str) -> None:
        self.follow(tail)

    def test_the_recorded_next_link_is_sent_byte_for_byte(self, captures: Path) -> None:
        link = json.loads((captures / "pages" / "amp_contacts-read.json").read_bytes())["@odata.nextLink"]

        self.follow(link.split("/api/data/v9.2/")[1])

    def test_a_body_cut_short_is_asked_again(self) -> None:
        with (
            raw_server(lambda _: page_bytes(promised=5_000), lambda _: page_bytes()) as (origin, lines),
            over_sockets(origin) as client,
        ):
            pages = list(client.channel("x").pages(f"{origin}/api/data/v9.2/contacts"))

        assert (len(pages), len(lines)) == (1, 2)
