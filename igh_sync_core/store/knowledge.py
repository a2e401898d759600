"""What was learnt of the environment, kept as JSON under names in ``_sync_metadata`` for every process and later runs.

A version says as of when it holds. Everything here runs inside the caller's transaction.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Delete, Insert, Select, bindparam, delete, select

from igh_sync_core.store.control import SyncMetadata
from igh_sync_core.store.dialect import is_one_of, listed, upsert
from igh_sync_core.store.driver import Prepared

_METADATA = SyncMetadata.metadata.tables["_sync_metadata"]


def put(conn: Connection, name: str, value: object, *, version: str = "") -> None:
    """Keep *value* under *name*, in place of what was there."""
    text = msgspec.json.encode(value).decode()
    _put.execute(conn, conn.dialect.name, name=name, version=version, fetched_at=datetime.now(UTC), value=text)


def named(conn: Connection, names: Sequence[str]) -> dict[str, str]:
    """What is kept under *names*, as far as anything is: JSON texts, by name."""
    return dict(_named.rows(conn, None, names=listed(conn.dialect.name, names)))


def of_version(conn: Connection, version: str) -> dict[str, str]:
    """Everything kept as of *version*: JSON texts, by name."""
    return dict(_of_version.rows(conn, None, version=version))


def forget(conn: Connection, prefix: str) -> None:
    """Drop everything whose name begins so."""
    _forget.execute(conn, prefix)


@Prepared
def _put(engine: str) -> Insert:
    return upsert(engine, _METADATA)


@Prepared
def _named(_: None) -> Select[Any]:
    return select(_METADATA.c.name, _METADATA.c.value).where(is_one_of(_METADATA.c.name, "names"))


@Prepared
def _of_version(_: None) -> Select[Any]:
    return select(_METADATA.c.name, _METADATA.c.value).where(_METADATA.c.version == bindparam("version"))


@Prepared
def _forget(prefix: str) -> Delete:
    return delete(_METADATA).where(_METADATA.c.name.startswith(prefix, autoescape=True))
