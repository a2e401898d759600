"""Are all references whole? Every current row's lookup and N:N columns against the current rows they point at.

One statement per table counts all its relations in one pass, whatever their number; only relations found dangling are
asked again, for a few of the missing ids.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, FromClause, and_, case, exists, func, or_, select

from igh_sync_core.model import TableSpec
from igh_sync_core.related.relations import OpenEnd, Relation, open_ends, relations_of
from igh_sync_core.report import RunReport
from igh_sync_core.schema.tables import entity_tables

SAMPLES = 5
_TOGETHER = 100
"""Relations counted by one statement at most; SQLite allows 2000 result columns, PostgreSQL 1664."""


class Finding(Struct, frozen=True, kw_only=True):
    """References of one column that lead nowhere.

    Attributes:
        table: Table of the rows that point.
        fk_column: Their column.
        referenced_table: Table pointed at.
        dangling_count: Current rows whose target has no current row.
        total_checked: Current rows that point at that table by this column.
        sample_ids: A few of the ids that are missing, distinct.
    """

    table: str
    fk_column: str
    referenced_table: str
    dangling_count: int
    total_checked: int
    sample_ids: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line for people."""
        counts = f"{self.dangling_count} of {self.total_checked} dangling"
        return f"{self.table}.{self.fk_column} → {self.referenced_table}: {counts}"


class Unchecked(Struct, frozen=True, kw_only=True):
    """References that cannot be checked, because their targets are not synced.

    Attributes:
        table: Table of the rows that point.
        fk_column: Their column.
        targets: Logical names that metadata gives and that are not synced; empty where metadata names none.
        count: Current rows with a reference by this column that was not checked.
    """

    table: str
    fk_column: str
    targets: tuple[str, ...]
    count: int

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.table}.{self.fk_column} → {', '.join(self.targets) or 'unknown'}: {self.count} not checked"


class Findings(Struct, frozen=True, kw_only=True):
    """What the verification found.

    Attributes:
        dangling: Relations with at least one dangling reference.
        unchecked: Columns whose references could not all be checked.
        relations: Relations checked.
        references: References checked.
    """

    dangling: tuple[Finding, ...] = ()
    unchecked: tuple[Unchecked, ...] = ()
    relations: int = 0
    references: int = 0

    @property
    def dangling_count(self) -> int:
        """Dangling references in all."""
        return sum(finding.dangling_count for finding in self.dangling)

    def is_within(self, tolerance: int) -> bool:
        """Whether at most *tolerance* references dangle in all."""
        return self.dangling_count <= tolerance


def verify(conn: Connection, specs: Sequence[TableSpec]) -> Findings:
    """Check every reference between the given tables; reads only.

    Args:
        conn: A connection inside a transaction.
        specs: The synced tables, all of them stored.
    """
    relations = relations_of(specs)
    counted = [(one, *counts) for one, counts in zip(relations, _count(conn, relations), strict=True)]
    return Findings(
        dangling=tuple(_finding(conn, one, total, total - whole) for one, total, whole in counted if total > whole),
        unchecked=tuple(_count_unchecked(conn, open_ends(specs))),
        relations=len(relations),
        references=sum(total for _, total, _ in counted),
    )


def with_findings(report: RunReport, findings: Findings, *, tolerance: int = 0) -> RunReport:
    """The report with what the verification found; up to *tolerance* dangling references in all are only noted."""
    is_tolerated = findings.is_within(tolerance)
    return msgspec.structs.replace(
        report,
        reference_errors=() if is_tolerated else tuple(map(msgspec.to_builtins, findings.dangling)),
        unchecked_references=tuple(map(msgspec.to_builtins, findings.unchecked)),
        notes=(*report.notes, *_checked(findings), *(f"tolerated: {one}" for one in findings.dangling if is_tolerated)),
    )


def _checked(findings: Findings) -> tuple[str, ...]:
    """What was verified, so that a clean verification can be told from none."""
    if not findings.relations:
        return ()
    return (f"{findings.references:,} references of {findings.relations} relations checked",)


def _count(conn: Connection, relations: Iterable[Relation]) -> Iterator[tuple[int, int]]:
    """Per relation the references, and those of them that are whole."""
    for spec, group in groupby(relations, key=lambda one: one.source):
        main = entity_tables(spec).main
        together = list(group)
        for start in range(0, len(together), _TOGETHER):
            counts = [count for one in together[start : start + _TOGETHER] for count in _counts(one)]
            row = conn.execute(select(*counts).select_from(main).where(main.c.valid_to.is_(None))).one()
            yield from zip(row[::2], row[1::2], strict=True)


def _counts(relation: Relation) -> tuple[ColumnElement[int], ColumnElement[int]]:
    value = entity_tables(relation.source).main.c[relation.column]
    points = points_at(relation)
    return func.count(case((points, value))), func.count(case((and_(points, _is_whole(relation)), value)))


def points_at(relation: Relation, rows: FromClause | None = None) -> ColumnElement[bool]:
    """Whether a row points at the relation's target: it has an id, and its own type says so where types differ.

    Args:
        relation: The relation.
        rows: Rows of its source, with the columns of the relation; None for the table itself.
    """
    columns = entity_tables(relation.source).main.c if rows is None else rows.c
    filled = columns[relation.column].is_not(None)
    if relation.type_column is None:
        return filled
    return and_(filled, columns[relation.type_column] == relation.target.logical_name)


def _is_whole(relation: Relation) -> ColumnElement[bool]:
    target = entity_tables(relation.target).main.alias()
    value = entity_tables(relation.source).main.c[relation.column]
    return exists().where(target.c[relation.target.key] == value, target.c.valid_to.is_(None))


def _finding(conn: Connection, relation: Relation, total: int, dangling: int) -> Finding:
    main = entity_tables(relation.source).main
    value = main.c[relation.column]
    samples = (
        select(value)
        .where(main.c.valid_to.is_(None), points_at(relation), ~_is_whole(relation))
        .distinct()
        .limit(SAMPLES)
    )
    return Finding(
        table=relation.source.entity_set,
        fk_column=relation.column,
        referenced_table=relation.target.entity_set,
        dangling_count=dangling,
        total_checked=total,
        sample_ids=tuple(sorted(map(str, conn.scalars(samples)))),
    )


def _count_unchecked(conn: Connection, ends: Iterable[OpenEnd]) -> Iterator[Unchecked]:
    for spec, group in groupby(ends, key=lambda end: end.source):
        main, together = entity_tables(spec).main, list(group)
        for start in range(0, len(together), _TOGETHER):
            part = together[start : start + _TOGETHER]
            counts = [func.count(_beyond(end)) for end in part]
            row = conn.execute(select(*counts).select_from(main).where(main.c.valid_to.is_(None))).one()
            for end, count in zip(part, row, strict=True):
                if end.beyond or count:
                    column = end.lookup.column
                    yield Unchecked(table=spec.entity_set, fk_column=column, targets=end.beyond, count=count)


def _beyond(end: OpenEnd) -> ColumnElement[Any]:
    """The id where it leads out of the synced tables, else null."""
    main = entity_tables(end.source).main
    value = main.c[end.lookup.column]
    if not end.checked or not end.lookup.is_polymorphic:
        return value
    kind = main.c[end.lookup.type_column]
    return case((or_(kind.is_(None), kind.not_in(end.checked)), value))
