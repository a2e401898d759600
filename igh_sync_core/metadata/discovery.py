"""Asks the environment what its tables are: the document once, and for each table its columns and option sets.

Several requests are under way at once. Where definitions may not be read, the document's types and the annotations
of a few records stand in, and a note says so.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from http import HTTPStatus
from threading import Lock
from typing import Self, TypeVar

from msgspec import Raw, structs

from igh_sync_core import metadata
from igh_sync_core.errors import RequestRejected, SchemaError
from igh_sync_core.metadata import Attributes, Csdl, Definition, ManyToMany, OptionSet, annotations
from igh_sync_core.metadata.catalog import Catalog, Entry
from igh_sync_core.model import Kind, LogicalName, OptionKind, TableSpec
from igh_sync_core.webapi.client import Client
from igh_sync_core.webapi.odata import entity_url, parse_page, prefer, string_literal

SAMPLE_ROWS = 500
"""Records looked at to find the choices of a table whose definitions may not be read."""

_COLUMNS = "columns"
"""The area of what each table is asked for by itself: option sets, targets of lookups, lengths of texts."""
_PARALLEL = 8
_HOLDS = {
    OptionKind.PICKLIST: Kind.INT32,
    OptionKind.MULTISELECT: Kind.STRING,
    OptionKind.STATE: Kind.INT32,
    OptionKind.STATUS: Kind.INT32,
    OptionKind.BOOLEAN: Kind.BOOLEAN,
}
"""What kind of column can hold which option set; a table without that kind is not asked."""

Hints = Mapping[str, Sequence[str]]
"""Choice columns by entity, named by hand."""

T = TypeVar("T")
Learnt = tuple[LogicalName, Entry, Sequence[OptionSet]]


def fetch(
    client: Client, names: Iterable[LogicalName], *, with_lengths: bool, hints: Hints | None = None
) -> tuple[Catalog, int]:
    """Download what metadata says of *names*.

    Args:
        client: Asked for the document once and for each table's columns, several at once.
        names: Logical names of the configured entities.
        with_lengths: Whether text lengths are wanted (PostgreSQL declares them).
        hints: Choice columns by entity, for tables whose definitions may not be read.

    Returns:
        The catalog, and the requests it took.

    Raises:
        SourceError: The document or the definitions cannot be had.
    """
    with (
        _Reader(client, with_lengths=with_lengths, hints=hints or {}) as reader,
        ThreadPoolExecutor(_PARALLEL, thread_name_prefix="entity-metadata") as pool,
        client.interruptible(),
    ):
        reader.start()
        # In copies of the caller's context, so that log records belong to the caller's run.
        reading = [pool.submit(copy_context().run, reader.read, name) for name in names]
        learnt = [one.result() for one in reading]
    refused = tuple(sorted(_to_be_asked_again(reader, {name: entry for name, entry, _sets in learnt})))
    found = Catalog(
        {name: structs.replace(entry, refused=refused) for name, entry, _sets in learnt},
        tuple(option for _name, _entry, sets in learnt for one in sets for option in one.options),
        tuple(dict.fromkeys(reader.notes)),
    )
    return found, reader.requests


def is_readable(client: Client, address: str) -> bool:
    """Whether what was refused may be read now, by one request, and a small one.

    Args:
        client: Is asked.
        address: One of ``Catalog.refused``.
    """
    if "?" not in address:
        return True  # what an earlier program kept is the name of an area, and tells not what of it was refused
    try:
        client.channel("metadata").get(f"{client.config.api_root}{address}")
    except RequestRejected:
        return False
    return True


def _to_be_asked_again(reader: "_Reader", entries: Mapping[LogicalName, Entry]) -> Iterator[str]:
    """One address of each area that was refused, always the same one, and of option sets before anything else.

    It is what was refused itself: a right may cover one kind of metadata, or one table, and not the others.
    """
    for area, (path, column) in _LISTS.items():
        if reader.refused[area] and entries:
            where = f"{column} eq {string_literal(min(entries))}"
            yield entity_url("", path.partition("?")[0], select=(column,), where=where)
    has_options = any(entry.has_options for entry in entries.values())
    if columns := reader.refused[_COLUMNS] or ([] if has_options else reader.rejected):
        yield min(columns, key=lambda address: ("$expand" not in address, address))


class _Reader:
    """Asks for the metadata of one entity after the other; shared by threads, its requests have threads of their own.

    What one table is refused is asked for others all the same, so that what is learnt depends on no order of replies;
    but not by an application that may not even read the list of tables.

    Attributes:
        notes: What could not be read and what is done without it.
        refused: Addresses that the application has no right to read, by area.
        rejected: Those of columns that the server had another reason not to give.
    """

    def __init__(self, client: Client, *, with_lengths: bool, hints: Hints) -> None:
        self._channel = client.channel("metadata")
        self._root = client.config.api_root
        self._with_lengths = with_lengths
        self._hints = hints
        self._guard = Lock()
        self._pool = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="metadata")
        self.notes: list[str] = []
        self.refused: dict[str, list[str]] = {area: [] for area in _INSTEAD}
        self.rejected: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    @property
    def requests(self) -> int:
        """Requests sent so far."""
        return self._channel.requests

    def start(self) -> None:
        """Read what concerns all tables."""
        definitions = self._ask("definitions", metadata.DEFINITIONS_URL, metadata.parse_definitions)
        relationships = self._ask("relationships", metadata.MANY_TO_MANY_URL, metadata.parse_many_to_many)
        document = f"{self._root}$metadata"
        self._csdl: Csdl = self._channel.read(document, metadata.parse_csdl, accept="application/xml")
        self._definitions: Mapping[LogicalName, Definition] = definitions.result() or {}
        self._many_to_many: Sequence[ManyToMany] = relationships.result() or ()

    def read(self, name: LogicalName) -> Learnt:
        """Everything metadata says of one entity."""
        definition = self._definitions.get(name)
        if definition is None and name not in self._csdl.types:
            return name, Entry(None), ()
        try:
            return self._read(name, definition or metadata.definition_from_csdl(self._csdl, name))
        except SchemaError as exc:
            return name, Entry(None, str(exc)), ()

    def _read(self, name: LogicalName, definition: Definition) -> Learnt:
        bare = self._build(definition, Attributes())
        asked = self._ask_options(bare)
        targets = self._ask_targets(bare)
        lengths = self._ask_lengths(name) if self._with_lengths else []
        answers = [one.result() for one in asked]
        sets = [one for answer in answers if answer is not None for one in answer]
        is_read = all(answer is not None for answer in answers)
        if not is_read:
            sets = self._without_definitions(bare, sets)
        known: dict[str, int] = {}
        for lengths_read in lengths:
            known |= lengths_read.result() or {}
        attributes = Attributes((targets.result() if targets else None) or {}, known, tuple(sets))
        return name, Entry(self._build(definition, attributes), has_options=is_read), sets

    def _build(self, definition: Definition, attributes: Attributes) -> TableSpec:
        return metadata.build_spec(
            self._csdl,
            definition,
            attributes=attributes,
            many_to_many=self._many_to_many,
            definitions=self._definitions,
        )

    def _ask_options(self, spec: TableSpec) -> list["Future[tuple[OptionSet, ...] | None]"]:
        kinds = {column.kind for column in spec.columns if column.name not in annotations.PLUMBING}
        return [
            self._ask(
                _COLUMNS,
                metadata.options_url(spec.logical_name, kind),
                partial(metadata.parse_options, entity=spec.logical_name, kind=kind),
            )
            for kind, holds in _HOLDS.items()
            if holds in kinds
        ]

    def _ask_targets(self, spec: TableSpec) -> "Future[dict[str, tuple[LogicalName, ...]] | None] | None":
        if all(lookup.targets for lookup in spec.lookups):
            return None
        return self._ask(_COLUMNS, metadata.lookup_targets_url(spec.logical_name), metadata.parse_lookup_targets)

    def _ask_lengths(self, name: LogicalName) -> list["Future[dict[str, int] | None]"]:
        urls = (metadata.string_lengths_url(name), metadata.memo_lengths_url(name))
        return [self._ask(_COLUMNS, url, metadata.parse_lengths) for url in urls]

    def _ask(self, area: str, path: str, parse: Callable[[bytes], T]) -> "Future[T | None]":
        return self._pool.submit(copy_context().run, self._answer, area, path, parse)

    def _answer(self, area: str, path: str, parse: Callable[[bytes], T]) -> T | None:
        """One definition request; None, and a note, where definitions may not be read."""
        if self._is_in_vain(area, path):
            return None
        try:
            return parse(bytes(self._channel.get(f"{self._root}{path}").body))
        except RequestRejected as exc:
            if exc.status is None or exc.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise  # the server failed; it did not refuse, and the answer is not to be remembered
            self._note_refusal(area, path, exc)
            return None

    def _is_in_vain(self, area: str, path: str) -> bool:
        """Whether no definitions may be read at all, and of this kind another table's was refused already."""
        with self._guard:
            refused = [_kind_of(other) for other in self.refused[area]]
        return bool(self.refused["definitions"]) and _kind_of(path) in refused

    def _note_refusal(self, area: str, path: str, exc: RequestRejected) -> None:
        """Remember it; of an area without rights one note is enough, though each refusal may bear an id of its own."""
        is_told = False
        if exc.status == HTTPStatus.FORBIDDEN:
            with self._guard:
                is_told = bool(self.refused[area])
                self.refused[area].append(path)
        elif area == _COLUMNS:
            self.rejected.append(path)
        if not is_told:
            self.notes.append(f"metadata of {area} may not be read ({exc}); {_INSTEAD[area]}")

    def _without_definitions(self, spec: TableSpec, known: Sequence[OptionSet]) -> list[OptionSet]:
        """The choices of a table as its records show them, beside those that could be read after all."""
        hinted = [*self._hints.get(spec.logical_name, ()), *self._hints.get(spec.entity_set, ())]
        told = {one.field for one in known}
        seen = annotations.detect(spec, self._sample(spec), hinted)
        if refused := annotations.refused(hinted, (*known, *seen)):
            self.notes.append(f"{spec.logical_name}: hinted columns that cannot be choices: {', '.join(refused)}")
        return [*known, *(one for one in seen if one.field not in told)]

    def _sample(self, spec: TableSpec) -> Sequence[Raw]:
        try:
            reply = self._channel.get(entity_url(self._root, spec.entity_set), prefer=prefer(page_size=SAMPLE_ROWS))
        except RequestRejected:
            return ()
        return parse_page(reply.body).value


def _kind_of(path: str) -> str:
    """The last part of an address without its query, such as the class of attributes that is asked for."""
    return path.partition("?")[0].rpartition("/")[2]


_LISTS = {
    "definitions": (metadata.DEFINITIONS_URL, "LogicalName"),
    "relationships": (metadata.MANY_TO_MANY_URL, "IntersectEntityName"),
}
"""Where the areas are read from that are one list for all tables, and the column that names a table in it."""

_INSTEAD = {
    "definitions": "keys come from $metadata, and change tracking counts as off",
    "relationships": "the lookups of N:N tables keep each row's own target",
    _COLUMNS: "choices are found by the annotations of records and the hint file, labels come from the records",
}
