"""Is everything in order? One line per thing that a run needs, each with its remedy; only asks, changes nothing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from http import HTTPStatus
from typing import NamedTuple

import msgspec
from msgspec import Struct
from sqlalchemy import inspect, select

from igh_sync_core import metadata
from igh_sync_core.config import Config
from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.errors import AuthError, ConfigError, SourceError, SyncError
from igh_sync_core.inspection import privileges, rights
from igh_sync_core.inspection.looking import reading
from igh_sync_core.inspection.privileges import Privilege
from igh_sync_core.metadata import listing
from igh_sync_core.model import LogicalName, OptionKind
from igh_sync_core.store.control import SyncLock
from igh_sync_core.store.database import Database
from igh_sync_core.store.lock import is_alive
from igh_sync_core.webapi.client import Client
from igh_sync_core.webapi.odata import entity_url

CLOCK_WARNING = timedelta(seconds=60)
CLOCK_FAILURE = timedelta(minutes=5)
"""Login tokens are refused by about this much."""

_AT_ONCE = 8
_LOCK = SyncLock.metadata.tables["_sync_lock"]


_READ_EVERYTHING = "give its role read at organization level"
_READ_DEFINITIONS = (
    "give its role prvReadEntity, prvReadAttribute, prvReadRelationship and prvReadOptionSet, at any depth "
    "(tab Customization: Entity, Attribute, Relationship, Option Set)"
)
_SERVER_FAILS = "nothing is wrong on this side: try again in some minutes; if it stays so, ask Microsoft's support"
_ASK_WHY = "the server's words say why; nothing else is affected"


class Status(StrEnum):
    """How one thing stands."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Check(NamedTuple):
    """One line.

    Attributes:
        name: What was looked at.
        status: How it stands.
        text: What was found.
        remedy: What to do about it; "" where nothing need be done.
    """

    name: str
    status: Status
    text: str
    remedy: str = ""


class _User(Struct, rename="pascal"):
    user_id: str


_USER = msgspec.json.Decoder(_User)


class _Table(Struct, rename="pascal"):
    entity_set_name: str | None = None
    primary_id_attribute: str | None = None
    change_tracking_enabled: bool | None = None
    is_intersect: bool | None = None
    privileges: tuple[Privilege, ...] = ()


_TABLE = msgspec.json.Decoder(_Table)


_SELECTS = (
    "EntitySetName,PrimaryIdAttribute,ChangeTrackingEnabled,IsIntersect,Privileges",
    "EntitySetName,PrimaryIdAttribute,ChangeTrackingEnabled,IsIntersect",
)
"""What is asked of a table; older environments do not tell privileges."""


def doctor(
    config: Config, entities: Sequence[EntityConfig], *, connect: Callable[[Config], Client] = Client
) -> list[Check]:
    """Look at everything a run needs.

    Args:
        config: Where from, as whom, and where to.
        entities: Tables to copy.
        connect: Opens the wire.

    Returns:
        Login, application user, clock, metadata, then two or three lines per entity, then the database. What cannot be
        seen without a login is left out where the login fails.
    """
    with connect(config) as client:
        return [*_source(client, entities), _database(config)]


def _source(client: Client, entities: Sequence[EntityConfig]) -> Iterator[Check]:
    try:
        reply = client.channel("doctor").get(f"{client.config.api_root}WhoAmI")
    except AuthError as exc:
        yield Check("login", Status.FAILED, str(exc), _remedy_of_login(exc))
        return
    except SourceError as exc:
        address = "see that DATAVERSE_API_URL is the address of an environment, and that the network lets you there"
        yield Check("login", Status.FAILED, str(exc), _SERVER_FAILS if _is_servers_fault(exc) else address)
        return
    try:
        user = _USER.decode(reply.body).user_id
    except msgspec.DecodeError:
        remedy = "see that DATAVERSE_API_URL leads to the environment itself, not to a proxy or a portal"
        yield Check("login", Status.FAILED, "the address answers with something else than a Dataverse", remedy)
        return
    yield Check("login", Status.OK, f"a token for {client.config.origin} was given and accepted")
    yield Check("application user", Status.OK, f"systemuser {user}")
    yield _clock(reply.server_date)
    yield from _Visit(client, user).checks(entities)


