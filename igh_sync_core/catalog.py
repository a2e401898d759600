"""The catalog: what metadata says of the configured entities, downloaded once and kept until it moves.

One small request per run tells the metadata version; only when that has moved are the document and the definitions
read again. What was learnt is kept in ``_sync_metadata``, so that every process of a run reads it from there.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, delete, insert, select

from igh_sync_core import metadata
from igh_sync_core.client import Channel, Client
from igh_sync_core.control import SyncMetadata
from igh_sync_core.errors import RequestRejected, SchemaError
from igh_sync_core.metadata import Attributes, Csdl, Definition, ManyToMany, OptionSet
from igh_sync_core.model import Column, Kind, LogicalName, Option, OptionKind, Organisation, TableSpec
from igh_sync_core.odata import entity_url, parse_page, prefer

TOKEN_DAYS = 7
"""Days deletions are kept where the organisation does not say: the shortest default that Microsoft documents."""
LANGUAGE = 1033
_METADATA = SyncMetadata.metadata.tables["_sync_metadata"]
_ORGANISATION = "organisation"
_PARALLEL = 8
T = TypeVar("T")


class Entry(Struct, frozen=True):
    """What is known of one configured entity.

    Attributes:
        spec: Its table; None where it cannot be synced.
        fault: Why not: "" where metadata does not know it at all.
    """

    spec: TableSpec | None
    fault: str = ""


class Catalog(Struct, frozen=True):
    """What is known of all configured entities.

    Attributes:
        entries: By logical name; every configured entity has one.
        options: Every option of every column, in every language.
        notes: What could not be read and what is done without it.
    """

    entries: dict[LogicalName, Entry]
    options: tuple[Option, ...] = ()
    notes: tuple[str, ...] = ()


class _OrganisationRow(Struct):
    expirechangetrackingindays: int | None = None
    languagecode: int | None = None


def ask_organisation(channel: Channel, api_root: str) -> Organisation:
    """The one metadata request of a run; it also proves that the token is good.

    Raises:
        AuthError: The credentials are refused, or the environment knows no such application user.
    """
    url = entity_url(api_root, "organizations", select=("expirechangetrackingindays", "languagecode"))
    try:
        reply = channel.get(url, prefer=prefer())
    except RequestRejected:
        reply = channel.get(f"{api_root}WhoAmI")
        return Organisation("", _server_time(reply.server_date), TOKEN_DAYS, LANGUAGE)
    page = parse_page(reply.body)
    row = msgspec.json.decode(page.value[0], type=_OrganisationRow) if page.value else _OrganisationRow()
    return Organisation(
        page.metadata_version or "",
        _server_time(reply.server_date),
        row.expirechangetrackingindays or TOKEN_DAYS,
        row.languagecode or LANGUAGE,
    )


def _server_time(date_header: datetime | None) -> datetime:
    """The server's clock; our own only where a reply carries none."""
    return (date_header or datetime.now(UTC)).replace(microsecond=0)


def keep_organisation(conn: Connection, organisation: Organisation) -> None:
    """Store the run's organisation for every process of the run."""
    _keep(conn, _ORGANISATION, organisation.metadata_version, organisation)


def kept_organisation(conn: Connection) -> Organisation:
    """The organisation as this run's authentication found it."""
    value = conn.execute(select(_METADATA.c.value).where(_METADATA.c.name == _ORGANISATION)).scalar_one()
    return msgspec.json.decode(value, type=Organisation)


def keep(conn: Connection, catalog: Catalog, version: str) -> None:
    """Store what was learnt, in place of what was known before."""
    conn.execute(delete(_METADATA).where(_METADATA.c.name != _ORGANISATION))
    for name, entry in catalog.entries.items():
        _keep(conn, f"entity:{name}", version, entry)
    _keep(conn, "notes", version, catalog.notes)


def kept(conn: Connection, names: Sequence[LogicalName], version: str) -> Catalog | None:
    """What is known of *names* as of *version*; None where anything is missing or older.

    Options are not among it: they are in ``_optionset`` already.
    """
    if not version:
        return None
    rows = conn.execute(select(_METADATA.c.name, _METADATA.c.value).where(_METADATA.c.version == version)).all()
    values = {name: value for name, value in rows}  # noqa: C416 - rows are not pairs for the type checker
    if not all(f"entity:{name}" in values for name in names):
        return None
    entries = {name: msgspec.json.decode(values[f"entity:{name}"], type=Entry) for name in names}
    return Catalog(entries, notes=msgspec.json.decode(values["notes"], type=tuple[str, ...]))


def kept_entry(conn: Connection, name: LogicalName) -> Entry:
    """What is known of one entity; validation has stored it earlier in the run."""
    value = conn.execute(select(_METADATA.c.value).where(_METADATA.c.name == f"entity:{name}")).scalar_one()
    return msgspec.json.decode(value, type=Entry)


