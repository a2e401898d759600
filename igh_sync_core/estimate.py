"""How many records tables have, roughly: one cheap request for any number of them."""

from collections.abc import Iterable

import msgspec
from msgspec import Struct, field

from igh_sync_core.client import Client
from igh_sync_core.errors import ProtocolViolation


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
