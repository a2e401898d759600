import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igh_sync_core.errors import AuthError, ProtocolViolation, RequestRejected, SourceError, SourceUnavailable
from igh_sync_core.webapi.replies import decipher, parse_retry_after

ROOT = "https://org.crm.dynamics.com/api/data/v9.2/"
ID = "7d577253-3ef0-4a0a-bb7f-8335c2596e70"


def verdict(status: int, body: object = b"", **headers: str) -> SourceError | None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        decipher(status, headers, content, f"{ROOT}accounts?$filter=name eq 'secret'")
    except SourceError as error:
        return error
    return None


def fault(code: str, message: str = "m") -> dict[str, object]:
    return {"error": {"code": code, "message": message}}


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
            (500, "0x0", SourceUnavailable),
            (500, "", SourceUnavailable),
            (400, "0x0", RequestRejected),
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

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_a_redirect_names_the_remedy(self, status: int) -> None:
        error = verdict(status)

        assert type(error) is ProtocolViolation
        assert "redirects are not followed; set DATAVERSE_API_URL" in str(error)

    @pytest.mark.parametrize("status", [300, 304])
    def test_what_is_no_redirect_is_not_called_one(self, status: int) -> None:
        error = verdict(status)

        assert type(error) is ProtocolViolation
        assert "redirect" not in str(error)

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

    @pytest.mark.parametrize("privilege", ["prvReadEntity", "prvReadOptionSet"])
    def test_a_right_to_definitions_is_not_taken_for_one_to_a_table(self, privilege: str) -> None:
        error = verdict(403, fault("0x80040220", f"SecLib::CheckPrivilege failed. PrivilegeName: {privilege}"))
        remedy = str(error).partition("; ")[2]

        assert isinstance(error, RequestRejected)
        assert "organization-level read on this table" in remedy
        assert privilege in remedy
        assert "customizations" in remedy

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

    def test_every_recorded_error_gets_its_class(self, captures: Path) -> None:
        entries = json.loads((captures / "errors" / "dataverse_errors.json").read_text())
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
