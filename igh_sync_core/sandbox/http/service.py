"""The sandbox itself: a request goes in, a reply comes out.

Two doors lead here: ``Sandbox.handle`` for ``httpx.MockTransport``, and the HTTPS server of ``server``.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import format_datetime
from http import HTTPStatus
from threading import Lock
from typing import Final
from uuid import uuid4

import httpx

from igh_sync_core.sandbox.data.organisation import Organisation
from igh_sync_core.sandbox.faults import FaultPlan, replacement, spoil
from igh_sync_core.sandbox.http.login import Login, Registration
from igh_sync_core.sandbox.metadata.csdl import write_csdl
from igh_sync_core.sandbox.metadata.definitions import Definitions
from igh_sync_core.sandbox.metadata.privileges import HELD, held
from igh_sync_core.sandbox.queries.query import read_preferences
from igh_sync_core.sandbox.queries.routes import DataDoor, Request
from igh_sync_core.sandbox.replies import Refusal, Reply, json_reply, refuse

CLIENT_ID: Final = "5b0d4ff8-1d2c-4f7f-9d4b-6a6a0f0c1a01"
CLIENT_SECRET: Final = "sandbox~secret.Q7x"  # noqa: S105 - opens nothing but the sandbox
TENANT_ID: Final = "7c3f5f0a-2b7e-4a55-8a0e-3d9a1c2b4e10"
LONGEST_URL: Final = 32_768
API = re.compile(r"/api/data/v(?:8\.[012]|9\.[0-2])/?(.*)")
METADATA = ("EntityDefinitions", "RelationshipDefinitions", "GlobalOptionSetDefinitions")
LOGGED = ("prefer", "accept", "if-none-match", "consistency", "user-agent")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that came in and the status it was answered with; headers, lower-case, are those worth a look."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    status: int


@dataclass(slots=True)
class Access:
    """What the sync user may not do.

    Attributes:
        denied: Logical names it has no read privilege for.
        depths: How far it may read, by logical name, where not the whole organisation.
        unsorted: Logical names whose rows refuse ``$orderby``.
    """

    denied: set[str] = field(default_factory=set)
    depths: dict[str, str] = field(default_factory=dict)
    unsorted: set[str] = field(default_factory=set)
    is_metadata_denied: bool = False
    has_application_user: bool = True


class Sandbox:
    """A Dataverse environment with one app registration.

    Attributes:
        log: Every request that arrived, token requests included, oldest first.
        faults: Faults still to come.
        latency_s: Seconds added to each reply of the API.

    Args:
        organisation: Its data; several sandboxes may share one.
        authority_host: Origin of the login service that the challenge names.
    """

    def __init__(
        self,
        organisation: Organisation,
        *,
        client_id: str = CLIENT_ID,
        client_secret: str = CLIENT_SECRET,
        tenant_id: str = TENANT_ID,
        authority_host: str = "https://login.microsoftonline.com",
    ) -> None:
        self.organisation = organisation
        self.login = Login(Registration(client_id, client_secret, tenant_id, authority_host))
        self.log: list[Arrival] = []
        self.faults = FaultPlan()
        self.latency_s = 0.0
        self.bytes_sent = 0
        self._access = Access()
        self._data = DataDoor(organisation, self._access)
        self._definitions = Definitions(organisation)
        self._counting = Lock()

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer *request*; blocks for injected delays. For ``httpx.MockTransport``."""
        body = request.read()
        reply = self.respond(Request.of(request.method, sent_address(request), request.headers, body))
        if reply.delay_s:
            time.sleep(reply.delay_s)
        if reply.cut_after is not None:
            return httpx.Response(reply.status, headers=reply.headers, stream=_Cut(reply.body[: reply.cut_after]))
        return httpx.Response(reply.status, headers=reply.headers, content=reply.body)

    def respond(self, request: Request) -> Reply:
        """Answer *request* without waiting; records it."""
        reply = self.login.respond(request.url, request.body) or self._respond_api(request)
        reply.headers.setdefault("Date", format_datetime(self.organisation.clock.now(), usegmt=True))
        headers = {name: request.headers[name] for name in LOGGED if name in request.headers}
        with self._counting:
            self.bytes_sent += len(reply.body)
            self.log.append(Arrival(request.method, request.path, request.query, headers, reply.status))
        return reply

    def _respond_api(self, request: Request) -> Reply:
        fault = self.faults.take(request.target)
        reply = replacement(fault) if fault else None
        if reply is None:
            reply = self._answer(request._replace(fault=fault))
        if fault is not None:
            spoil(fault, reply)
        reply.delay_s += self.latency_s
        reply.headers |= self._service_headers(reply.status)
        return reply

    def _service_headers(self, status: int) -> dict[str, str]:
        """Ids of the request, cookies of the load balancer, and on success what is left of the limits."""
        request_id = str(uuid4())
        ids = {
            "REQ_ID": request_id,
            "x-ms-service-request-id": request_id,
            "Set-Cookie": "ARRAffinity=a1b2; path=/; HttpOnly",
        }
        if status >= HTTPStatus.BAD_REQUEST:
            return ids
        left = max(0, 6000 - len(self.log) % 6000)
        return ids | {
            "x-ms-dop-hint": "4",
            "x-ms-ratelimit-burst-remaining-xrm-requests": str(left),
            "x-ms-ratelimit-time-remaining-xrm-requests": f"{left / 5:,.2f}",
        }

    def _answer(self, request: Request) -> Reply:
        route = API.fullmatch(request.path)
        if not self.login.admits(request.headers.get("authorization", ""), request.origin):
            return self.login.challenge(request.origin)
        try:
            with self.organisation.lock:
                return self._route(request, route[1] if route else None)
        except Refusal as refusal:
            return refusal.reply(is_annotated="*" in read_preferences(request.headers.get("prefer", "")).annotations)

    def _route(self, request: Request, path: str | None) -> Reply:
        if not self._access.has_application_user:
            refuse("The user is not a member of the organization.", "0x80072560", status=403)
        if path is None:
            return Reply(404, b"<html><body>Not found</body></html>", {"Content-Type": "text/html"})
        if len(request.target) > LONGEST_URL:
            return Reply(414, b"Request-URI Too Long", {"Content-Type": "text/plain"})
        if request.method != "GET":
            refuse(f"The HTTP method '{request.method}' is not supported here.", "0x80060888", status=405)
        if path.startswith(METADATA) or path == "$metadata":
            return self._schema(request, path)
        return self._function(request, path) or self._data.respond(request, path)

    def _schema(self, request: Request, path: str) -> Reply:
        if self._access.is_metadata_denied:
            message = "SecLib::CheckPrivilege failed. PrivilegeName: prvReadEntity, Required Depth: Basic"
            refuse(message, "0x80040220", status=403)
        if path == "$metadata":
            return Reply(
                200, write_csdl(self.organisation), {"Content-Type": "application/xml", "OData-Version": "4.0"}
            )
        return self._definitions.respond(path, request.query, request.root)

    def _function(self, request: Request, path: str) -> Reply | None:
        if path == "":
            sets = [{"name": name, "kind": "EntitySet", "url": name} for name in sorted(self.organisation.by_set)]
            return json_reply({"@odata.context": f"{request.root}$metadata", "value": sets})
        if path in {"WhoAmI", "WhoAmI()"}:
            return json_reply(
                {"@odata.context": f"{request.root}$metadata#Microsoft.Dynamics.CRM.WhoAmIResponse"} | self._me()
            )
        asked = HELD.fullmatch(path)
        return self._privileges(request, asked[1].lower()) if asked else None

    def _privileges(self, request: Request, user: str) -> Reply:
        """What the one user there is may read; rights of others are not told apart."""
        if user not in self.organisation.keys("systemuser"):
            refuse(f"Entity 'systemuser' With Id = {user} Does Not Exist", "0x80040217", status=404)
        tables = self.organisation.tables.values()
        readable = [table.shape for table in tables if table.logical_name not in self._access.denied]
        unit = next(iter(self.organisation.keys("businessunit")), None)
        context = f"{request.root}$metadata#Microsoft.Dynamics.CRM.RetrieveUserPrivilegesResponse"
        return json_reply({"@odata.context": context, "RolePrivileges": held(readable, self._access.depths, unit)})

    def _me(self) -> dict[str, object]:
        tables = {"BusinessUnitId": "businessunit", "UserId": "systemuser", "OrganizationId": "organization"}
        return {name: next(iter(self.organisation.keys(table)), None) for name, table in tables.items()}

    def issue_token(self, origin: str = "https://org.crm.dynamics.com") -> str:
        """A valid token for the API at *origin*, for tests that skip the login."""
        return self.login.issue(origin)

    def accept_certificate(self, pem: bytes | str) -> None:
        """Let client assertions signed with this RSA certificate log in."""
        self.login.accept_certificate(pem)

    def revoke_tokens(self) -> None:
        """Answer 401 to every token issued so far."""
        self.login.revoke()

    @property
    def token_lifetime_s(self) -> int:
        """Seconds that tokens issued from now on are good for."""
        return self.login.lifetime_s

    @token_lifetime_s.setter
    def token_lifetime_s(self, seconds: int) -> None:
        self.login.lifetime_s = seconds

    def deny(self, entity: str) -> None:
        """Take away the read privilege for a table."""
        self._access.denied.add(entity)

    def limit(self, entity: str, depth: str) -> None:
        """Let the user's role read a table at *depth*: ``Basic``, ``Local``, ``Deep``, ``Global``; see ``hide``."""
        self._access.depths[entity] = depth

    def allow(self, entity: str) -> None:
        """Give the read privilege back."""
        self._access.denied.discard(entity)

    def deny_metadata(self) -> None:
        """Take away the privilege to read definitions and ``$metadata``."""
        self._access.is_metadata_denied = True

    def hide(self, entity: str, key: str) -> None:
        """Keep a row from the user by row security: it is silently absent."""
        self.organisation.tables[entity].hidden.add(key)

    def reveal(self, entity: str, key: str) -> None:
        """End what ``hide`` did."""
        self.organisation.tables[entity].hidden.discard(key)

    def secure(self, entity: str, column: str) -> None:
        """Keep a column from the user by column security: it is null everywhere."""
        self.organisation.tables[entity].secured.add(column)

    def refuse_order_by(self, entity: str) -> None:
        """Answer 400 to ``$orderby`` on a table."""
        self._access.unsorted.add(entity)

    @property
    def no_application_user(self) -> bool:
        """Whether the environment lacks a user for the app, so that every request ends in 403."""
        return not self._access.has_application_user

    @no_application_user.setter
    def no_application_user(self, value: bool) -> None:
        self._access.has_application_user = not value


def sent_address(request: httpx.Request) -> str:
    """The address as it would go over the wire, whatever httpx shows of it."""
    return f"{request.url.scheme}://{request.url.netloc.decode()}{request.url.raw_path.decode()}"


class _Cut(httpx.SyncByteStream):
    """A body that ends before its time."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self._body
        msg = "peer closed connection without sending complete message body"
        raise httpx.RemoteProtocolError(msg)
