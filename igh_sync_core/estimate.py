"""How much there is to ask: how many records tables have, roughly, and how many ids one request can name."""

from collections.abc import Iterable
from itertools import repeat

import msgspec
from msgspec import Struct, field

from igh_sync_core.client import Client
from igh_sync_core.errors import ProtocolViolation
from igh_sync_core.model import TableSpec
from igh_sync_core.odata import MAX_URL, entity_url, id_batches, in_filter


class _Counts(Struct):
    keys: list[str] = field(name="Keys")
    values: list[int] = field(name="Values")


class _Reply(Struct):
    counts: _Counts = field(name="EntityRecordCountCollection")


def count_records(client: Client, names: Iterable[str]) -> dict[str, int]:
    """Ask for the environment's own counts, at most a day old; they heed neither filters nor permissions.

    Args:
        client: The wire.
        names: Logical names of *n* tables; virtual ones have no count.

    Returns:
        Records by logical name, for those that have a count.

    Raises:
        SourceError: The environment does not tell.

    Source: https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query/count-rows
    """
    quoted = ",".join(f"'{name}'" for name in names)
    url = f"{client.config.api_root}RetrieveTotalRecordCount(EntityNames=@p1)?@p1=[{quoted}]"
    try:
        counts = msgspec.json.decode(client.channel("counts").get(url).body, type=_Reply).counts
    except msgspec.DecodeError as exc:
        message = "the answer to RetrieveTotalRecordCount is not understood"
        raise ProtocolViolation(message, url=client.config.api_root) from exc
    return dict(zip(counts.keys, counts.values, strict=True))


def ids_per_request(spec: TableSpec, api_root: str) -> int:
    """How many records one address can ask for by id."""
    room = MAX_URL - len(entity_url(api_root, spec.entity_set, where=in_filter(spec.key, ())))
    return len(next(id_batches(repeat(_SOME_ID), url_room=room)))


_SOME_ID = "0" * 8 + "-0000" * 3 + "-" + "0" * 12
