"""Answers to data queries: one page of rows with the links and annotations around it."""

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import NamedTuple

from msgspec import json

from igh_sync_core.sandbox.data.organisation import Organisation
from igh_sync_core.sandbox.data.records import Found
from igh_sync_core.sandbox.data.table import Table
from igh_sync_core.sandbox.faults import Fault, spoil_link, spoil_rows
from igh_sync_core.sandbox.queries.cookies import Cookie, bake
from igh_sync_core.sandbox.queries.query import Preferences, Query, link
from igh_sync_core.sandbox.queries.render import FORMATTED, LOGICAL_NAME, NAVIGATION, Projection, Renderer
from igh_sync_core.sandbox.queries.selection import Selection
from igh_sync_core.sandbox.replies import JSON_TYPE, Reply, refuse

MAX_COUNT = 5000
MAX_AGGREGATE = 50_000


class Asked(NamedTuple):
    """A data request on its way through the sandbox.

    Attributes:
        address: Absolute address of the entity set, without query.
        root: Absolute address of the API, ending with ``/``.
        fault: What is to go wrong in the page, or None.
    """

    table: Table
    query: Query
    preferences: Preferences
    address: str
    root: str
    fault: Fault | None = None

    @property
    def page_rows(self) -> int:
        """Rows of a page: what is preferred, at most what the table allows; fewer when a fault says so."""
        limit = self.table.shape.max_page_rows
        rows = min(self.preferences.page_rows or limit, limit)
        return max(1, rows // 2) if self.fault and self.fault.kind == "fewer" else rows

    @property
    def context(self) -> str:
        """``@odata.context`` of a plain answer."""
        selected = f"({','.join(self.query.selected)})" if self.query.selected else ""
        return f"{self.root}$metadata#{self.table.entity_set}{selected}"


class Pages:
    """Serves rows of one organisation; call under its lock."""

    def __init__(self, organisation: Organisation) -> None:
        self._organisation = organisation
        self._renderer = Renderer(organisation)
        self.selection = Selection(organisation)

    def list_rows(self, asked: Asked) -> Reply:
        """One page of a plain query."""
        if asked.query.aggregate:
            return self._aggregate(asked)
        limit = asked.page_rows
        top = asked.query.top if asked.preferences.page_rows is None else None
        rows = list(islice(self.selection.select(asked.table, asked.query), limit + 1))
        has_more = len(rows) > limit and top is None
        rows = rows[: limit if top is None else min(top, limit)]
        cookie = self.selection.cookie(asked.table, asked.query, rows) if has_more else None
        return self.page(
            asked, {"@odata.context": asked.context} | self._counts(asked), self.render(asked, rows), cookie=cookie
        )

    def _counts(self, asked: Asked) -> dict[str, object]:
        """``@odata.count`` and the annotations of the whole answer."""
        head: dict[str, object] = {}
        total = -1
        if asked.query.wants_count:
            total = self.selection.count(asked.table, asked.query, MAX_COUNT)
            head["@odata.count"] = min(total, MAX_COUNT)
        if asked.preferences.includes("Microsoft.Dynamics.CRM.globalmetadataversion"):
            head["@Microsoft.Dynamics.CRM.totalrecordcount"] = min(total, MAX_COUNT)
            head["@Microsoft.Dynamics.CRM.totalrecordcountlimitexceeded"] = total > MAX_COUNT
            head |= self.metadata_version()
        return head

    def metadata_version(self) -> dict[str, object]:
        """The annotation that moves with every schema edit."""
        return {"@Microsoft.Dynamics.CRM.globalmetadataversion": str(self._organisation.metadata_version)}

    def render(self, asked: Asked, rows: Iterable[Found]) -> list[bytes]:
        """*rows* as JSON under the projection asked for."""
        return self._renderer.render(asked.table, projection(asked), rows)

    def page(
        self, asked: Asked, head: Mapping[str, object], rows: list[bytes], *, cookie: Cookie | None, **added: str
    ) -> Reply:
        """The reply around rendered *rows*; a *cookie* makes a next link, *added* goes into it."""
        next_link = link(asked.address, asked.query, **added, skiptoken=bake(cookie)) if cookie else None
        if asked.fault is not None:
            rows = spoil_rows(asked.fault, rows)
            next_link = spoil_link(asked.fault, next_link, own=link_of(asked))
        start = json.encode(head)[:-1]
        end = b',"@odata.nextLink":' + json.encode(next_link) + b"}" if next_link else b"}"
        name = b'"items"' if asked.fault and asked.fault.kind == "missing_value" else b'"value"'
        body = b"".join((start, b",", name, b":[", b",".join(rows), b"]", end))
        return Reply(200, body, headers(asked.preferences))

    def one(self, asked: Asked, key: str, *, if_none_match: str) -> Reply:
        """A single row by its key.

        Raises:
            Refusal: 404, no such row or hidden from the user.
        """
        found = asked.table.rows.find(key)
        if found is None or key in asked.table.hidden:
            name = asked.table.logical_name
            refuse(f"Entity '{name}' With Id = {key} Does Not Exist", "0x80040217", status=404)
        if if_none_match == f'W/"{asked.table.rows.version(found)}"':
            return Reply(304)
        context = json.encode({"@odata.context": f"{asked.context}/$entity"})[:-1]
        return Reply(200, context + b"," + self.render(asked, [found])[0][1:], headers(asked.preferences))

    def count(self, asked: Asked) -> Reply:
        """``/$count``: plain text with a byte order mark, capped."""
        total = min(self.selection.count(asked.table, asked.query, MAX_COUNT), MAX_COUNT)
        return count_reply(total)

    def _aggregate(self, asked: Asked) -> Reply:
        found = re.fullmatch(r"aggregate\(\$count as (\w+)\)", asked.query.aggregate)
        if found is None:
            refuse("The sandbox aggregates $count alone.")
        total = self.selection.count(asked.table, asked.query)
        if total > MAX_AGGREGATE:
            message = "AggregateQueryRecordLimit exceeded. Cannot perform this operation."
            refuse(message, "0x8004E023")
        content = {"@odata.context": f"{asked.context}({found[1]})", "value": [{found[1]: total}]}
        return Reply(200, json.encode(content), headers(asked.preferences))


def projection(asked: Asked) -> Projection:
    """Columns and annotations that each row of the answer carries."""
    return Projection(
        columns=asked.query.columns,
        formatted=asked.preferences.includes(FORMATTED),
        logical_names=asked.preferences.includes(LOGICAL_NAME),
        navigations=asked.preferences.includes(NAVIGATION),
        secured=frozenset(asked.table.secured),
    )


def link_of(asked: Asked) -> str:
    """The address that was asked, with its own cookie, for links that lead in a circle."""
    added = {"skiptoken": bake(asked.query.cookie)} if asked.query.cookie else {}
    return link(asked.address, asked.query, **added)


def headers(preferences: Preferences) -> dict[str, str]:
    """Headers of a JSON answer."""
    applied = {"Preference-Applied": preferences.applied} if preferences.applied else {}
    return {"Content-Type": JSON_TYPE, "OData-Version": "4.0", **applied}


def count_reply(total: int) -> Reply:
    """A number as Dataverse sends it."""
    return Reply(200, b"\xef\xbb\xbf" + str(total).encode(), {"Content-Type": "text/plain", "OData-Version": "4.0"})
