"""Whether a record as it came differs from one that is stored: declared columns alone, in one canonical form (law 5).

Both documents are read by the types that metadata declares now. Where the stored one does not fit them, as after a type
became narrower, its members are compared as JSON. Pure.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal, DecimalException
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Raw, Struct, field

from igh_sync_core.errors import DataError
from igh_sync_core.history.batch import Batch
from igh_sync_core.history.rows import TARGET_TYPE, RowCodec
from igh_sync_core.model import Kind

VOLATILE = frozenset({"versionnumber"})
"""Columns whose change alone makes no version (law 5)."""


def _exact(text: str) -> Decimal | str:
    """A number with all its digits; as text where its exponent is beyond any Decimal."""
    try:
        return Decimal(text)
    except DecimalException:
        return text


class _Tagged(Struct):
    """The part of a document that tells its version."""

    tag: str | None = field(default=None, name="@odata.etag")


_TAG = msgspec.json.Decoder(_Tagged)
_JSON = msgspec.json.Decoder(float_hook=_exact)
_MEMBERS = msgspec.json.Decoder(dict[str, Raw])
_SORTED = msgspec.json.Encoder(order="sorted")
_UNREADABLE = (DataError, ValueError, msgspec.MsgspecError)


class Comparison:
    """Compares records of one entity.

    Args:
        codec: Decoder of its records.
        fresh: Columns that are not compared, whatever was received for them before.
    """

    def __init__(self, codec: RowCodec, fresh: frozenset[str]) -> None:
        self._codec, self._fresh = codec, fresh
        ignored = VOLATILE | fresh
        kinds = {column.name: column.kind for column in codec.spec.columns}
        self._plain = [name for name in codec.names[:-1] if name not in ignored and kinds.get(name) is not Kind.COMPLEX]
        self._objects = [name for name in kinds if name not in ignored and kinds[name] is Kind.COMPLEX]
        self._choices = [column.name for column in codec.spec.multiselects if column.name not in ignored]
        targets = [
            lookup.column + TARGET_TYPE for lookup in codec.spec.polymorphic if lookup.type_column not in ignored
        ]
        self._inexact = tuple(
            name for name in self._plain if kinds.get(name) is Kind.DECIMAL and codec.engine == "sqlite"
        )
        self._members = [*(name for name in kinds if name not in ignored), *targets]

    def is_same(self, stored: str | bytes, received: Raw) -> bool:
        """Whether two documents say the same, so that nothing is to be written; never while columns are being filled.

        PostgreSQL gives text, its members in an order and numbers in a form of its own; SQLite the bytes it was given.
        """
        if self._fresh:
            return False
        if isinstance(stored, bytes):
            return stored == bytes(received)
        try:
            # The tag first: it differs for nearly every record that changed, and is read in a tenth of the time.
            is_possible = _TAG.decode(stored) == _TAG.decode(received)
            return is_possible and _are_equal(_JSON.decode(stored), _JSON.decode(received))
        except _UNREADABLE:
            return False

    def changed(self, received: Batch, stored: Sequence[str | bytes]) -> Iterator[int]:
        """Positions of the records that differ in a declared column from their stored documents.

        Args:
            received: *n* records.
            stored: The *n* documents of their current versions.
        """
        documents = received.column("json_response")
        for at, (new, old) in enumerate(zip(self._rows(received), self._decoded(stored), strict=True)):
            if new == old:
                is_other = bool(self._inexact) and self._digits_differ(stored[at], documents[at])
            else:
                is_other = old is not None or self._members_differ(stored[at], documents[at])
            if is_other:
                yield at

    def _decoded(self, documents: Sequence[str | bytes]) -> Iterator[tuple[Any, ...] | None]:
        """What stored documents hold; None for one that the present types cannot tell."""
        try:
            decoded = list(self._rows(self._codec.decode([self._without_fresh(one) for one in documents])))
        except _UNREADABLE:
            decoded = []
        yield from decoded if len(decoded) == len(documents) else map(self._decoded_alone, documents)

    def _decoded_alone(self, document: str | bytes) -> tuple[Any, ...] | None:
        try:
            [row] = self._rows(self._codec.decode([self._without_fresh(document)]))
        except _UNREADABLE:
            return None
        return row

    def _without_fresh(self, document: str | bytes) -> Raw:
        """A stored record without the columns that are not compared, whose types may be others now."""
        if not self._fresh:
            return Raw(document if isinstance(document, bytes) else document.encode())
        members = _MEMBERS.decode(document)
        return Raw(msgspec.json.encode({name: value for name, value in members.items() if name not in self._fresh}))

    def _rows(self, batch: Batch) -> Iterator[tuple[Any, ...]]:
        """What is compared of each record: columns, objects whatever their spelling, choices as received."""
        columns = [batch.column(name) for name in self._plain]
        objects = [[text and _canonical(_JSON.decode(text)) for text in batch.column(name)] for name in self._objects]
        return zip(*columns, *objects, *(batch.raw[name] for name in self._choices), strict=True)

    def _digits_differ(self, stored: str | bytes, received: Raw) -> bool:
        """Whether decimals differ in digits that SQLite's numbers have no room for; the document keeps them all."""
        exact = _decimals(self._inexact)
        try:
            return bool(exact.decode(stored) != exact.decode(received))
        except _UNREADABLE:
            return False

    def _members_differ(self, stored: str | bytes, received: Raw) -> bool:
        try:
            old, new = _canonical(_JSON.decode(stored)), _canonical(_JSON.decode(received))
        except _UNREADABLE:
            return True
        return not isinstance(old, dict) or any(old.get(name) != new.get(name) for name in self._members)


@lru_cache(maxsize=1024)
def _decimals(names: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
    """Reads the decimals of a record alone, with all their digits."""
    fields = [(f"d{at}", Decimal | None, field(default=None, name=name)) for at, name in enumerate(names)]
    return msgspec.json.Decoder(msgspec.defstruct("Decimals", fields))


def _are_equal(one: Any, other: Any) -> bool:  # noqa: ANN401 - any JSON
    """Whether two values are the same JSON; to Python a truth value equals a number."""
    if one != other:
        return False
    # Spelled alike they are the same; to go through all members takes ten times as long.
    return _SORTED.encode(one) == _SORTED.encode(other) or bool(_canonical(one) == _canonical(other))


def _canonical(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """The same with truth values that equal no number."""
    if isinstance(value, bool):
        return _TRUTH[value]
    if isinstance(value, dict):
        return {name: _canonical(member) for name, member in value.items()}
    return [_canonical(member) for member in value] if isinstance(value, list) else value


_TRUTH = (object(), object())
