import gc
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from wires import LOGIN, ORG, ROOT, Entra, Handler, Time, config

from igh_sync_core.client import Channel, Client, Pace
from igh_sync_core.errors import AuthError, ProtocolViolation, RequestRejected, SourceUnavailable

DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
URL = f"{ROOT}accounts?$select=name"
BUSY = {"error": {"code": "0x80072322", "message": "Number of requests exceeded the limit of 6000."}}
SLOW = {"error": {"code": "0x80044151", "message": "SQL timeout expired."}}


class Feed:
    """Serves numbered pages of one record each, keeps what arrived, and first answers what is queued."""

    def __init__(self, pages: int = 3) -> None:
        self.pages = pages
        self.requests: list[httpx.Request] = []
        self.queue: list[httpx.Response | Exception] = []
        self.bytes_per_row = 0
        self.sent: list[int] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.queue:
            answer = self.queue.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        number = int(request.url.params.get("$skiptoken", "1"))
        pad = "x" * (self.bytes_per_row * self.sizes[-1] if self.bytes_per_row else 0)
        page: dict[str, object] = {"value": [{"n": number, "pad": pad}]}
        if number < self.pages:
            page["@odata.nextLink"] = f"{URL}&$skiptoken={number + 1}"
        reply = httpx.Response(200, headers={"Date": DATE}, json=page)
        self.sent.append(len(reply.content))
        return reply

    @property
    def sizes(self) -> list[int]:
        """Page size that each request asked for."""
        wishes = [request.headers["Prefer"] for request in self.requests]
        return [int(wish.split("maxpagesize=")[1].split(",")[0]) for wish in wishes]


@contextmanager
def channel_to(behind: Handler, *, pace: Pace | None = None, page_size: int = 5_000) -> Iterator[tuple[Channel, Entra]]:
    entra = Entra(behind)
    with Client(config(), transport=httpx.MockTransport(entra), pace=pace or Time().pace()) as client:
        yield client.channel("accounts", page_size=page_size), entra


def numbers(channel: Channel, url: str = URL) -> list[int]:
    return [json.loads(bytes(raw))["n"] for fetched in channel.pages(url) for raw in fetched.page.value]


def busy(**headers: str) -> httpx.Response:
    return httpx.Response(429, json=BUSY, headers={name.replace("_", "-"): value for name, value in headers.items()})


def page_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("next-page")]


