"""What a delta answer mixes in one list: records, and tombstones of deleted ones. Pure."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct, field

from igh_sync_core.errors import TokenLost
from igh_sync_core.model import TableSpec
from igh_sync_core.webapi.odata import Page


class _DeltaEntry(Struct):
    """A tombstone says so by a context of its own; a record's own columns named ``id`` or ``reason`` do not matter."""

    context: str = field(name="@odata.context", default="")
    id: Any = None


_ENTRY = msgspec.json.Decoder(_DeltaEntry)
_ANY = msgspec.json.Decoder()


def split_page(page: Page, spec: TableSpec) -> tuple[Sequence[Raw], list[str]]:
    """Records and the keys of tombstones, which a delta answer mixes in one list.

    A record behind a tombstone of the same key is back: the later entry counts.

    Args:
        page: Any page.
        spec: The entity.

    Returns:
        The records in the server's order, and keys as stored; no keys unless the page is part of a delta (law 3).
    """
    if not page.is_delta:
        return page.value, []
    records: list[Raw] = []
    deleted: dict[str, None] = {}
    for raw in page.value:
        try:
            entry = _ENTRY.decode(raw)
        except msgspec.DecodeError:  # whoever reads the record names it
            records.append(raw)
            continue
        if entry.context.endswith("$deletedEntity"):
            deleted[spec.key_of(str(entry.id))] = None
            continue
        records.append(raw)
        if deleted:
            deleted.pop(spec.key_of(str(_ANY.decode(raw).get(spec.key))), None)
    return records, list(deleted)


def check_delta(page: Page) -> None:
    """An answer to a delta link begins with a delta, or it is none.

    A server that has the token no more may give all records, without a word and without tombstones. They are asked for
    anew: only a read that was asked to be complete tells what is absent (law 3).

    Args:
        page: The answer's first page.

    Raises:
        TokenLost: It is no delta.
    """
    if not page.is_delta:
        raise TokenLost
