"""Decode metadata replies with types; every fault becomes a ProtocolViolation that names the reply.

Metadata is never paged, so a next link means the reply is not whole, and that is an error (law 7).
Source: https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query-metadata-web-api
"""

import re
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct
from msgspec.json import Decoder

from igh_sync_core.errors import ProtocolViolation, SchemaError

T = TypeVar("T")

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class _Listing(Struct, frozen=True):
    """The envelope of a collection."""

    value: tuple[Raw, ...]
    next_link: str | None = msgspec.field(default=None, name="@odata.nextLink")


# Decoders are made while modules are imported: where two threads are the first to decode a type, msgspec reads what the
# other one has half prepared, and the process dies. pyproject.toml bans the functions that prepare on first use.
_LISTING = Decoder(_Listing)


def decode_item(body: bytes | Raw, item: Decoder[T], *, what: str) -> T:
    """Decode one object.

    Args:
        body: UTF-8 JSON.
        item: Decoder of the struct that it must fit; members it does not declare are ignored.
        what: Name of the reply for the error text.

    Raises:
        ProtocolViolation: Not JSON, or not of this shape.
    """
    try:
        return item.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        msg = f"{what}: {error}"
        raise ProtocolViolation(msg) from error


def decode_items(body: bytes, item: Decoder[T], *, what: str) -> tuple[T, ...]:
    """Decode the members of a collection reply, in its order.

    Raises:
        ProtocolViolation: Not JSON, no ``value``, a member of another shape, or a next link.
    """
    listing = decode_item(body, _LISTING, what=what)
    if listing.next_link is not None:
        msg = f"{what}: the reply is paged, which metadata never is, so it is not complete"
        raise ProtocolViolation(msg)
    return tuple(decode_item(raw, item, what=what) for raw in listing.value)


def is_identifier(name: str) -> bool:
    """Whether *name* may become part of a URL or of the database."""
    return _IDENTIFIER.fullmatch(name) is not None


def entity_url(logical_name: str) -> str:
    """Address of one table's definition, relative to the API root.

    Raises:
        SchemaError: The name is no identifier; it is not put into a URL.
    """
    if not is_identifier(logical_name):
        msg = f"{logical_name!r} is not a table's logical name"
        raise SchemaError(msg)
    return f"EntityDefinitions(LogicalName='{logical_name}')"


def cast_url(logical_name: str, cast: str) -> str:
    """Address of one table's columns of one metadata class, such as ``StringAttributeMetadata``.

    Facets that only a subclass has can be asked for through such a cast alone.
    """
    return f"{entity_url(logical_name)}/Attributes/Microsoft.Dynamics.CRM.{cast}"
