"""Change tracking: the first full read, and deltas after it.

A delta token is stamped when the *last* page is made. That is right for deltas, whose pages follow the version; after
a long first read, which follows the key, it hides changes to rows already given — the risk that Microsoft's
documentation leaves open.
"""

from datetime import timedelta
from itertools import chain, islice

from msgspec import json

from igh_sync_core.sandbox.data.organisation import Organisation
from igh_sync_core.sandbox.data.records import Found, Tombstone
from igh_sync_core.sandbox.data.table import Table
from igh_sync_core.sandbox.queries.cookies import Cookie, DeltaToken, Place, check_order, write_token
from igh_sync_core.sandbox.queries.pages import Asked, Pages, count_reply
from igh_sync_core.sandbox.queries.query import link
from igh_sync_core.sandbox.replies import Reply, refuse

REFUSED = ("$filter", "$orderby", "$expand", "$top")


class Tracking:
    """Serves changes of one organisation; call under its lock."""

    def __init__(self, organisation: Organisation, pages: Pages) -> None:
        self._organisation = organisation
        self._pages = pages

    def read(self, asked: Asked) -> Reply:
        """One page of the first read or of a delta.

        Raises:
            Refusal: 400, the table is not tracked, the options do not go with tracking, or the token has expired.
        """
        check_tracked(asked.table, self._organisation)
        for name in REFUSED:
            if name in asked.query.options:
                refuse(f'The "{name}" query parameter isn\'t supported when Change Tracking is enabled.')
        if asked.query.token is None or self._is_expired(asked.table, asked.query.token):
            return self._first(asked)
        return self._delta(asked, asked.query.token)

    def count(self, asked: Asked, token: DeltaToken) -> Reply:
        """``/$count?$deltatoken=…``: rows changed and deleted."""
        check_tracked(asked.table, self._organisation)
        if self._is_expired(asked.table, token):
            return self._pages.count(asked)
        changed = sum(1 for _ in self._changed(asked, token.version))
        return count_reply(changed + len(asked.table.rows.tombstones_since(token.version)))

    def _is_expired(self, table: Table, token: DeltaToken) -> bool:
        """Whether *token* is too old and the server would answer with everything; else an error."""
        age = self._organisation.clock.now() - token.issued
        if token.version >= table.oldest_token and age <= timedelta(days=self._organisation.tracking_days()):
            return False
        if not self._organisation.expired_token_returns_everything:
            message = "Version stamp associated with the client has expired. Please perform a full sync."
            refuse(message, "0x80044352")
        return True

    def _first(self, asked: Asked) -> Reply:
        limit = asked.page_rows
        found = list(islice(self._pages.selection.select(asked.table, asked.query), limit + 1))
        rows = found[:limit]
        cookie = None
        if len(found) > limit:
            cookie = self._pages.selection.cookie(asked.table, asked.query, rows)._replace(is_tracking=True)
        head = self._head(asked, asked.context, is_last=cookie is None)
        return self._pages.page(asked, head, self._pages.render(asked, rows), cookie=cookie)

    def _delta(self, asked: Asked, token: DeltaToken) -> Reply:
        """Changed rows by version, then tombstones; a page may hold both."""
        limit = asked.page_rows
        row_floor, tombstone_floor = _floors(asked, token)
        graves = asked.table.rows.tombstones_since(max(token.version, tombstone_floor))
        found = list(islice(chain(self._changed(asked, row_floor), graves), limit + 1))
        page = found[:limit]
        rows = [row for row in page if not isinstance(row, Tombstone)]
        deleted = [grave for grave in page if isinstance(grave, Tombstone)]
        rendered = self._pages.render(asked, rows) + [_tombstone(asked, grave) for grave in deleted]
        cookie = None
        if len(found) > limit:
            last_row = asked.table.rows.version(rows[-1]) if rows else row_floor
            cookie = _delta_cookie(asked, last_row, deleted[-1].version if deleted else tombstone_floor)
        head = self._head(asked, f"{asked.context}/$delta", is_last=cookie is None)
        token_text = write_token(token)
        return self._pages.page(asked, head, rendered, cookie=cookie, deltatoken=token_text)

    def _changed(self, asked: Asked, since: int) -> "chain[Found]":
        hidden = asked.table.hidden
        rows = asked.table.rows
        return chain(row for row in rows.by_version(since) if not hidden or rows.key(row) not in hidden)

    def _head(self, asked: Asked, context: str, *, is_last: bool) -> dict[str, object]:
        head: dict[str, object] = {"@odata.context": context}
        if asked.preferences.includes("Microsoft.Dynamics.CRM.globalmetadataversion"):
            head |= self._pages.metadata_version()
        if is_last:
            token = DeltaToken(self._organisation.version, self._organisation.clock.now())
            head["@odata.deltaLink"] = link(asked.address, asked.query, deltatoken=write_token(token))
        return head


def check_tracked(table: Table, organisation: Organisation) -> None:
    """Refuse a table that keeps no track of its changes.

    Raises:
        Refusal: 400 with the code for ordinary or for N:N tables.
    """
    shape = table.shape
    if shape.is_intersect and not all(organisation.tables[end.targets[0]].shape.is_tracked for end in shape.ends):
        message = (
            f"Changes cannot be retrieved for intersect entity {shape.logical_name} "
            "since both related entities are not enabled for change tracking."
        )
        refuse(message, "0x80072492")
    if not shape.is_tracked:
        refuse(f"Entity {shape.logical_name} isn't enabled for change tracking.", "0x80072491")


def _floors(asked: Asked, token: DeltaToken) -> tuple[int, int]:
    cookie = asked.query.cookie
    if cookie is None:
        return token.version, token.version
    check_order(cookie, ["versionnumber", "deletedversion"])
    row, grave = (int(last or 0) for last in cookie.last)
    return row, grave


def _delta_cookie(asked: Asked, row: int, grave: int) -> Cookie:
    places = (Place("versionnumber", str(row), str(row)), Place("deletedversion", str(grave), str(grave)))
    return Cookie(asked.query.cookie.page + 1 if asked.query.cookie else 2, places, is_tracking=True)


def _tombstone(asked: Asked, grave: Tombstone) -> bytes:
    context = f"{asked.root}$metadata#{asked.table.entity_set}/$deletedEntity"
    return json.encode({"@odata.context": context, "id": grave.key, "reason": "deleted"})