def until(claim: Callable[[], bool], *, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not claim() and time.monotonic() < end:
        time.sleep(0.005)
    return claim()


class TestRequests:
    def test_the_documented_headers_are_on_the_wire(self) -> None:
        feed = Feed()
        with channel_to(feed) as (channel, _):
            reply = channel.get(URL, prefer="odata.maxpagesize=7")

        (request,) = feed.requests
        wanted = {
            "authorization": "Bearer token-1",
            "accept": "application/json",
            "odata-maxversion": "4.0",
            "odata-version": "4.0",
            "if-none-match": "null",
            "prefer": "odata.maxpagesize=7",
        }
        assert wanted.items() <= dict(request.headers).items()
        assert (request.method, str(request.url)) == ("GET", URL)
        assert (reply.status, reply.url, reply.server_date) == (200, URL, datetime(2015, 10, 21, 7, 28, tzinfo=UTC))
        assert json.loads(reply.body)["value"] == [{"n": 1, "pad": ""}]
        assert channel.requests == 1

    def test_no_cookie_is_sent_back(self) -> None:
        seen: list[str | None] = []

        def sticky(request: httpx.Request) -> httpx.Response:
            seen.append(request.headers.get("Cookie"))
            return httpx.Response(200, headers={"Set-Cookie": "ARRAffinity=abc; Path=/; HttpOnly"}, json={"value": []})

        with channel_to(sticky) as (channel, _):
            channel.get(URL)
            channel.get(URL)

        assert seen == [None, None]

    def test_a_redirect_is_not_followed(self) -> None:
        feed = Feed()
        feed.queue = [httpx.Response(302, headers={"Location": "https://evil.example/"})]
        with channel_to(feed) as (channel, entra), pytest.raises(ProtocolViolation, match="redirects are not followed"):
            channel.get(URL)

        assert "evil.example" not in entra.hosts

    def test_a_renewed_token_counts_as_a_second_request(self) -> None:
        with channel_to(Feed()) as (channel, entra):
            channel.get(URL)
            entra.revoke()
            channel.get(URL)

        assert (channel.requests, len(entra.tokens)) == (3, 2)

    def test_a_token_refused_twice_ends_in_an_auth_error(self) -> None:
        with (
            channel_to(lambda _: httpx.Response(401, text="no")) as (channel, _),
            pytest.raises(AuthError, match="401: no"),
        ):
            channel.get(URL)

    @pytest.mark.parametrize(
        "url",
        [
            "https://evil.example/api/data/v9.2/accounts",
            f"{ORG}/api/data/v9.1/accounts",
            f"{ROOT}../v9.1/accounts",
            f"{ROOT}accounts?$filter=name eq 'a'",
            f"{ROOT}accounts\r\nX-Evil: 1",
            f"{ROOT}accounts#top",
            "accounts",
        ],
    )
    def test_an_address_that_must_not_be_sent_is_not(self, url: str) -> None:
        feed = Feed()
        with channel_to(feed) as (channel, entra), pytest.raises(ProtocolViolation, match="leads out of"):
            channel.get(url)

        assert entra.hosts == []


class TestPages:
    def test_links_are_followed_to_the_end_with_the_same_wishes(self) -> None:
        feed = Feed(pages=4)
        with channel_to(feed) as (channel, _):
            pages = list(channel.pages(URL, track_changes=True))

        assert [json.loads(bytes(fetched.page.value[0]))["n"] for fetched in pages] == [1, 2, 3, 4]
        assert {fetched.server_date for fetched in pages} == {datetime(2015, 10, 21, 7, 28, tzinfo=UTC)}
        assert [fetched.size_bytes for fetched in pages] == feed.sent
        assert [request.headers["Prefer"] for request in feed.requests] == [
            'odata.track-changes,odata.maxpagesize=5000,odata.include-annotations="*"'
        ] * 4
        assert channel.requests == 4

    @pytest.mark.parametrize(
        "link",
        [
            "https://evil.example/api/data/v9.2/accounts?$skiptoken=2",
            "http://org.crm.dynamics.com/api/data/v9.2/accounts?$skiptoken=2",
            f"{ORG}/api/data/v9.1/accounts?$skiptoken=2",
            f"{ROOT}%2e%2e/accounts",
            "/api/data/v9.2/accounts?$skiptoken=2",
            "",
        ],
    )
    def test_a_link_that_leads_astray_is_never_asked(self, link: str) -> None:
        def astray(_: httpx.Request) -> httpx.Response:
            return httpx.Response(200, json={"value": [], "@odata.nextLink": link})

        with channel_to(astray) as (channel, entra), pytest.raises(ProtocolViolation):
            list(channel.pages(URL))

        assert channel.requests == 1
        assert set(entra.hosts) == {"org.crm.dynamics.com", LOGIN}

    def test_a_link_that_leads_back_is_a_violation_and_no_endless_loop(self) -> None:
        first, second = f"{URL}&$skiptoken=1", f"{URL}&$skiptoken=2"

        def circle(request: httpx.Request) -> httpx.Response:
            link = first if str(request.url).endswith("2") else second
            return httpx.Response(200, json={"value": [], "@odata.nextLink": link})

        with channel_to(circle) as (channel, _), pytest.raises(ProtocolViolation, match="already read"):
            list(channel.pages(first))

        assert channel.requests == 2

    def test_a_page_without_records_is_a_violation_and_not_the_end(self) -> None:
        feed = Feed()
        feed.queue = [httpx.Response(200, json={"ok": True})]
        with channel_to(feed) as (channel, _), pytest.raises(ProtocolViolation, match="no page of records"):
            list(channel.pages(URL))

    def test_log_records_name_the_entity_and_no_query(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, logger="igh_sync_core")
        with channel_to(Feed(pages=2)) as (channel, _):
            numbers(channel)

        records = [record for record in caplog.records if record.name.startswith("igh_sync_core")]
        assert [(record.message, vars(record)["entity"], vars(record)["rows"]) for record in records] == [
            ("page read", "accounts", 1)
        ] * 2
        assert not any("$select" in str(vars(record)) for record in records)


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


class TestRetries:
    @pytest.mark.parametrize(
        "trouble",
        [
            httpx.Response(429, json=BUSY),
            httpx.Response(500, json=SLOW),
            httpx.Response(502, text="<html>Bad gateway</html>"),
            httpx.Response(503),
            httpx.Response(504, text="<html>"),
            httpx.ConnectError("refused"),
            httpx.ReadTimeout("silence"),
            httpx.RemoteProtocolError("peer closed connection without sending complete message body"),
            httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip at all")),
        ],
        ids=["429", "sql", "502", "503", "504", "refused", "silence", "cut", "undecodable"],
    )
    def test_passing_trouble_is_tried_again(self, trouble: httpx.Response | Exception) -> None:
        feed, clock = Feed(pages=2), Time()
        feed.queue = [trouble]
        with channel_to(feed, pace=clock.pace()) as (channel, _):
            assert numbers(channel) == [1, 2]
            assert channel.requests == 3

        assert len(clock.sleeps) == 1
        assert 0.5 <= clock.sleeps[0] <= 2

    @pytest.mark.parametrize("status", [400, 403, 404, 410, 412, 413])
    def test_a_refusal_is_final(self, status: int) -> None:
        feed = Feed()
        feed.queue = [httpx.Response(status, json={"error": {"code": "0x80060888", "message": "no"}})]
        with channel_to(feed) as (channel, _), pytest.raises(RequestRejected) as caught:
            channel.get(URL)

        assert channel.requests == 1
        assert (caught.value.status, caught.value.code, caught.value.url) == (status, "0x80060888", f"{ROOT}accounts")

    def test_the_servers_wait_is_obeyed(self) -> None:
        feed, clock = Feed(), Time()
        feed.queue = [busy(Retry_After="27"), busy(Retry_After="0")]
        with channel_to(feed, pace=clock.pace()) as (channel, _):
            channel.get(URL)

        assert 27 <= clock.sleeps[0] <= 28
        assert 1 <= clock.sleeps[1] <= 2

    def test_waits_grow_and_tries_end(self) -> None:
        feed, clock = Feed(), Time()
        feed.queue = [httpx.Response(200, json={"value": []}), *(httpx.Response(503) for _ in range(20))]
        with channel_to(feed, pace=clock.pace(attempts=6)) as (channel, _):
            channel.get(URL)
            with pytest.raises(SourceUnavailable, match="503: empty reply"):
                channel.get(URL)

        assert channel.requests == 1 + 6
        for seconds, most in zip(clock.sleeps, (1, 2, 4, 8, 16), strict=True):
            assert most / 2 <= seconds <= most

    def test_time_ends_too(self) -> None:
        feed, clock = Feed(), Time()
        feed.queue = [httpx.Response(200, json={"value": []}), *(busy(Retry_After="120") for _ in range(20))]
        with channel_to(feed, pace=clock.pace(total_s=300)) as (channel, _):
            channel.get(URL)
            with pytest.raises(SourceUnavailable) as caught:
                channel.get(URL)

        assert caught.value.retry_after_s == 120
        assert channel.requests == 1 + 4
        assert 360 <= clock.now <= 366

    def test_a_wait_longer_than_all_patience_is_not_begun(self) -> None:
        feed, clock = Feed(), Time()
        feed.queue = [httpx.Response(200, json={"value": []}), busy(Retry_After="3600")]
        with channel_to(feed, pace=clock.pace()) as (channel, _):
            channel.get(URL)
            with pytest.raises(SourceUnavailable):
                channel.get(URL)

        assert clock.sleeps == []

    def test_a_host_that_never_answered_is_given_up_soon(self) -> None:
        feed, clock = Feed(), Time()
        feed.queue = [httpx.ConnectError("Name or service not known") for _ in range(20)]
        with (
            channel_to(feed, pace=clock.pace()) as (channel, _),
            pytest.raises(SourceUnavailable, match="cannot be reached"),
        ):
            channel.get(URL)

        assert channel.requests == 3

    def test_an_error_shows_neither_query_nor_token(self) -> None:
        def mirror(request: httpx.Request) -> httpx.Response:
            message = f"no {request.headers['Authorization']} at {request.url}"
            return httpx.Response(400, json={"error": {"code": "0x0", "message": message}})

        with channel_to(mirror) as (channel, _), pytest.raises(RequestRejected) as caught:
            channel.get(f"{ROOT}accounts?$filter=hidden")

        assert "hidden" not in str(caught.value) + caught.value.url
        assert "token-1" not in str(caught.value)


class TestPageSize:
    @pytest.mark.parametrize(
        "trouble", [httpx.Response(500, json=SLOW), httpx.ReadTimeout("silence")], ids=["sql", "silence"]
    )
    def test_a_page_that_took_too_long_is_asked_again_in_half(self, trouble: httpx.Response | Exception) -> None:
        feed = Feed(pages=2)
        feed.queue = [trouble, trouble]
        with channel_to(feed) as (channel, _):
            numbers(channel)

        assert feed.sizes == [5000, 2500, 1250, 1250]

    def test_other_trouble_leaves_it_alone(self) -> None:
        feed = Feed(pages=2)
        feed.queue = [httpx.Response(503), busy()]
        with channel_to(feed) as (channel, _):
            numbers(channel)

        assert feed.sizes == [5000] * 4

    def test_it_never_falls_below_a_useful_size(self) -> None:
        feed = Feed(pages=1)
        feed.queue = [httpx.Response(500, json=SLOW) for _ in range(9)]
        with channel_to(feed, pace=Time().pace(first_attempts=20, attempts=20)) as (channel, _):
            numbers(channel)

        assert feed.sizes[-1] == 50

    def test_it_grows_back_slowly_and_never_above_what_was_asked(self) -> None:
        feed = Feed(pages=80)
        feed.queue = [httpx.Response(500, json=SLOW), httpx.Response(500, json=SLOW)]
        with channel_to(feed, page_size=1_000) as (channel, _):
            numbers(channel)

        assert feed.sizes[:3] == [1000, 500, 250]
        assert feed.sizes[2:] == sorted(feed.sizes[2:])
        assert feed.sizes[9:12] == [250, 312, 312]
        assert feed.sizes[-1] == 1000

    def test_big_bodies_shrink_it_and_it_stays_where_they_fit(self) -> None:
        feed = Feed(pages=40)
        feed.bytes_per_row = 20
        with channel_to(feed, pace=Time().pace(body_bytes=20_000)) as (channel, _):
            numbers(channel)

        assert feed.sizes[:5] == [5000, 2500, 1250, 625, 625]
        assert feed.sizes[-1] == 976  # 1,220 would be too big again

    @pytest.mark.parametrize(("asked", "used"), [(9_999, 5_000), (500, 500), (0, 1)])
    def test_the_servers_limit_holds(self, asked: int, used: int) -> None:
        feed = Feed(pages=1)
        with channel_to(feed, page_size=asked) as (channel, _):
            numbers(channel)

        assert feed.sizes == [used]


class Crowd:
    """Measures how many requests are with the server at once."""

    def __init__(self, **headers: str) -> None:
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.inside = self.peak = 0
        self.refusals = 0
        self.together: threading.Barrier | None = None
        self._lock = threading.Lock()

    def __call__(self, _: httpx.Request) -> httpx.Response:
        with self._lock:
            self.inside += 1
            self.peak = max(self.peak, self.inside)
            refuse = self.refusals > 0
            self.refusals -= refuse
        if refuse and self.together:
            self.together.wait(5)
        time.sleep(0.02)
        with self._lock:
            self.inside -= 1
        return busy(Retry_After="0") if refuse else httpx.Response(200, headers=self.headers, json={"value": []})

    def rush(self, channel: Channel, *, requests: int = 60) -> int:
        """Peak when thirty threads ask at once."""
        self.peak = 0
        with ThreadPoolExecutor(30) as pool:
            list(pool.map(lambda _: channel.get(URL), range(requests)))
        return self.peak


class TestPacing:
    def test_no_more_than_eight_are_under_way_without_a_hint(self) -> None:
        crowd = Crowd()
        with channel_to(crowd, pace=Pace()) as (channel, _):
            assert crowd.rush(channel) == 8
            assert crowd.rush(channel, requests=150) == 8

    def test_a_low_hint_caps_and_a_high_one_raises_step_by_step(self) -> None:
        crowd = Crowd(x_ms_dop_hint="4")
        with channel_to(crowd, pace=Pace()) as (channel, _):
            channel.get(URL)
            assert crowd.rush(channel) == 4
            crowd.headers = {"x-ms-dop-hint": "20"}
            assert 4 < crowd.rush(channel) < 12
            assert 12 <= crowd.rush(channel, requests=150) <= 20

    @pytest.mark.parametrize("hint", ["", "many", "-3", "0"])
    def test_a_senseless_hint_does_no_harm(self, hint: str) -> None:
        crowd = Crowd(x_ms_dop_hint=hint)
        with channel_to(crowd, pace=Pace()) as (channel, _):
            channel.get(URL)
            assert 1 <= crowd.rush(channel, requests=20) <= 8

    def test_no_hint_lifts_it_over_the_servers_limit(self) -> None:
        pace = Pace(width=500)
        crowd = Crowd(x_ms_dop_hint="999")
        with channel_to(crowd, pace=pace) as (channel, _), ThreadPoolExecutor(70) as pool:
            list(pool.map(lambda _: channel.get(URL), range(140)))

        assert 30 < crowd.peak <= 52

    def test_throttling_halves_the_width_once_for_all_that_were_under_way(self) -> None:
        crowd = Crowd()
        with channel_to(crowd, pace=Time().pace()) as (channel, _):
            crowd.rush(channel, requests=8)
            crowd.refusals, crowd.together = 4, threading.Barrier(4)
            crowd.rush(channel, requests=4)

            assert crowd.rush(channel, requests=9) == 4

    def test_everybody_rests_until_the_server_allows(self) -> None:
        feed, clock = Feed(), Time()
        feed.queue = [busy(Retry_After="30")]
        entra = Entra(feed)
        with Client(
            config(), transport=httpx.MockTransport(entra), pace=clock.pace(attempts=1, first_attempts=1)
        ) as client:
            with pytest.raises(SourceUnavailable):
                client.channel("accounts").get(URL)
            client.channel("contacts").get(f"{ROOT}contacts")

        assert clock.sleeps == [30.0]


class TestStreams:
    def test_it_comes_in_pieces_with_the_media_type_asked_for(self) -> None:
        feed = Feed()
        feed.queue = [httpx.Response(503), httpx.Response(200, stream=Pieces([b"<edmx:", b"Edmx/>"]))]
        with channel_to(feed) as (channel, _), channel.stream(f"{ROOT}$metadata", accept="application/xml") as pieces:
            assert list(pieces) == [b"<edmx:", b"Edmx/>"]

        assert feed.requests[-1].headers["Accept"] == "application/xml"
        assert channel.requests == 2

    def test_one_that_is_cut_later_raises_and_frees_its_place(self) -> None:
        feed = Feed()
        feed.queue = [httpx.Response(200, stream=Pieces([b"<edmx:", httpx.ReadError("cut")]))]
        with channel_to(feed, pace=Time().pace(width=1)) as (channel, _):
            with (
                pytest.raises(SourceUnavailable, match="no whole answer"),
                channel.stream(f"{ROOT}$metadata", accept="application/xml") as pieces,
            ):
                list(pieces)

            assert channel.get(URL).status == 200

    def test_one_left_unread_frees_its_place(self) -> None:
        feed = Feed()
        with channel_to(feed, pace=Time().pace(width=1)) as (channel, _):
            with channel.stream(f"{ROOT}$metadata", accept="application/xml") as pieces:
                next(pieces)

            assert channel.get(URL).status == 200

    def test_a_refusal_is_raised_on_opening(self) -> None:
        feed = Feed()
        feed.queue = [httpx.Response(403, json={"error": {"code": "0x80072560", "message": "no member"}})]
        with (
            channel_to(feed) as (channel, _),
            pytest.raises(AuthError, match="add an application user"),
            channel.stream(f"{ROOT}$metadata", accept="application/xml"),
        ):
            pytest.fail("nothing to read")


class Pieces(httpx.SyncByteStream):
    """A body that comes in given pieces, with a pause before each, and may break off."""

    def __init__(self, pieces: Sequence[bytes | Exception], *, seconds: float = 0.0) -> None:
        self._pieces = pieces
        self._seconds = seconds

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            time.sleep(self._seconds)
            if isinstance(piece, Exception):
                raise piece
            yield piece


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
