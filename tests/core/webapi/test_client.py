import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest
from wires import LOGIN, ORG, ROOT, URL, Feed, Pieces, Time, channel_to, numbers

from igh_sync_core.errors import AuthError, ProtocolViolation

DOCUMENT = f"{ROOT}$metadata"


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


class TestReading:
    def test_it_comes_in_pieces_with_the_media_type_asked_for(self) -> None:
        feed = Feed()
        feed.queue = [httpx.Response(503), httpx.Response(200, stream=Pieces([b"<edmx:", b"Edmx/>"]))]
        with channel_to(feed) as (channel, _):
            assert channel.read(DOCUMENT, list, accept="application/xml") == [b"<edmx:", b"Edmx/>"]

        assert feed.requests[-1].headers["Accept"] == "application/xml"
        assert channel.requests == 2

    def test_one_that_is_cut_in_the_middle_is_read_again_from_its_beginning(self) -> None:
        feed = Feed()
        feed.queue = [
            httpx.Response(200, stream=Pieces([b"<edmx:", httpx.ReadError("cut")])),
            httpx.Response(200, stream=Pieces([b"<edmx:", b"Edmx/>"])),
        ]
        with channel_to(feed, pace=Time().pace(width=1)) as (channel, _):
            assert channel.read(DOCUMENT, b"".join, accept="application/xml") == b"<edmx:Edmx/>"

    def test_one_that_cannot_be_parsed_is_an_error_at_once_and_frees_its_place(self) -> None:
        def parse(pieces: Iterator[bytes]) -> None:
            next(pieces)
            raise ProtocolViolation(DOCUMENT)

        feed = Feed()
        with channel_to(feed, pace=Time().pace(width=1)) as (channel, _):
            with pytest.raises(ProtocolViolation):
                channel.read(DOCUMENT, parse, accept="application/xml")

            assert channel.get(URL).status == 200
            assert channel.requests == 2

    def test_a_refusal_is_raised_before_anything_is_parsed(self) -> None:
        feed = Feed()
        feed.queue = [httpx.Response(403, json={"error": {"code": "0x80072560", "message": "no member"}})]
        with channel_to(feed) as (channel, _), pytest.raises(AuthError, match="add an application user"):
            channel.read(DOCUMENT, lambda _: pytest.fail("nothing to read"), accept="application/xml")
