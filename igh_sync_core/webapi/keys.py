"""Pages of keys alone: what a sweep and a key feed read in place of whole records. Pure."""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec

from igh_sync_core.errors import DataError
from igh_sync_core.instants import EARLIEST, utc
from igh_sync_core.model import TableSpec
from igh_sync_core.webapi.odata import Page
from igh_sync_core.webapi.tombstones import split_page

_TOLD = ("versionnumber", "modifiedon")


@dataclass(frozen=True)
class Keys:
    """What one page of keys says.

    Attributes:
        versions: Pairs of key, as it is stored, and version number (None where the table has none), n of them.
        deleted: Keys of tombstones.
        latest: Largest ``modifiedon`` named, from ``instants.EARLIEST`` on; None where none is.
    """

    versions: list[tuple[str, int | None]]
    deleted: list[str]
    latest: datetime | None


def columns_of_keys(spec: TableSpec) -> tuple[str, ...]:
    """What to select for such a page."""
    return (spec.key, *(name for name in _TOLD if name in spec.names))


def parse_keys(spec: TableSpec, page: Page) -> Keys:
    """Read a page of keys.

    Raises:
        DataError: An entry has no key.
    """
    records, deleted = split_page(page, spec)
    decoder = _decoder(spec.key)
    try:
        entries = [decoder.decode(record) for record in records]
    except msgspec.MsgspecError as exc:
        msg = f"{spec.logical_name}: a list of keys holds an entry that is none"
        raise DataError(msg) from exc
    return Keys(
        [(spec.key_of(entry.key), entry.version) for entry in entries],
        deleted,
        max((when for entry in entries if entry.modified and (when := utc(entry.modified)) >= EARLIEST), default=None),
    )


@lru_cache(maxsize=1024)
def _decoder(key: str) -> msgspec.json.Decoder[Any]:
    fields = [
        ("key", str, msgspec.field(name=key)),
        ("version", int | None, msgspec.field(default=None, name="versionnumber")),
        ("modified", datetime | None, msgspec.field(default=None, name="modifiedon")),
    ]
    return msgspec.json.Decoder(msgspec.defstruct("KeyEntry", fields, gc=False))
