import json
import os
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igh_sync_core.errors import AuthError, ProtocolViolation, RequestRejected, SourceError, SourceUnavailable
from igh_sync_core.odata import (
    MAX_CONDITIONS,
    MAX_URL,
    Challenge,
    date_literal,
    datetime_literal,
    decipher,
    entity_url,
    guid_literal,
    id_batches,
    in_filter,
    parse_challenge,
    parse_page,
    prefer,
    string_literal,
)
from igh_sync_core.replies import parse_retry_after

ROOT = "https://org.crm.dynamics.com/api/data/v9.2/"
ID = "7d577253-3ef0-4a0a-bb7f-8335c2596e70"
CAPTURES = os.environ.get("DATAVERSE_CAPTURES", "")
needs_captures = pytest.mark.skipif(not CAPTURES, reason="DATAVERSE_CAPTURES is not set")


def verdict(status: int, body: object = b"", **headers: str) -> SourceError | None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        decipher(status, headers, content, f"{ROOT}accounts?$filter=name eq 'secret'")
    except SourceError as error:
        return error
    return None


def fault(code: str, message: str = "m") -> dict[str, object]:
    return {"error": {"code": code, "message": message}}


class TestPage:
    def test_records_stay_bytes_and_key_order_does_not_matter(self) -> None:
        record = b'{"a": 1.2300000000, "b":"\\u0000"}'
        links = b'"@odata.nextLink":"n","@odata.deltaLink":"d"'

        first = parse_page(b'{"value":[' + record + b"]," + links + b"}")
        second = parse_page(b'\xef\xbb\xbf{"@odata.context":"c",' + links + b',"value":[' + record + b"]}")

        assert [bytes(raw) for raw in first.value] == [bytes(raw) for raw in second.value] == [record]
        assert (first.next_link, first.delta_link, first.context) == ("n", "d", "")
        assert (second.next_link, second.delta_link, second.context) == ("n", "d", "c")

    @pytest.mark.parametrize(
        "body",
        [b"", b"<html>", b"[]", b"{}", b'{"value":null}', b'{"value":{}}', b'{"value":[', b'{"value":["\xff"'],
    )
    def test_anything_else_is_a_violation(self, body: bytes) -> None:
        with pytest.raises(ProtocolViolation, match="no page of records"):
            parse_page(body)

    @needs_captures
    def test_a_recorded_page_is_understood(self) -> None:
        body = (Path(CAPTURES) / "pages" / "amp_contacts-read.json").read_bytes()

        page = parse_page(body)

        assert len(page.value) == 2
        assert page.metadata_version == "6012567"
        assert page.next_link is not None
        assert page.next_link.encode() in body
        assert page.delta_link is None

    @needs_captures
    def test_recorded_deltas_are_told_from_full_reads(self) -> None:
        stem = "use-change-tracking-synchronize-data-external-systems"
        first, second = (parse_page((Path(CAPTURES) / "delta" / f"{stem}_{n}.json").read_bytes()) for n in (0, 1))

        assert (first.is_delta, second.is_delta) == (False, True)
        assert first.delta_link is not None
        assert first.delta_link.endswith("$deltatoken=919042%2108%2f22%2f2017%2008%3a10%3a44")


class TestUrls:
    def test_the_whole_address_byte_for_byte(self) -> None:
        time = datetime(2021, 4, 28, 15, 19, 30, tzinfo=UTC)

        url = entity_url(
            ROOT,
            "accounts",
            select=("accountid", "name"),
            where=f"modifiedon ge {datetime_literal(time)} and name ne 'A&B+C #1'",
            order_by=("modifiedon asc", "accountid asc"),
            top=5,
        )

        assert url == (
            "https://org.crm.dynamics.com/api/data/v9.2/accounts?$select=accountid,name"
            "&$filter=modifiedon%20ge%202021-04-28T15:19:30Z%20and%20name%20ne%20'A%26B%2BC%20%231'"
            "&$orderby=modifiedon%20asc,accountid%20asc&$top=5"
        )

    def test_a_query_without_options_has_no_question_mark(self) -> None:
        assert entity_url(ROOT, "WhoAmI") == f"{ROOT}WhoAmI"

    def test_in_with_a_lookup_names_the_column_and_not_the_property(self) -> None:
        url = entity_url(ROOT, "accounts", where=in_filter("_primarycontactid_value", [ID, ID]))

        assert url == (
            f"{ROOT}accounts?$filter=Microsoft.Dynamics.CRM.In(PropertyName='primarycontactid',"
            f"PropertyValues=%5B'{ID}','{ID}'%5D)"
        )

    @pytest.mark.parametrize(("column", "ids"), [("a b", [ID]), ("", []), ("_x_value", ["it's"]), ("x", ['"'])])
    def test_in_takes_names_and_plain_ids_only(self, column: str, ids: list[str]) -> None:
        with pytest.raises(ValueError, match=r"no column name|quote"):
            in_filter(column, ids)

    @given(st.text(), st.lists(st.sampled_from(["name", "createdon desc", "_ownerid_value"]), max_size=3))
    def test_whatever_is_asked_arrives(self, text: str, order_by: list[str]) -> None:
        where = f"name eq {string_literal(text.encode('utf-8', 'ignore').decode())}"

        url = entity_url(ROOT, "accounts", where=where, order_by=order_by)

        wanted = [("$filter", where)] + ([("$orderby", ",".join(order_by))] if order_by else [])
        assert parse_qsl(urlsplit(url).query, strict_parsing=True) == wanted
        assert url.isascii()
        assert " " not in url


