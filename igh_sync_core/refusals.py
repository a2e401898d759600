"""Which record and column a value came from that PostgreSQL refused: errors name them, and never show the value."""

import re
from collections.abc import Sequence
from typing import Any

import psycopg
from sqlalchemy.exc import DataError

from igh_sync_core import errors
from igh_sync_core.model import TableSpec

_PLACE = re.compile(r"COPY .*, line (\d+), column (\w+)")


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
    key, column = keys[int(place[1]) - 1], place[2]
    what = (refusal.orig.diag.message_primary or "").partition(":")[0]
    return errors.DataError(f"{spec.logical_name} {key}: column `{column}` cannot hold the value received: {what}")