def _remedy_of_login(exc: AuthError) -> str:
    """What the message does not say already: it does where nobody has looked at the credentials yet."""
    if exc.status == HTTPStatus.FORBIDDEN:
        return "in the Power Platform admin center add an application user for this client id, with a security role"
    if not exc.code and exc.status != HTTPStatus.UNAUTHORIZED:
        return ""
    return "see that client id, secret or certificate, and tenant belong together, and that the secret has not expired"


def _clock(server: datetime | None) -> Check:
    if server is None:
        return Check("clock", Status.WARNING, "the server does not tell its time", "")
    off = abs(datetime.now(UTC) - server)
    text = f"this machine and the server differ by {round(off.total_seconds())} s"
    if off <= CLOCK_WARNING:
        return Check("clock", Status.OK, text)
    status = Status.FAILED if off > CLOCK_FAILURE else Status.WARNING
    return Check("clock", status, text, "set this machine's clock by NTP; logins with a certificate fail otherwise")


class _Visit:
    """Questions asked once the login has succeeded."""

    def __init__(self, client: Client, user: str) -> None:
        self._client = client
        self._channel = client.channel("doctor")
        self._root = client.config.api_root
        self._user = user

    def checks(self, entities: Sequence[EntityConfig]) -> Iterator[Check]:
        """Metadata, then each entity, several asked at once."""
        yield self._metadata(entities)
        held = privileges.ask_held(self._channel, self._root, self._user)
        if held is None:
            text = "the roles of the application user cannot be read, so nobody knows whether records are hidden"
            yield Check("read depth", Status.WARNING, text, _READ_EVERYTHING)
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="doctor") as pool, self._client.interruptible():
            for found in pool.map(lambda entity: list(self._entity(entity, held)), entities):
                yield from found

    def _metadata(self, entities: Sequence[EntityConfig]) -> Check:
        try:
            self._channel.get(self._root + metadata.options_url(LogicalName(entities[0].name), OptionKind.STATE))
        except SourceError as exc:
            return _without_definitions(exc)
        return Check("metadata", Status.OK, "definitions, columns and option sets may be read")

    def _entity(self, entity: EntityConfig, held: Mapping[str, Privilege] | None) -> Iterator[Check]:
        table = self._table(entity)
        if table is None:
            yield Check(entity.name, Status.WARNING, "not in the environment", "check its name, or leave it out")
            return
        yield self._read(entity, table)
        if held is not None:
            yield _depth(entity, table, held)
        yield _tracking(entity, table)

    def _table(self, entity: EntityConfig) -> _Table | None:
        """What its definition tells; nothing but its name where definitions may not be read; None if there is none."""
        for wanted in _SELECTS:
            try:
                reply = self._channel.get(f"{self._root}{listing.entity_url(entity.name)}?$select={wanted}")
                return _TABLE.decode(reply.body)
            except SourceError as exc:
                if exc.status == HTTPStatus.NOT_FOUND:
                    return None
            except msgspec.DecodeError:
                continue
        return _Table(entity.api_name)

    def _read(self, entity: EntityConfig, table: _Table) -> Check:
        select_key = (table.primary_id_attribute,) if table.primary_id_attribute else ()
        url = entity_url(self._root, table.entity_set_name or entity.api_name, select=select_key, top=1)
        try:
            self._channel.get(url)
        except SourceError as exc:
            return Check(f"{entity.name}: read", Status.FAILED, str(exc), _remedy_of_read(entity, exc))
        return Check(f"{entity.name}: read", Status.OK, "may be read")