def _keep(conn: Connection, name: str, version: str, value: object) -> None:
    conn.execute(delete(_METADATA).where(_METADATA.c.name == name))
    text = msgspec.json.encode(value).decode()
    conn.execute(insert(_METADATA).values(name=name, version=version, fetched_at=datetime.now(UTC), value=text))


def fetch(client: Client, names: Iterable[LogicalName], *, with_lengths: bool) -> tuple[Catalog, int]:
    """Download what metadata says of *names*.

    Args:
        client: Asked for the document once and for each table's columns, several tables at once.
        names: Logical names of the configured entities.
        with_lengths: Whether text lengths are wanted (PostgreSQL declares them).

    Returns:
        The catalog, and the requests it took.

    Raises:
        SourceError: The document or the definitions cannot be had.
    """
    reader = _Reader(client, with_lengths=with_lengths)
    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="metadata") as pool:
        learnt = list(pool.map(reader.read, names))
    found = Catalog(
        {name: entry for name, entry, _options in learnt},
        tuple(option for _name, _entry, sets in learnt for one in sets for option in one.options),
        tuple(dict.fromkeys(reader.notes)),
    )
    return found, reader.requests


class _Reader:
    """Asks for the metadata of one entity after the other; shared by threads."""

    def __init__(self, client: Client, *, with_lengths: bool) -> None:
        self._channel = client.channel("metadata")
        self._root = client.config.api_root
        self._with_lengths = with_lengths
        self.notes: list[str] = []
        with self._channel.stream(f"{self._root}$metadata", accept="application/xml") as chunks:
            self._csdl: Csdl = metadata.parse_csdl(chunks)
        self._definitions = self._ask(metadata.DEFINITIONS_URL, metadata.parse_definitions) or {}
        self._many_to_many: Sequence[ManyToMany] = (
            self._ask(metadata.MANY_TO_MANY_URL, metadata.parse_many_to_many) or ()
        )

    @property
    def requests(self) -> int:
        """Requests sent so far."""
        return self._channel.requests

    def read(self, name: LogicalName) -> tuple[LogicalName, Entry, Sequence[OptionSet]]:
        """Everything metadata says of one entity."""
        if name not in self._csdl.types:
            return name, Entry(None), ()
        try:
            definition = self._definitions.get(name) or metadata.definition_from_csdl(self._csdl, name)
            bare = self._build(definition, Attributes())
            attributes = self._attributes(bare)
            return name, Entry(self._build(definition, attributes)), attributes.options
        except SchemaError as exc:
            return name, Entry(None, str(exc)), ()

    def _build(self, definition: Definition, attributes: Attributes) -> TableSpec:
        return metadata.build_spec(
            self._csdl,
            definition,
            attributes=attributes,
            many_to_many=self._many_to_many,
            definitions=self._definitions,
        )

    def _attributes(self, spec: TableSpec) -> Attributes:
        name = spec.logical_name
        targets: dict[str, tuple[LogicalName, ...]] = {}
        lengths: dict[str, int] = {}
        if any(not lookup.targets for lookup in spec.lookups):
            targets = self._ask(metadata.lookup_targets_url(name), metadata.parse_lookup_targets) or {}
        if self._with_lengths:
            for url in (metadata.string_lengths_url(name), metadata.memo_lengths_url(name)):
                lengths |= self._ask(url, metadata.parse_lengths) or {}
        return Attributes(targets, lengths, tuple(self._options(spec)))

    def _options(self, spec: TableSpec) -> Iterable[OptionSet]:
        kinds = {column.kind for column in spec.columns if not _is_plumbing(column)}
        for kind, holds in _HOLDS.items():
            if holds in kinds:
                url = metadata.options_url(spec.logical_name, kind)
                yield from self._ask(url, _option_parser(spec.logical_name, kind)) or ()

    def _ask(self, path: str, parse: Callable[[bytes], T]) -> T | None:
        """One definition request; None, and a note, where definitions may not be read."""
        try:
            return parse(self._channel.get(f"{self._root}{path}").body)
        except RequestRejected as exc:
            self.notes.append(f"definitions may not be read ({exc}); types and annotations are used alone")
            return None


_HOLDS = {
    OptionKind.PICKLIST: Kind.INT32,
    OptionKind.MULTISELECT: Kind.STRING,
    OptionKind.STATE: Kind.INT32,
    OptionKind.STATUS: Kind.INT32,
    OptionKind.BOOLEAN: Kind.BOOLEAN,
}
"""What kind of column can hold which option set; a table without that kind is not asked."""


def _is_plumbing(column: Column) -> bool:
    return column.name in {"importsequencenumber", "timezoneruleversionnumber", "utcconversiontimezonecode"}


def _option_parser(entity: LogicalName, kind: OptionKind) -> Callable[[bytes], tuple[OptionSet, ...]]:
    return lambda body: metadata.parse_options(body, entity=entity, kind=kind)
