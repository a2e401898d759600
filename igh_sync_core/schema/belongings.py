"""What users gave to a view of ours, which has it again when it is made anew: rights, options and comments.

PostgreSQL alone: a view whose columns change must be dropped there, and all that was given to it goes with it. SQLite
knows none of these.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Text, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql.compiler import DDLCompiler

_RIGHT, _OPTION, _COMMENT, _OWNER = "right", "option", "comment", "owner"

_GIVEN = text(
    """
    WITH own AS (
        SELECT c.oid, c.relname, c.relowner, c.reloptions, coalesce(c.relacl, acldefault('r', c.relowner)) AS rights
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'v' AND n.nspname = current_schema() AND c.relname = ANY(:names)
    ), part AS (
        SELECT own.relname, a.attrelid, a.attname, a.attnum, a.attacl
        FROM own JOIN pg_attribute a ON a.attrelid = own.oid
    ), given AS (
        SELECT relname, NULL::name AS attname, (aclexplode(rights)).* FROM own
        UNION ALL SELECT relname, attname, (aclexplode(attacl)).* FROM part
    )
    SELECT 'right', relname, attname, CASE WHEN grantee <> 0 THEN pg_get_userbyid(grantee) END, privilege_type,
        is_grantable FROM given
    UNION ALL SELECT 'option', relname, NULL, split_part(one, '=', 1), split_part(one, '=', 2), false
    FROM own, unnest(reloptions) AS one
    UNION ALL SELECT 'comment', relname, NULL, NULL, obj_description(oid, 'pg_class'), false
    FROM own WHERE obj_description(oid, 'pg_class') IS NOT NULL
    UNION ALL SELECT 'comment', relname, attname, NULL, col_description(attrelid, attnum), false
    FROM part WHERE col_description(attrelid, attnum) IS NOT NULL
    UNION ALL SELECT 'owner', relname, NULL, pg_get_userbyid(relowner), '', false FROM own
    """
)
_COLUMNS = text(
    "SELECT c.relname, a.attname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "JOIN pg_attribute a ON a.attrelid = c.oid "
    "WHERE c.relkind = 'v' AND n.nspname = current_schema() AND c.relname = ANY(:names)"
)


class _Gift(NamedTuple):
    """One thing given.

    Attributes:
        sort: ``right``, ``option``, ``comment`` or ``owner``.
        view: To what.
        column: To which part of it; None for the whole.
        whom: The role; None for everybody. Of an option its name.
        what: The privilege, the option's value or the comment; "" of an owner.
        is_grantable: Whether the role may pass the right on.
    """

    sort: str
    view: str
    column: str | None
    whom: str | None
    what: str
    is_grantable: bool


class _Give(ExecutableDDLElement):
    """``GRANT``, ``ALTER VIEW … SET`` or ``COMMENT``."""

    def __init__(self, gift: _Gift) -> None:
        self.gift = gift


class _TakeBack(ExecutableDDLElement):
    """``REVOKE``."""

    def __init__(self, gift: _Gift) -> None:
        self.gift = gift


@contextlib.contextmanager
def kept(conn: Connection, views: Collection[str]) -> Iterator[None]:
    """Give *views* that the block drops and makes anew what they had before, as far as their columns are there again.

    Args:
        conn: A connection inside a transaction.
        views: Their names; nothing is asked where there are none.
    """
    if not views or conn.dialect.name != "postgresql":
        yield
        return
    before = _given(conn, views)
    yield
    after = _given(conn, views)
    # Whoever makes a view owns it. Where that was another role, which it is a member of, it needs rights of its own.
    owners = {(gift.view, gift.whom) for gift in after - before if gift.sort == _OWNER}
    # Default privileges may have given more than somebody left it with.
    for gift in sorted(after - before, key=repr):
        if gift.sort == _RIGHT and (gift.view, gift.whom) not in owners:
            conn.execute(_TakeBack(gift))
    missing = sorted((gift for gift in before - after if gift.sort != _OWNER), key=repr)
    parts = _columns(conn, views) if missing else {}
    for gift in missing:
        if gift.view in parts and (gift.column is None or gift.column in parts[gift.view]):
            conn.execute(_Give(gift))


def _given(conn: Connection, views: Collection[str]) -> set[_Gift]:
    return {_Gift(*row) for row in conn.execute(_GIVEN, {"names": list(views)})}


def _columns(conn: Connection, views: Collection[str]) -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = {}
    for view, column in conn.execute(_COLUMNS, {"names": list(views)}):
        found.setdefault(view, set()).add(column)
    return found


@compiles(_Give)
def _give(element: _Give, compiler: DDLCompiler, **_options: Any) -> str:  # noqa: ANN401
    gift = element.gift
    view = compiler.preparer.quote_identifier(gift.view)
    if gift.sort == _RIGHT:
        onward = " WITH GRANT OPTION" if gift.is_grantable else ""
        return f"GRANT {_privilege(gift, compiler)} ON {view} TO {_role(gift, compiler)}{onward}"
    value = compiler.sql_compiler.render_literal_value(gift.what, Text())
    if gift.sort == _OPTION:
        return f"ALTER VIEW {view} SET ({compiler.preparer.quote_identifier(gift.whom or '')} = {value})"
    if gift.column is None:
        return f"COMMENT ON VIEW {view} IS {value}"
    return f"COMMENT ON COLUMN {view}.{compiler.preparer.quote_identifier(gift.column)} IS {value}"


@compiles(_TakeBack)
def _take_back(element: _TakeBack, compiler: DDLCompiler, **_options: Any) -> str:  # noqa: ANN401
    gift = element.gift
    view = compiler.preparer.quote_identifier(gift.view)
    return f"REVOKE {_privilege(gift, compiler)} ON {view} FROM {_role(gift, compiler)}"


def _privilege(gift: _Gift, compiler: DDLCompiler) -> str:
    """The server's own word for it, and the column that it is for."""
    of = "" if gift.column is None else f" ({compiler.preparer.quote_identifier(gift.column)})"
    return f"{gift.what}{of}"


def _role(gift: _Gift, compiler: DDLCompiler) -> str:
    return "PUBLIC" if gift.whom is None else compiler.preparer.quote_identifier(gift.whom)
