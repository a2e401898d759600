"""The catalog: what metadata says of the configured entities, kept until it moves.

One small request per run tells the metadata version; only when that has moved does ``discovery`` read the document
and the definitions again. What was learnt is kept in ``_sync_metadata``, so that every process of a run reads it there.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.json import Decoder
from sqlalchemy import Connection

from igh_sync_core.errors import ConfigError, RequestRejected
from igh_sync_core.model import LogicalName, Option, Organisation, TableSpec
from igh_sync_core.store import knowledge
from igh_sync_core.webapi.client import Channel
from igh_sync_core.webapi.odata import entity_url, parse_page, prefer

TOKEN_DAYS = 7
"""Days deletions are kept where the organisation does not say: the shortest default that Microsoft documents."""
LANGUAGE = 1033
_ORGANISATION = "organisation"
_ENTITY, _FAULT = "entity:", "fault:"


class Entry(Struct, frozen=True):
    """What is known of one configured entity.

    Attributes:
        spec: Its table; None where it cannot be synced.
        fault: Why not: "" where metadata does not know it at all.
        has_options: Whether its option sets could be read; its choices come from annotations otherwise.
        refused: Addresses of metadata that the application had no right to read when this was learnt, one of each area;
            areas without an address if an earlier program learnt it. See ``discovery``.
    """

    spec: TableSpec | None
    fault: str = ""
    has_options: bool = False
    refused: tuple[str, ...] = ()


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

    @property
    def refused(self) -> tuple[str, ...]:
        """Addresses that the application had no right to read when any of this was learnt, one of each area."""
        return tuple(sorted({address for entry in self.entries.values() for address in entry.refused}))


class _OrganisationRow(Struct):
    organizationid: str | None = None
    expirechangetrackingindays: int | None = None
    languagecode: int | None = None


class _WhoAmI(Struct, rename="pascal"):
    organization_id: str = ""


_ORGANISATION_ROW = Decoder(_OrganisationRow)
_WHO_AM_I = Decoder(_WhoAmI)
_KEPT_ORGANISATION = Decoder(Organisation)
_KEPT_ENTRY = Decoder(Entry)
_KEPT_NOTES = Decoder(tuple[str, ...])
_KEPT_FAULT = Decoder(str)


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
        identity = _WHO_AM_I.decode(reply.body).organization_id.lower()
        told = (TOKEN_DAYS, LANGUAGE, channel.requests, identity, datetime.now(UTC))
        return Organisation("", _server_time(reply.server_date), *told)
    page = parse_page(reply.body)
    row = _ORGANISATION_ROW.decode(page.value[0]) if page.value else _OrganisationRow()
    return Organisation(
        page.metadata_version or "",
        _server_time(reply.server_date),
        row.expirechangetrackingindays or TOKEN_DAYS,
        row.languagecode or LANGUAGE,
        channel.requests,
        (row.organizationid or "").lower(),
        datetime.now(UTC),
    )


def _server_time(date_header: datetime | None) -> datetime:
    """The server's clock; our own only where a reply carries none."""
    return (date_header or datetime.now(UTC)).replace(microsecond=0)


def keep_organisation(conn: Connection, organisation: Organisation) -> None:
    """Store the run's organisation for every process of the run.

    Raises:
        ConfigError: The database is the copy of another organisation; nothing of this one is written.
    """
    value = knowledge.named(conn, [_ORGANISATION]).get(_ORGANISATION)
    before = _KEPT_ORGANISATION.decode(value).identity if value else ""
    if before and organisation.identity and before != organisation.identity:
        msg = (
            f"this database is the copy of organisation {before}, and DATAVERSE_API_URL leads to organisation "
            f"{organisation.identity}; name another database, or the address of the first one"
        )
        raise ConfigError([msg])
    knowledge.put(conn, _ORGANISATION, organisation, version=organisation.metadata_version)


def kept_organisation(conn: Connection) -> Organisation:
    """The organisation as this run's authentication found it."""
    return _KEPT_ORGANISATION.decode(knowledge.named(conn, [_ORGANISATION])[_ORGANISATION])


def keep(conn: Connection, catalog: Catalog, version: str) -> None:
    """Store what was learnt; what is known of other entities, as of whatever version, stays."""
    for name, entry in catalog.entries.items():
        knowledge.put(conn, f"{_ENTITY}{name}", entry, version=version)
    knowledge.put(conn, "notes", catalog.notes, version=version)


def kept(conn: Connection, names: Sequence[LogicalName], version: str) -> Catalog | None:
    """What is known of *names* as of *version*; None where anything is missing or older.

    Options are not among it: they are in ``_optionset`` already.
    """
    if not version:
        return None
    values = knowledge.of_version(conn, version)
    if not all(f"{_ENTITY}{name}" in values for name in names):
        return None
    entries = {name: _KEPT_ENTRY.decode(values[f"{_ENTITY}{name}"]) for name in names}
    return Catalog(entries, notes=_KEPT_NOTES.decode(values["notes"]))


def set_aside(conn: Connection, faults: Mapping[LogicalName, str]) -> None:
    """Store which entities this run must not write, and why; what an earlier run set aside is free again."""
    knowledge.forget(conn, _FAULT)
    for name, fault in faults.items():
        knowledge.put(conn, f"{_FAULT}{name}", fault)


def kept_entries(conn: Connection, names: Sequence[LogicalName]) -> list[Entry]:
    """What is known of entities, as validation stored it earlier in the run; without a table if it is set aside."""
    asked = [f"{kind}{name}" for kind in (_ENTITY, _FAULT) for name in names]
    values = knowledge.named(conn, asked)
    return [_entry(values.get(f"{_FAULT}{name}"), values[f"{_ENTITY}{name}"]) for name in names]


def _entry(fault: str | None, value: str) -> Entry:
    if fault:
        return Entry(None, _KEPT_FAULT.decode(fault))
    return _KEPT_ENTRY.decode(value)


def known_spec(conn: Connection, name: LogicalName) -> TableSpec | None:
    """The table of one entity as it was last learnt, set aside or not; None where it never was."""
    value = knowledge.named(conn, [f"{_ENTITY}{name}"]).get(f"{_ENTITY}{name}")
    return _KEPT_ENTRY.decode(value).spec if value else None
