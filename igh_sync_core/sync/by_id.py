"""Records of one table by id, as many in one query as the server takes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import TypeVar

from igh_sync_core.errors import RequestRejected
from igh_sync_core.model import TableSpec
from igh_sync_core.webapi.client import Channel
from igh_sync_core.webapi.odata import MAX_CONDITIONS, MAX_URL, entity_url, id_batches, in_filter

_TOO_MANY_CODES = {"0x8004430c", "0x8004430e"}

T = TypeVar("T")


class ById:
    """How many ids the server takes is found out once: a list that it finds too long is asked in halves.

    Args:
        channel: The table's line; a list is no longer than one of its pages.
        spec: The table.
        api_root: Root of the Web API, ending in "/".
    """

    def __init__(self, channel: Channel, spec: TableSpec, api_root: str) -> None:
        self._channel, self._spec, self._root = channel, spec, api_root
        self._most = MAX_CONDITIONS

    def address(self, ids: Iterable[str]) -> str:
        """The query for some records."""
        return entity_url(self._root, self._spec.entity_set, where=in_filter(self._spec.key, ids))

    def batches(self, ids: Iterable[str]) -> Iterator[list[str]]:
        """Lists of ids, each for one query; *ids* are consumed as they are needed.

        As many as one page holds: a second page would only be asked for once the first is here.
        """
        room = MAX_URL - len(self.address([]))
        return id_batches(ids, url_room=room, most=lambda: min(self._channel.page_rows, self._most))

    def ask(self, ids: Sequence[str], one: Callable[[Sequence[str]], T]) -> list[T]:
        """What *one* gives for the ids, asked together or, where the server finds them too many, in parts.

        Args:
            ids: A batch.
            one: Asks for some of them in one query; what it did before a refusal is done again. May be called from
                several threads.

        Raises:
            RequestRejected: The server refused for another reason, or a single id.
        """
        half = (len(ids) + 1) // 2
        if len(ids) <= self._most:
            try:
                return [one(ids)]
            except RequestRejected as exc:
                if len(ids) == 1 or not _is_too_much(exc):
                    raise
                self._most = min(self._most, half)
        return [answer for part in (ids[:half], ids[half:]) for answer in self.ask(part, one)]


def _is_too_much(exc: RequestRejected) -> bool:
    return exc.status == HTTPStatus.REQUEST_URI_TOO_LONG or exc.code in _TOO_MANY_CODES
