"""Positions in a result, as the links that the server hands out carry them.

A *cookie* names the last row of a page by the values of the order columns and the key, so it stays right when rows
come and go between two pages. A *delta token* is ``<version>!<date>``. Both are parsed strictly: a client that
re-encodes a link is refused.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape, unescape
from typing import NamedTuple
from urllib.parse import quote, unquote

from igh_sync_core.sandbox.replies import refuse

OUTER = re.compile(r'<cookie pagenumber="(\d+)" pagingcookie="([^"]*)" istracking="(True|False)" />')
INNER = re.compile(r'<cookie page="\d+">((?:<\w+ [^<>]* />)+)</cookie>')
PART = re.compile(r'<(\w+) (?:last="([^"]*)" first="[^"]*"|lastnull="1" firstnull="1") />')
ISSUED_FORM = "%m/%d/%Y %H:%M:%S"


class Place(NamedTuple):
    """Value of one order column in the first and last row of a page; None for null."""

    name: str
    last: str | None
    first: str | None


class Cookie(NamedTuple):
    """Where the next page starts."""

    page: int
    places: tuple[Place, ...]
    is_tracking: bool = False

    @property
    def last(self) -> tuple[str | None, ...]:
        """Values of the order columns in the last row already given."""
        return tuple(place.last for place in self.places)


class DeltaToken(NamedTuple):
    """State of the database that a client already has."""

    version: int
    issued: datetime


def bake(cookie: Cookie) -> str:
    """*cookie* as the value of ``$skiptoken`` in a link: the outer XML encoded once, the inner one twice."""
    inner = "".join(_part(place) for place in cookie.places)
    inner = _quote_lower(f'<cookie page="{cookie.page - 1}">{inner}</cookie>')
    outer = f'<cookie pagenumber="{cookie.page}" pagingcookie="{inner}" istracking="{cookie.is_tracking}" />'
    return quote(outer, safe="/=")


def _part(place: Place) -> str:
    if place.last is None:
        return f'<{place.name} lastnull="1" firstnull="1" />'
    return f'<{place.name} last="{escape(place.last)}" first="{escape(place.first or "")}" />'


def _quote_lower(text: str) -> str:
    return re.sub("%..", lambda found: found[0].lower(), quote(text, safe=""))


def read_cookie(text: str) -> Cookie:
    """The cookie in a ``$skiptoken`` that was decoded once.

    Raises:
        Refusal: 400 "Invalid XML.", as for a link that was encoded again on its way.
    """
    outer = OUTER.fullmatch(text)
    inner = INNER.fullmatch(unquote(outer[2])) if outer else None
    if outer is None or inner is None:
        refuse("Invalid XML.", "0x80040201", status=400)
    places = tuple(Place(name, _value(last), None) for name, last in PART.findall(inner[1]))
    return Cookie(int(outer[1]), places, outer[3] == "True")


def _value(last: str) -> str | None:
    return unescape(last) if last else None


def check_order(cookie: Cookie, names: Sequence[str]) -> None:
    """Refuse a cookie that was made for other order columns."""
    if [place.name for place in cookie.places] != list(names):
        refuse("Order by columns do not match those in paging cookie.", "0x80041129")


def write_token(token: DeltaToken) -> str:
    """*token* as the value of ``$deltatoken`` in a link."""
    return _quote_lower(f"{token.version}!{token.issued.strftime(ISSUED_FORM)}")


def read_token(text: str) -> DeltaToken:
    """The token in a ``$deltatoken`` that was decoded once.

    Raises:
        Refusal: 400, no token of this server.
    """
    version, _, issued = text.partition("!")
    try:
        return DeltaToken(int(version), datetime.strptime(issued, ISSUED_FORM).replace(tzinfo=UTC))
    except ValueError:
        refuse("The delta token is invalid.", "0x80040203")
