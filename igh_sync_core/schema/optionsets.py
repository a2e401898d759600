"""The tables of the codes that occur: ``_optionset_{field}``, one for all entities that have the field."""

from functools import lru_cache

from sqlalchemy import Column, Integer, MetaData, Table, Text

from igh_sync_core.schema.tables import identifier
from igh_sync_core.store.dialect import Instant


def optionset_name(field: str) -> str:
    """Name of the table of the codes that occur in one field."""
    return identifier(f"_optionset_{field}")


@lru_cache(maxsize=4096)
def optionset_table(field: str) -> Table:
    """The table of the codes of one field: ``code``, ``label``, ``first_seen``."""
    return codes_table(optionset_name(field))


def codes_table(name: str) -> Table:
    """The same under a name that is known already, such as a place in a statement."""
    return Table(
        name,
        MetaData(),
        Column("code", Integer, primary_key=True, autoincrement=False),
        Column("label", Text, nullable=False),
        Column("first_seen", Instant, nullable=False),
        quote=True,
    )
