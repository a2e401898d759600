"""What a reply means: nothing to say, or the one typed error that says whose fault it is and what to do.

Pure: status, headers and body in, verdict out. A body may be anything, since gateways answer in HTML or not at all.
Source: https://learn.microsoft.com/power-apps/developer/data-platform/webapi/compose-http-requests-handle-errors
"""

import html
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus

import msgspec

from igh_sync_core.errors import AuthError, ProtocolViolation, RequestRejected, SourceError, SourceUnavailable

SQL_TIMEOUT = "0x80044151"
"""The query took too long; a smaller page may not."""

_MESSAGE_CHARACTERS = 300

_BUSY_STATUSES = {408, 429, 502, 503, 504}
_BUSY_CODES = {
    "0x80040216",  # unexpected, passes after a schema change
    "0x80044150",  # SQL error
    SQL_TIMEOUT,
    "0x80072321",
    "0x80072322",
    "0x80072326",  # service protection limits
    "0x80072323",
    "0x80072324",
    "0x8005f103",
    "0x8004a001",  # pressure on the database
}
_NO_CODES = {"", "0x0"}
_REDIRECTS = {301, 302, 303, 307, 308}
_LOGIN_REMEDIES = {
    "0x80072560": "add an application user with this client id to the environment and give it a security role",
    "0x80042f09": "give the application user a security role with read access to the tables",
    "0x80095ffc": "have the environment's policy allow this application",
}
_REFUSED_TOKEN = "check client id, secret and scope, and that the application user is enabled"  # noqa: S105 - a remedy
_REMEDIES = {
    "0x80040220": "give the application user's role organization-level read on this table; for prvReadEntity, "
    "prvReadAttribute, prvReadRelationship or prvReadOptionSet on that part of the customizations, which is no table",
}

_TAGS = re.compile(r"<(style|script)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_QUOTED_QUERY = re.compile(r"'(https?://[^\s'?]*)\?.*'(?=[\s.,;)]|$)", re.DOTALL)
_QUERY = re.compile(r"(https?://[^\s'\"?]*)\?\S*")
_TOKENS = re.compile(r"\bBearer\s+\S+|\beyJ[\w-]+(?:\.[\w-]*)*", re.IGNORECASE)


class _Fault(msgspec.Struct):
    code: str | int = ""
    message: str = ""


class _FaultBody(msgspec.Struct):
    error: _Fault


_FAULT = msgspec.json.Decoder(_FaultBody)


def decipher(status: int, headers: Mapping[str, str], body: bytes, url: str) -> None:
    """Judge a reply; returns for 2xx and raises for everything else.

    Args:
        status: HTTP status.
        headers: Any case of names.
        body: Whatever came, decoded from its content encoding.
        url: Address asked; errors carry it without its query.

    Raises:
        AuthError: 401, or a 403 that says this application may not use the environment at all.
        SourceUnavailable: Busy, down or timed out; ``retry_after_s`` as the server asked.
        ProtocolViolation: A redirect, which is not followed, or another status below 400.
        RequestRejected: Everything else. ``code`` is in lower case, "" where the reply holds none.
    """
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return
    code, text = _read_fault(body)
    message = f"{status} {code}: {text}" if code else f"{status}: {text}"
    kind, remedy = _judge(status, code)
    raise kind(
        f"{message}; {remedy}" if remedy else message,
        status=status,
        code=code,
        url=url.partition("?")[0],
        retry_after_s=parse_retry_after(headers),
    )


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the server asks to wait, never negative; None where it does not say or says nonsense.

    A date is measured against the server's own ``Date``, so a wrong local clock does not matter.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    value = lowered.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value):
        return float(value)
    until = parse_http_date(value)
    if until is None:
        return None
    now = parse_http_date(lowered.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


@lru_cache(maxsize=64)  # the replies of a second have one date
def parse_http_date(value: str) -> datetime | None:
    """An HTTP date as an aware time in UTC; None where it is none."""
    try:
        found = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def redact(text: str) -> str:
    """The first 300 characters of a server's message on one line, without queries and tokens; ids stay."""
    cut = _QUERY.sub(r"\1", _QUOTED_QUERY.sub(r"'\1'", text))
    return " ".join(_TOKENS.sub("[token]", cut).split())[:_MESSAGE_CHARACTERS]


def _judge(status: int, code: str) -> tuple[type[SourceError], str]:
    """Class of the error and what to do about it."""
    if status == HTTPStatus.UNAUTHORIZED:
        return AuthError, _REFUSED_TOKEN
    if status == HTTPStatus.FORBIDDEN and code in _LOGIN_REMEDIES:
        return AuthError, _LOGIN_REMEDIES[code]
    if status in _BUSY_STATUSES or (status == HTTPStatus.INTERNAL_SERVER_ERROR and code in _NO_CODES | _BUSY_CODES):
        return SourceUnavailable, ""
    if status < HTTPStatus.BAD_REQUEST:
        told = "redirects are not followed; set DATAVERSE_API_URL to the final address"
        return ProtocolViolation, told if status in _REDIRECTS else "no answer to what was asked"
    return RequestRejected, _REMEDIES.get(code, "")


def _read_fault(body: bytes) -> tuple[str, str]:
    """OData code in lower case, and message; code "" for a body of any other kind."""
    try:
        fault = _FAULT.decode(body.removeprefix(b"\xef\xbb\xbf")).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = html.unescape(_TAGS.sub(" ", body[:20_000].decode("utf-8", "replace")))
        return "", redact(text) or "empty reply"
    return str(fault.code).lower(), redact(fault.message)
