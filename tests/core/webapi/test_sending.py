import gc
import gzip

import httpx
import pytest
from wires import BUSY, ROOT, SLOW, URL, Entra, Feed, Time, busy, channel_to, config, numbers

from igh_sync_core.errors import ProtocolViolation, RequestRejected, SourceUnavailable
from igh_sync_core.webapi.client import Client


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

    @pytest.mark.parametrize("length", [0, 1, 22, 24, 25, 26, 27, 30, 35, 45, 46, 47])
    @pytest.mark.parametrize("is_zipped", [False, True], ids=["plain", "gzip"])
    def test_a_body_that_ends_before_its_time_in_good_order_is_asked_for_again(
        self, length: int, *, is_zipped: bool
    ) -> None:
        whole = b'{"value":[{"n":1,"t":true},{"n":-2.5e7,"s":"\\u00e9"}]}'
        cut = (gzip.compress(whole) if is_zipped else whole)[:length]
        headers = {"Content-Encoding": "gzip"} if is_zipped else {}
        feed = Feed(pages=1)
        feed.queue = [httpx.Response(200, headers=headers, stream=httpx.ByteStream(cut)) for _ in range(2)]
        with channel_to(feed) as (channel, _):
            assert numbers(channel) == [1]
            feed.queue = [httpx.Response(200, headers=headers, stream=httpx.ByteStream(cut))]
            assert channel.get(URL).body.endswith(b"}")

        assert channel.requests == 3 + 2

    @pytest.mark.parametrize("body", [b"<html>maintenance</html>", b'{"value":[{]}', b'{"ok":true}', b"[]"])
    def test_a_whole_body_that_is_no_page_is_not_asked_for_again(self, body: bytes) -> None:
        feed = Feed(pages=1)
        feed.queue = [httpx.Response(200, content=body)]
        with channel_to(feed) as (channel, _), pytest.raises(ProtocolViolation, match="no page of records"):
            numbers(channel)

        assert channel.requests == 1

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


def test_a_reply_that_was_read_is_gone_at_once_and_not_when_rings_are_looked_for() -> None:
    with channel_to(Feed()) as (channel, _):
        channel.get(URL)
        gc.collect()
        before = replies()
        gc.disable()
        try:
            for _ in range(3):
                channel.get(URL)
            assert replies() <= before
        finally:
            gc.enable()


def replies() -> int:
    return sum(isinstance(one, httpx.Response) for one in gc.get_objects())


def test_the_query_goes_out_byte_for_byte_and_httpx_copies_none_of_it() -> None:
    entra, seen = Entra(), []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return entra(request)

    address = f"{ROOT}accounts?$filter=name eq 'a%2Fb'&$skiptoken=%253cx".replace(" ", "%20")
    with Client(config(), transport=httpx.MockTransport(handle)) as client:
        client.channel("accounts").get(address)

    assert str(seen[-1].url) == f"{ROOT}accounts"
    assert seen[-1].url.query == b""
    assert seen[-1].url.raw_path == address.removeprefix("https://org.crm.dynamics.com").encode()
