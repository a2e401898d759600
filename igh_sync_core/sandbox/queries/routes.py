"""Requests for rows: which table, which of its readings, and whether the user may."""

import re
from collections.abc import Mapping
from typing import NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from msgspec import json

from igh_sync_core.sandbox.data.organisation import Organisation
from igh_sync_core.sandbox.data.table import Table
from igh_sync_core.sandbox.faults import Fault
from igh_sync_core.sandbox.queries.pages import Asked, Pages
from igh_sync_core.sandbox.queries.query import read_preferences, read_query, split
from igh_sync_core.sandbox.queries.tracking import Tracking
from igh_sync_core.sandbox.replies import Reply, json_reply, refuse, refuse_segment

ONE = re.compile(r"(\w+)\((?:\w+=)?([0-9a-fA-F-]{36})\)")
TOTALS = re.compile(r"RetrieveTotalRecordCount\(EntityNames=(@\w+|\[.*\])\)")
_NAMES = json.Decoder(list[str])


class Request(NamedTuple):
    """A request as both doors hand it over; header names are lower-case."""

    method: str
    url: str
    origin: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    fault: Fault | None = None

    @classmethod
    def of(cls, method: str, url: str, headers: Mapping[str, str], body: bytes) -> "Request":
        """A request from its parts; *url* is absolute and still encoded."""
        parts = urlsplit(url)
        lower = {name.lower(): value for name, value in headers.items()}
        return cls(method, url, f"{parts.scheme}://{parts.netloc}", unquote(parts.path), parts.query, lower, body)

    @property
    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def root(self) -> str:
        """Absolute address of the API, ending with ``/``."""
        return f"{self.origin}{'/'.join(self.path.split('/')[:4])}/"


class Rules(Protocol):
    """What the user may not read or sort; see ``service.Access``."""

    denied: set[str]
    unsorted: set[str]


class DataDoor:
    """Answers requests for rows of one organisation; call under its lock."""

    def __init__(self, organisation: Organisation, rules: Rules) -> None:
        self._organisation = organisation
        self._rules = rules
        self._pages = Pages(organisation)
        self._tracking = Tracking(organisation, self._pages)

    def respond(self, request: Request, path: str) -> Reply:
        """The answer for *path* below the API root.

        Raises:
            Refusal: What Dataverse answers with an OData error.
        """
        totals = TOTALS.fullmatch(path)
        if totals:
            return self._totals(request, totals[1])
        one = ONE.fullmatch(path)
        if one:
            asked = self._asked(request, one[1])
            return self._pages.one(asked, one[2].lower(), if_none_match=request.headers.get("if-none-match", ""))
        if path.endswith("/$count"):
            return self._count(self._asked(request, path.removesuffix("/$count")))
        return self._list(self._asked(request, path))

    def _list(self, asked: Asked) -> Reply:
        query = asked.query
        is_tracking = asked.preferences.track_changes or query.token is not None
        if is_tracking or (query.cookie is not None and query.cookie.is_tracking):
            return self._tracking.read(asked)
        return self._pages.list_rows(asked)

    def _count(self, asked: Asked) -> Reply:
        token = asked.query.token
        return self._pages.count(asked) if token is None else self._tracking.count(asked, token)

    def _asked(self, request: Request, entity_set: str) -> Asked:
        table = self._table(entity_set)
        query = read_query(request.query, table)
        if "$orderby" in query.options and table.logical_name in self._rules.unsorted:
            message = f"The $orderby expression of type 'Microsoft.Dynamics.CRM.{table.logical_name}' is not supported."
            refuse(message)
        return Asked(
            table=table,
            query=query,
            preferences=read_preferences(request.headers.get("prefer", "")),
            address=f"{request.root}{entity_set}",
            root=request.root,
            fault=request.fault,
        )

    def _table(self, entity_set: str) -> Table:
        table = self._organisation.table_of_set(entity_set)
        if table is None:
            refuse_segment(entity_set)
        if table.logical_name in self._rules.denied:
            refuse(self._privilege(table), "0x80040220", status=403)
        return table

    def _privilege(self, table: Table) -> str:
        user = (
            next(iter(self._organisation.keys("systemuser")), "") if "systemuser" in self._organisation.tables else ""
        )
        name, code = table.logical_name, table.shape.type_code
        return (
            f"Principal user (Id={user}, type=8, roleCount=1, privilegeCount=783, accessMode=0), is missing "
            f"prvRead{name} privilege (Id={user}) on OTC={code} for entity '{name}' (LocalizedName='{name}'). "
            f"context.Caller={user}."
        )

    def _totals(self, request: Request, names: str) -> Reply:
        text = dict(split(request.query)).get(names, "") if names.startswith("@") else names
        wanted = _NAMES.decode(text.replace("'", '"') or "[]")
        missing = [name for name in wanted if name not in self._organisation.tables]
        if missing:
            refuse(f"The entity with a name = '{missing[0]}' was not found in the MetadataCache.", "0x80041102")
        counts = [self._organisation.count(name) for name in wanted]
        collection = {"Count": len(wanted), "IsReadOnly": False, "Keys": wanted, "Values": counts}
        context = f"{request.root}$metadata#Microsoft.Dynamics.CRM.RetrieveTotalRecordCountResponse"
        return json_reply({"@odata.context": context, "EntityRecordCountCollection": collection})