def _is_servers_fault(exc: SourceError) -> bool:
    """Whether the environment itself failed or is busy, so that no right and no setting would mend it."""
    is_failing = exc.status is not None and exc.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return is_failing or (exc.retryable and exc.status is not None)


def _without_definitions(exc: SourceError) -> Check:
    """What a refused or failed question for definitions means for a run: see ``discovery``."""
    if exc.status == HTTPStatus.NOT_FOUND:
        return Check("metadata", Status.OK, "definitions may be read")
    if _is_servers_fault(exc) or exc.status is None:
        return Check("metadata", Status.FAILED, f"the server does not give definitions: {exc}", _SERVER_FAILS)
    text = f"labels come from records alone: {exc}"
    if exc.status == HTTPStatus.FORBIDDEN:
        return Check("metadata", Status.WARNING, text, _READ_DEFINITIONS)
    return Check("metadata", Status.WARNING, text, _ASK_WHY)


def _remedy_of_read(entity: EntityConfig, exc: SourceError) -> str:
    if _is_servers_fault(exc) or exc.status is None:
        return _SERVER_FAILS
    if exc.status == HTTPStatus.FORBIDDEN:
        return f"give the role of the application user read on {entity.name}, at organization level"
    return "leave the table out if the Web API offers no list of its records"


def _depth(entity: EntityConfig, table: _Table, held: Mapping[str, Privilege]) -> Check:
    """How much of the table the user sees."""
    name = f"{entity.name}: read depth"
    reading_it = next((one for one in table.privileges if one.privilege_type == "Read"), None)
    if reading_it is None:
        return Check(name, Status.WARNING, "unknown: its definition tells no read privilege", _READ_EVERYTHING)
    mine = held.get(reading_it.privilege_id)
    if mine is None:
        return Check(name, Status.WARNING, "its role has no read privilege of its own", _READ_EVERYTHING)
    if not mine.is_known:
        text = f"unknown: its role reads at a depth told as {mine.depth!r}, so nobody knows whether records are hidden"
        return Check(name, Status.WARNING, text, _READ_EVERYTHING)
    text = f"its role reads at depth {mine.name}"
    if mine.is_everything:
        return Check(name, Status.OK, text)
    return Check(name, Status.WARNING, f"{text}: other records are hidden", _READ_EVERYTHING)


def _tracking(entity: EntityConfig, table: _Table) -> Check:
    name = f"{entity.name}: change tracking"
    if table.change_tracking_enabled is None:
        text = "unknown, since its definition cannot be read; it counts as off"
        return Check(name, Status.WARNING, text, "see the line on metadata")
    if table.change_tracking_enabled:
        return Check(name, Status.OK, "on")
    if table.is_intersect:
        return Check(name, Status.OK, "off, as on every N:N table; it is tracked where both its tables are")
    remedy = "switch on Track changes in the table's properties, for fewer requests and deletions seen at once"
    return Check(name, Status.WARNING, "off", remedy)


def _database(config: Config) -> Check:
    try:
        return _writable(config)
    except ConfigError as exc:
        return Check("database", Status.FAILED, "; ".join(exc.faults), "name a file that may be written")
    except SyncError as exc:
        return Check("database", Status.FAILED, str(exc), "see that it runs, and that address and password are right")


def _writable(config: Config) -> Check:
    database = Database(config)
    with reading(config) as conn:
        if database.is_postgres and (lack := rights.find_lack(conn)):
            return Check("database", Status.FAILED, lack.text, lack.remedy)
        if str(_LOCK.name) in inspect(conn).get_table_names():
            held = conn.execute(select(_LOCK)).mappings().first()
            holder = SyncLock.model_validate(dict(held)) if held else None
            if holder and is_alive(holder, datetime.now(UTC)):
                text = f"held by run {holder.token}, process {holder.pid} on {holder.host}"
                return Check("database", Status.WARNING, text, "wait for it to end")
    return Check("database", Status.OK, f"{database.kind}, may be written")
