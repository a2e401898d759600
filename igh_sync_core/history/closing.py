"""Statements that end versions, built once for all tables; ``versions`` says when.

Those about to be closed stand on the list ``closing``: a temporary table where the database finds them itself, and
parameters where the program has them.
"""

from sqlalchemy import ColumnElement, FromClause, Insert, Update, bindparam, func, insert, literal, select, update

from igh_sync_core.history import duplicates
from igh_sync_core.history.staging import Condition
from igh_sync_core.schema.tables import CLOSING, EntityTables, closing_given
from igh_sync_core.store.dialect import Instant, later_of, one_second_after
from igh_sync_core.store.driver import Prepared


@Prepared
def mark_absent(about: tuple[Condition, EntityTables, bool]) -> Insert:
    """Put every open version for which a condition does not hold on the list; parameters ``stamp`` and ``of``."""
    presence, tables, may_be_doubled = about
    main = tables.main
    is_current: list[ColumnElement[bool]] = [main.c.valid_to.is_(None)]
    if may_be_doubled:  # then the newest of them
        is_current.append(~duplicates.is_superseded(tables))
    stamp = bindparam("stamp", type_=Instant())
    boundary = func.coalesce(later_of(stamp, one_second_after(main.c.valid_from)), stamp)
    absent = select(main.c.row_id, main.c[tables.spec.key], boundary, literal("absent"))
    return insert(tables.closing).from_select(CLOSING, absent.where(*is_current, ~presence(tables)))


@Prepared
def close_listed(tables: EntityTables) -> Update:
    """Close those on the list in the temporary table."""
    return _ending(tables, tables.closing)


@Prepared
def close_given(about: tuple[str, EntityTables]) -> Update:
    """Close those on the list that parameters carry."""
    engine, tables = about
    return _ending(tables, closing_given(engine, tables))


def _ending(tables: EntityTables, closing: FromClause) -> Update:
    main = tables.main
    ends = {"valid_to": closing.c.boundary, "closed_reason": closing.c.reason}
    return update(main).where(main.c.row_id == closing.c.row_id).values(ends)