class TestLiterals:
    def test_each_kind(self) -> None:
        paris = datetime(2021, 4, 28, 17, 19, 30, 999_999, tzinfo=timezone(timedelta(hours=2)))

        assert datetime_literal(paris) == "2021-04-28T15:19:30Z"
        assert date_literal(date(1990, 1, 31)) == "1990-01-31"
        assert string_literal("O'Neill") == "'O''Neill'"
        assert guid_literal(ID.upper()) == ID

    def test_a_time_without_zone_and_a_false_guid_are_refused(self) -> None:
        with pytest.raises(ValueError, match="without zone"):
            datetime_literal(datetime(2021, 4, 28))  # noqa: DTZ001 - the fault under test
        with pytest.raises(ValueError, match="no GUID"):
            guid_literal(f"{ID} or 1 eq 1")


class TestBatches:
    def test_nothing_asked_gives_no_batch(self) -> None:
        assert list(id_batches([], url_room=MAX_URL)) == []

    @given(st.integers(0, 1300), st.integers(39, 25_000))
    def test_batches_keep_all_ids_and_fill_the_room(self, count: int, room: int) -> None:
        ids = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(count)]

        batches = list(id_batches(ids, url_room=room))

        limit = min(MAX_CONDITIONS, room // 39)
        assert [value for batch in batches for value in batch] == ids
        assert [len(batch) for batch in batches[:-1]] == [limit] * (len(batches) - 1)

    def test_a_full_batch_fits_the_address(self) -> None:
        columns = [f"column_{n:03}" for n in range(1_500)]
        empty = entity_url(ROOT, "accounts", select=columns, where=in_filter("accountid", []))
        ids = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(2_000)]

        batches = list(id_batches(ids, url_room=MAX_URL - len(empty)))

        longest = max(
            len(entity_url(ROOT, "accounts", select=columns, where=in_filter("accountid", b))) for b in batches
        )
        assert MAX_URL - 40 < longest <= MAX_URL

    def test_no_room_is_an_error_and_not_an_endless_loop(self) -> None:
        with pytest.raises(ValueError, match="no room"):
            list(id_batches([ID], url_room=38))


class TestPrefer:
    def test_the_items_in_the_vendors_order(self) -> None:
        everything = 'odata.track-changes,odata.maxpagesize=5000,odata.include-annotations="*"'

        assert prefer(page_size=5_000, track_changes=True) == everything
        assert prefer() == 'odata.include-annotations="*"'
        assert prefer(annotations=False) == ""


