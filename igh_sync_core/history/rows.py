"""Records → rows: one page of JSON becomes columns of engine values, by the types that metadata declares.

Pure and column-wise: msgspec decodes each record into a typed struct, everything after that is done a column at
a time. Nothing looks at a value to guess its type (law 6).
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw

from igh_sync_core.errors import DataError
from igh_sync_core.history.batch import STAMP_LENGTH, Batch, Values
from igh_sync_core.instants import EARLIEST, utc
from igh_sync_core.metadata.codes import codes_in
from igh_sync_core.model import Column, Kind, OptionKind, TableSpec
from igh_sync_core.schema.tables import stored_names
from igh_sync_core.store.dialect import parse_instant

Engine = Literal["sqlite", "postgresql"]

TARGET_TYPE = "@Microsoft.Dynamics.CRM.lookuplogicalname"
_ROWS_AT_ONCE = 500
"""Records that are there as objects of their own at once, before they become values of columns."""

_BEYOND = "holds a time beyond the calendar"
_NULL = Raw(b"null")
_NUMBER_OF = {False: 0, True: 1}
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")

_Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_TYPES: dict[Kind, Any] = {
    Kind.STRING: str,
    Kind.GUID: Annotated[str, Meta(min_length=36, max_length=36)],
    Kind.INT16: Annotated[int, Meta(ge=-(2**15), le=2**15 - 1)],
    Kind.INT32: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)],
    Kind.INT64: _Int64,
    Kind.BOOLEAN: bool,
    Kind.DECIMAL: Decimal,
    Kind.DOUBLE: float,
    Kind.DATETIME: datetime,
    Kind.DATE: date,
    Kind.BINARY: bytes,
}


@lru_cache(maxsize=1024)
def row_codec(spec: TableSpec, engine: Engine) -> "RowCodec":
    """The decoder of one entity's records for one engine; the same one for all threads, since it takes time to make."""
    return RowCodec(spec, engine)


