"""Which record and column a value came from that PostgreSQL refused: errors name them, and never show the value."""

import re
from collections.abc import Sequence
from typing import Any

import psycopg
from sqlalchemy.exc import DataError

from igh_sync_core import errors
from igh_sync_core.model import TableSpec

_PLACE = re.compile(r"^COPY .*?, line (\d+)(?:, column (\w+))?", re.MULTILINE)
_BYTES = re.compile(r" with byte sequence(?: 0x[0-9a-f]{2})+")


def named(spec: TableSpec, keys: Sequence[Any], refusal: DataError) -> Exception:
    """The error to raise for a refused COPY: one that names record and column, or *refusal* itself.

    Args:
        spec: The entity.
        keys: Keys of the rows, in the order they were copied.
        refusal: What the database said; a text too long stays as it is, since room can be made for it.
    """
    if isinstance(refusal.orig, psycopg.errors.StringDataRightTruncation) or not isinstance(
        refusal.orig, psycopg.Error
    ):
        return refusal
    place = _PLACE.search(refusal.orig.diag.context or "")
    if place is None:
        return refusal
    who = f"{spec.logical_name} {keys[int(place[1]) - 1]}"
    what = _BYTES.sub("", (refusal.orig.diag.message_primary or "").partition(":")[0])
    if place[2] is None:
        # A character that the database's own encoding lacks is met before the columns are told apart.
        return errors.DataError(f"{who}: the database cannot hold the record: {what}")
    return errors.DataError(f"{who}: column `{place[2]}` cannot hold the value received: {what}")
