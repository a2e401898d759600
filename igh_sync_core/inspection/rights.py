"""What keeps a run from writing to a PostgreSQL database, seen before it tries."""

from typing import NamedTuple

from sqlalchemy import Connection, text

from igh_sync_core.store.control import CONTROL

_ASK = text(
    """
    SELECT current_user, current_database(), current_schema(), current_setting('search_path'),
        pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on',
        has_schema_privilege(current_schema(), 'CREATE'), has_database_privilege(current_database(), 'TEMPORARY'),
        (SELECT min(pg_get_userbyid(c.relowner)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = current_schema() AND c.relname = ANY(:control) AND NOT pg_has_role(c.relowner, 'USAGE'))
    """
)


class Lack(NamedTuple):
    """What is missing, and what to do about it."""

    text: str
    remedy: str


def find_lack(conn: Connection) -> Lack | None:
    """What is missing first of all; None where a run may do everything it needs to.

    Args:
        conn: A connection to PostgreSQL.
    """
    control = [str(table.name) for table in CONTROL.sorted_tables]
    user, database, schema, path, is_read_only, may_create, may_temporary, owner = conn.execute(
        _ASK, {"control": control}
    ).one()
    if is_read_only:
        why = "it is a standby, or its default_transaction_read_only is on"
        return Lack("it is read-only", f"name the primary server, or switch that off: {why}")
    if schema is None:
        text = f"no schema of its search path ({path}) is there and may be used"
        return Lack(text, f"make one, and grant USAGE and CREATE on it to {user}")
    if not may_create:
        return Lack("tables may not be made", f"grant CREATE on schema {schema} to {user}")
    if not may_temporary:
        return Lack("temporary tables may not be made", f"grant TEMPORARY on database {database} to {user}")
    if owner is not None:
        text = f"the tables of the copy are owned by {owner}, and only an owner may extend them"
        return Lack(text, f"grant {owner} to {user}, or connect as {owner}")
    return None