class RowCodec:
    """Decoder of one entity's records for one engine; see :func:`row_codec`.

    Args:
        spec: The entity.
        engine: Decides the form of values: SQLite takes text and floats, PostgreSQL dates and exact decimals.
    """

    def __init__(self, spec: TableSpec, engine: Engine) -> None:
        self.spec = spec
        self.engine = engine
        self.names = stored_names(spec)
        own = [_finisher(column, engine) for column in spec.columns]
        self._finish = own + [_as_it_is] * (len(self.names) - len(own))

    @cached_property
    def _decoder(self) -> "msgspec.json.Decoder[Any]":
        return msgspec.json.Decoder(_record_type(self.spec, self.engine))

    def decode(self, records: Sequence[Raw]) -> Batch:
        """Turn the *records* of one page into a batch; of equal keys the last one stays.

        Raises:
            DataError: A record has no key, or a value that its declared type cannot hold.
        """
        if self.engine == "postgresql":
            records = list(map(without_nul, records))
        columns: list[list[Any]] = [[] for _ in self.names]
        raw: dict[str, list[Any]] = {column.name: [] for column in self.spec.multiselects}
        for start in range(0, len(records), _ROWS_AT_ONCE):
            self._append(columns, raw, records[start : start + _ROWS_AT_ONCE])
        kept = self._kept(columns[self.names.index(self.spec.key)])
        if len(kept) < len(records):
            columns = [_picked(values, kept) for values in columns]
            raw = {field: _picked(texts, kept) for field, texts in raw.items()}
        return Batch(
            names=self.names,
            columns=[*columns],
            raw={**raw},
            keys=columns[self.names.index(self.spec.key)],
            codes=self._codes(columns, raw),
            latest=self._latest(columns),
        )

    def _append(self, columns: Sequence[list[Any]], raw: Mapping[str, list[Any]], records: Sequence[Raw]) -> None:
        """Decode some records and add their values, finished, to each column."""
        decoded = list(zip(*map(msgspec.structs.astuple, self._decode_all(records)), strict=True))
        for field, texts in raw.items():
            texts.extend(decoded[self.names.index(field)])
        for at, (values, more) in enumerate(zip(columns, [*decoded, records], strict=True)):
            try:
                values.extend(self._finish[at](more))
            except (ValueError, OverflowError):
                raise self._unfit(at, more, records) from None

    def _unfit(self, at: int, values: Values, records: Sequence[Raw]) -> DataError:
        """Name the first record whose value in one column was decoded, but is none that can be kept."""
        for value, record in zip(values, records, strict=True):
            try:
                self._finish[at]([value])
            except (ValueError, OverflowError) as exc:
                why = _BEYOND if isinstance(exc, OverflowError) else exc
                return DataError(f"{self.spec.logical_name} {self._key_of(record)}: column `{self.names[at]}` {why}")
        raise AssertionError  # pragma: no cover - only called when one of them is unfit

    def _kept(self, keys: Sequence[str]) -> Sequence[int]:
        """Positions of the last record of each key, in their order."""
        places = {key: at for at, key in enumerate(keys)}
        if None in places:
            msg = f"{self.spec.logical_name}: a record has no {self.spec.key}"
            raise DataError(msg)
        return range(len(keys)) if len(places) == len(keys) else sorted(places.values())

    def _decode_all(self, records: Sequence[Raw]) -> list[Any]:
        try:
            check_text(records)
            return list(map(self._decoder.decode, records))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise self._first_fault(records) from None

    def _first_fault(self, records: Sequence[Raw]) -> DataError:
        """Name the record and the column, never the value."""
        for record in records:
            try:
                check_text([record])
                self._decoder.decode(record)
            except msgspec.MsgspecError as exc:
                return DataError(f"{self.spec.logical_name} {self._key_of(record)}: {_without_value(exc)}")
            except UnicodeDecodeError:
                return DataError(f"{self.spec.logical_name} {self._key_of(record)}: it is not UTF-8")
        raise AssertionError  # pragma: no cover - only called when one of them fails

    def _key_of(self, record: Raw) -> str:
        """The key of a record that msgspec does not take, such as one with half a surrogate pair."""
        value = json.loads(bytes(record).decode(errors="replace"))
        return str(value.get(self.spec.key, "without a key") if isinstance(value, dict) else "that is no object")

    def _latest(self, columns: Sequence[Values]) -> datetime | None:
        if not self.spec.has_modified_on:
            return None
        times = columns[self.names.index("modifiedon")]
        try:
            top = max(filter(None, times), default=None)
            latest = parse_instant(top) if isinstance(top, str) else top and utc(top)
        except (TypeError, OverflowError):  # some without a zone, or one beyond the calendar
            latest = self._latest_of_all(times, columns[self.names.index(self.spec.key)])
        return latest if latest and latest >= EARLIEST else None

    def _latest_of_all(self, times: Values, keys: Values) -> datetime:
        found: list[datetime] = []
        for key, value in zip(keys, times, strict=True):
            try:
                found += [utc(value)] if value else []
            except OverflowError:
                msg = f"{self.spec.logical_name} {key}: column `modifiedon` {_BEYOND}"
                raise DataError(msg) from None
        return max(found)

    def _codes(self, columns: Sequence[Values], raw: Mapping[str, Values]) -> dict[str, set[int]]:
        return {
            column.name: _all_codes(raw[column.name]) if column.name in raw else _single_codes(columns[at])
            for at, column in enumerate(self.spec.columns)
            if column.option is not None
        }


def check_text(records: Iterable[Raw]) -> None:
    """See that records are text in all their parts; msgspec looks at those alone that become values.

    Raises:
        UnicodeDecodeError: One is not UTF-8.
    """
    for data in map(bytes, records):
        if not data.isascii():
            data.decode()


def without_nul(record: Raw) -> Raw:
    """The record without U+0000, which PostgreSQL keeps in neither text nor JSON."""
    data = bytes(record)
    return Raw(_NUL.sub(rb"\1", data)) if b"\\u0000" in data else record