class TestDecipher:
    @pytest.mark.parametrize("status", [200, 201, 204, 206])
    def test_success_says_nothing(self, status: int) -> None:
        assert verdict(status, b"not looked at") is None

    @pytest.mark.parametrize(
        ("status", "code", "kind"),
        [
            (400, "0x80060888", RequestRejected),
            (400, "0x80044352", RequestRejected),
            (403, "0x80040220", RequestRejected),
            (403, "0x80072560", AuthError),
            (403, "0x80042F09", AuthError),
            (403, "0x80095ffc", AuthError),
            (404, "0x80040217", RequestRejected),
            (410, "0x80044352", RequestRejected),
            (413, "", RequestRejected),
            (429, "0x80072322", SourceUnavailable),
            (429, "429", SourceUnavailable),
            (500, "0x80040216", SourceUnavailable),
            (500, "0x80044150", SourceUnavailable),
            (500, "0x80044151", SourceUnavailable),
            (500, "0x80040265", RequestRejected),
            (501, "", RequestRejected),
            (503, "0x8004A001", SourceUnavailable),
        ],
    )
    def test_status_and_code_decide(self, status: int, code: str, kind: type[SourceError]) -> None:
        error = verdict(status, fault(code))

        assert type(error) is kind
        assert (error.status, error.code, error.url) == (status, code.lower(), f"{ROOT}accounts")

    @pytest.mark.parametrize(
        "body", [b"", b"<html><h1>Bad &amp; gone</h1></html>", b'{"Message":"x"}', b"\xff\xfe", b"[]"]
    )
    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
    def test_a_gateways_reply_without_odata_can_be_retried(self, status: int, body: bytes) -> None:
        error = verdict(status, body)

        assert isinstance(error, SourceUnavailable)
        assert error.code == ""
        assert "<" not in str(error)

    def test_a_refused_token_is_an_auth_error_though_its_body_is_no_json(self) -> None:
        error = verdict(401, b"HTTP Error 401 - Unauthorized: Access is denied")

        assert isinstance(error, AuthError)
        assert str(error).startswith("401: HTTP Error 401 - Unauthorized: Access is denied; check client id")

    def test_a_missing_application_user_names_the_remedy(self) -> None:
        error = verdict(403, fault("0x80072560", "The user is not a member of the organization."))

        assert "403 0x80072560: The user is not a member of the organization.; add an application user" in str(error)

    def test_a_redirect_is_not_followed(self) -> None:
        assert isinstance(verdict(302, b"", location="https://evil.example/"), ProtocolViolation)

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({"Retry-After": "27"}, 27.0),
            ({"retry-after": "0"}, 0.0),
            ({"Retry-After": "1.5"}, 1.5),
            ({"Date": "Wed, 21 Oct 2015 07:28:00 GMT", "Retry-After": "Wed, 21 Oct 2015 07:30:00 GMT"}, 120.0),
            ({"Date": "Wed, 21 Oct 2015 07:28:00 GMT", "Retry-After": "Wed, 21 Oct 2015 07:20:00 GMT"}, 0.0),
            ({"Retry-After": "soon"}, None),
            ({"Retry-After": "-5"}, None),
            ({}, None),
        ],
    )
    def test_the_wait_is_what_the_server_asked(self, headers: dict[str, str], seconds: float | None) -> None:
        error = verdict(429, fault("0x80072322"), **headers)

        assert error is not None
        assert error.retry_after_s == seconds == parse_retry_after(headers)

    def test_a_message_keeps_ids_and_loses_queries_and_tokens(self) -> None:
        message = (
            f"account With Id = {ID} at '{ROOT}accounts?$filter=name eq 'top secret'&$skiptoken=<cookie page=\"2\" />' "
            f"and {ROOT}contacts?$filter=hidden with Bearer abc.def or eyJhbGci.eyJzdWIi.c2ln failed"
        )

        shown = str(verdict(404, fault("0x80040217", message)))

        assert ID in shown
        assert f"{ROOT}contacts with [token] or [token] failed" in shown
        assert not any(word in shown for word in ("secret", "cookie", "hidden", "abc.def", "eyJ"))

    @given(st.binary(max_size=200), st.integers(300, 599))
    def test_no_body_breaks_it_and_messages_stay_short(self, body: bytes, status: int) -> None:
        error = verdict(status, body)

        assert error is not None
        assert len(str(error)) < 450

    @needs_captures
    def test_every_recorded_error_gets_its_class(self) -> None:
        entries = json.loads((Path(CAPTURES) / "errors" / "dataverse_errors.json").read_text())
        kinds = {401: AuthError, 429: SourceUnavailable}

        for entry in entries:
            status, body = entry["status"] or 400, entry["body"]
            code = body["error"]["code"] if body else ""
            error = verdict(status, body or b"", **entry["headers"])
            wanted = AuthError if code == "0x80072560" else kinds.get(status, RequestRejected)

            assert type(error) is wanted, entry
            assert error.code == code
            assert "$skiptoken" not in str(error)
            if body:
                assert " ".join(body["error"]["message"].split())[:30] in str(error)
            if "Retry-After" in entry["headers"]:
                assert error.retry_after_s == float(entry["headers"]["Retry-After"])


class TestChallenge:
    TENANT = "0f6d1cf4-2c14-4d3e-9a32-5b8c1d7a9e10"

    @pytest.mark.parametrize(
        "header",
        [
            "Bearer authorization_uri=https://login.microsoftonline.com/{t}/oauth2/authorize, resource_id=https://org/",
            'Bearer authorization_uri="https://login.microsoftonline.com/{t}/oauth2/authorize", resource_id="https://org/"',
            "bearer AUTHORIZATION_URI = https://Login.MicrosoftOnline.com/{t}/oauth2/v2.0/authorize",
            "Bearer resource_id=https://org/,authorization_uri=https://login.microsoftonline.com/{t}",
            "Negotiate, Bearer authorization_uri=https://login.microsoftonline.com/{t}/",
        ],
    )
    def test_every_known_spelling_is_read(self, header: str) -> None:
        challenge = parse_challenge(header.format(t=self.TENANT))

        assert challenge == Challenge("login.microsoftonline.com", self.TENANT)

    def test_a_port_stays_with_the_host(self) -> None:
        header = "Bearer authorization_uri=https://localhost:4443/contoso.com/oauth2/authorize, resource_id=x"

        assert parse_challenge(header) == Challenge("localhost:4443", "contoso.com")

    @pytest.mark.parametrize(
        "header",
        [
            "",
            "Basic realm=x",
            "Bearer",
            "Bearer authorization_uri=http://login.microsoftonline.com/t/oauth2/authorize",
            "Bearer authorization_uri=https://login.microsoftonline.com/",
        ],
    )
    def test_anything_else_is_no_dataverse_login(self, header: str) -> None:
        with pytest.raises(AuthError, match="no login that Dataverse uses"):
            parse_challenge(header)