def _record_type(spec: TableSpec, engine: Engine) -> type[Any]:
    """A struct with one optional field per property and per target type; unknown members are skipped."""
    types = {**_TYPES, Kind.DECIMAL: float} if engine == "sqlite" else _TYPES
    fields: list[tuple[str, Any, Any]] = []
    for at, column in enumerate(spec.columns):
        field = "key" if column.name == spec.key else f"f{at}"
        # msgspec knows no optional Raw: a null arrives as the text "null".
        kind = Raw if column.kind is Kind.COMPLEX else types[column.kind] | None
        fields.append((field, kind, msgspec.field(default=None, name=column.name)))
    for at, lookup in enumerate(spec.polymorphic):
        fields.append((f"t{at}", str | None, msgspec.field(default=None, name=lookup.column + TARGET_TYPE)))
    return msgspec.defstruct("Record", fields, gc=False)


def _finisher(column: Column, engine: Engine) -> Callable[[Values], Values]:
    """What is left to do with a decoded column before the engine takes it."""
    if column.option is OptionKind.MULTISELECT:
        return _single_choice
    if column.kind is Kind.GUID:
        return _lower_case
    if column.kind is Kind.COMPLEX:
        return _texts
    return (_SQLITE_FORMS if engine == "sqlite" else _POSTGRES_FORMS).get(column.kind, _as_it_is)


def _as_it_is(values: Values) -> Values:
    return values


def _picked(values: Sequence[Any], positions: Iterable[int]) -> list[Any]:
    return [values[at] for at in positions]


def _single_choice(values: Values) -> Values:
    """The code where exactly one option is chosen, else null: what the downstream program reads.

    Raises:
        ValueError: One is no list of codes.
    """
    codes = {text: codes_in(text) for text in set(values) if text is not None}
    single = {text: str(found[0]) for text, found in codes.items() if len(found) == 1}
    return list(map(single.get, values))


def _lower_case(values: Values) -> Values:
    text = "".join(filter(None, values))  # one comparison for all: hardly a server spells keys in capitals
    return values if text == text.lower() else [value and value.lower() for value in values]


def _texts(values: Values) -> Values:
    return [None if value is None or value == _NULL else str(value, "utf-8") for value in values]


def _numbers(values: Values) -> Values:
    """0 and 1, which the driver takes as they are; for a ``bool`` it looks for an adapter each time."""
    return list(map(_NUMBER_OF.get, values))


def _finite(values: Values) -> Values:
    """Decimals as they are; their decoder takes the text ``"NaN"`` for one, which equals nothing, not even itself."""
    if all(map(Decimal.is_finite, filter(None, values))):
        return values
    msg = "holds no number"
    raise ValueError(msg)


def _stamp_texts(values: Values) -> Values:
    texts = msgspec.to_builtins(values)
    filled = [text for text in texts if text is not None]
    if {*map(len, filled)} <= {STAMP_LENGTH}:
        return texts  # type: ignore[no-any-return]
    return [None if value is None else msgspec.to_builtins(utc(value)) for value in values]


_SQLITE_FORMS: dict[Kind, Callable[[Values], Values]] = {
    Kind.DATETIME: _stamp_texts,
    Kind.DATE: msgspec.to_builtins,
    Kind.BOOLEAN: _numbers,
}
_POSTGRES_FORMS: dict[Kind, Callable[[Values], Values]] = {Kind.DECIMAL: _finite}


def _single_codes(values: Values) -> set[int]:
    return {int(value) for value in set(values) if value is not None}


def _all_codes(texts: Values) -> set[int]:
    return {code for text in set(texts) if text for code in codes_in(text)}


def _without_value(exc: msgspec.MsgspecError) -> str:
    """Msgspec's own words name the type and the path (``$.revenue``), not the value."""
    return str(exc).replace("`$.", "column `")
