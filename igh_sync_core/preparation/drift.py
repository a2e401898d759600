"""Drift: the wanted tables against the stored ones, and what that means, before anything is written.

severity  what                                                          consequence
--------  ------------------------------------------------------------  ------------------------------------------
error     a column's type or the key changed; metadata contradicts      nothing of that entity is written
          itself; the table's name belongs to something else
warning   a configured entity is not in metadata, or under another name skipped, or read under the name in metadata
info      a new table or column, a removed column, a wider type         made, kept, widened

A type has changed when values of the new kind cannot be told from, or cannot be kept beside, those stored. What
metadata last declared decides (``shapes.Shape``), because storage alone hides it: SQLite keeps Int32 and Boolean
alike. A shorter text is no change: the wider column stays.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Connection

from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.errors import SchemaError
from igh_sync_core.metadata.catalog import Catalog, Entry
from igh_sync_core.model import Kind, LogicalName, TableSpec
from igh_sync_core.schema.shapes import WIDENING, Stored, declared, widening
from igh_sync_core.schema.tables import OURS, entity_tables
from igh_sync_core.store import knowledge

_VERDICT, _SETTLED = "verdict", "settled verdict"


class Severity(StrEnum):
    """How much a finding matters, worst first."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Finding(Struct, frozen=True):
    """One difference.

    Attributes:
        severity: What it means for the run.
        entity: Logical name.
        description: What differs and what is done about it, in words.
        details: The same for programs: ``table``, ``column`` or ``columns``, ``stored``, ``wanted``.
    """

    severity: Severity
    entity: LogicalName
    description: str
    details: dict[str, Any] = {}


class Verdict(Struct, frozen=True, dict=True):
    """All findings of one check, worst first."""

    findings: tuple[Finding, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that keep an entity from being written."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    @property
    def passed(self) -> bool:
        """Whether every configured entity that exists can be written."""
        return not self.errors

    @cached_property
    def broken(self) -> frozenset[LogicalName]:
        """Entities set aside: nothing of them is written."""
        return frozenset(finding.entity for finding in self.errors)

    def faults_of(self, entity: LogicalName) -> str:
        """Why an entity is set aside, in words; "" where it is not."""
        return "; ".join(finding.description for finding in self.errors if finding.entity == entity)

    def counts(self) -> dict[str, int]:
        """Findings by severity, all three named."""
        return {one.value: sum(finding.severity is one for finding in self.findings) for one in Severity}

    def joined_by(self, findings: Iterable[Finding]) -> "Verdict":
        """The same with more findings, sorted anew."""
        return Verdict(_sorted([*self.findings, *findings]))

    def as_dict(self) -> dict[str, Any]:
        """``passed``, ``counts`` and ``findings``, all plain values for JSON."""
        return {"passed": self.passed, "counts": self.counts(), "findings": msgspec.to_builtins(self.findings)}

    def as_markdown(self) -> str:
        """A heading, the counts and one table row per finding."""
        head = f"# Schema check: {'passed' if self.passed else 'failed'}"
        totals = ", ".join(f"{count} {name}" for name, count in self.counts().items())
        if not self.findings:
            return f"{head}\n\nThe stored tables fit the metadata.\n"
        rows = "\n".join(f"| {one.severity} | {one.entity} | {_cell(one.description)} |" for one in self.findings)
        return f"{head}\n\n{totals}\n\n| severity | entity | finding |\n|---|---|---|\n{rows}\n"


_KEPT = msgspec.json.Decoder(Verdict)


def _cell(text: str) -> str:
    """Text as a Markdown table keeps it together."""
    return " ".join(text.replace("|", "\\|").split())


def judge(stored: Stored, entities: Sequence[EntityConfig], catalog: Catalog) -> Verdict:
    """Compare what metadata wants with what is stored, for every configured entity; pure.

    Args:
        stored: What the database holds of the catalog's entities; nothing of them, in a new one.
        entities: As configured.
        catalog: What metadata says of them.
    """
    entries: Mapping[LogicalName, Entry] = catalog.entries
    findings = [
        finding for entity in entities for finding in _examine(entity, entries[LogicalName(entity.name)], stored)
    ]
    return Verdict(_sorted(findings))


def keep(conn: Connection, verdict: Verdict) -> None:
    """Store the verdict of this run for every process of it."""
    knowledge.put(conn, _VERDICT, verdict)


def kept(conn: Connection) -> Verdict:
    """The verdict of the last run that checked; an empty one where none ever did."""
    text = knowledge.named(conn, [_VERDICT]).get(_VERDICT)
    return _KEPT.decode(text) if text else Verdict()


def settle(conn: Connection, mark: str, verdict: Verdict) -> None:
    """Store the verdict that any check comes to as long as nothing moves that *mark* stands for."""
    knowledge.put(conn, _SETTLED, verdict, version=mark)


def settled(conn: Connection, mark: str) -> Verdict | None:
    """The verdict stored for *mark*; None where something has moved since."""
    text = knowledge.of_version(conn, mark).get(_SETTLED)
    return _KEPT.decode(text) if text else None


def _sorted(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    order = list(Severity)
    return tuple(sorted(findings, key=lambda finding: order.index(finding.severity)))


def _examine(entity: EntityConfig, entry: Entry, stored: Stored) -> Iterator[Finding]:
    name = LogicalName(entity.name)
    if entry.spec is None:
        yield _unknown(name, entry.fault)
        return
    spec = entry.spec
    if entity.api_name != spec.entity_set:
        text = f"its entity set is {spec.entity_set}, not {entity.api_name} as configured; {spec.entity_set} is used"
        yield Finding(Severity.WARNING, name, text, {"configured": entity.api_name, "table": spec.entity_set})
    try:
        table = str(entity_tables(spec).main.name)
    except SchemaError as exc:
        yield Finding(Severity.ERROR, name, str(exc))
        return
    if table in stored.columns:
        yield from _Comparison(spec, table, stored).findings()
    elif table in stored.views and not _is_own_view(table, stored):
        yield Finding(Severity.ERROR, name, f"a view named {table} is in the way; rename it", {"table": table})
    else:
        yield Finding(Severity.INFO, name, f"new table {table}", {"table": table, "columns": len(declared(spec))})


def _unknown(entity: LogicalName, fault: str) -> Finding:
    if fault:
        return Finding(Severity.ERROR, entity, fault)
    text = "not in the environment's metadata, so it is skipped; what is stored stays. Check its name"
    return Finding(Severity.WARNING, entity, text)


_UNKNOWN = "of a type unknown here"


def _counted(names: Sequence[str]) -> str:
    return f"{len(names)} column{'' if len(names) == 1 else 's'}"


def _is_wider(kind: Kind, *, than: Kind) -> bool:
    return kind in WIDENING and than in WIDENING and WIDENING.index(kind) > WIDENING.index(than)


def _is_own_view(name: str, stored: Stored) -> bool:
    return any(name in shape.views for shape in stored.shapes.values())


class _Comparison:
    """One entity whose table exists."""

    def __init__(self, spec: TableSpec, table: str, stored: Stored) -> None:
        self._spec, self._table, self._stored = spec, table, stored
        self._shape = stored.shapes.get(table)

    def findings(self) -> Iterator[Finding]:
        """Every difference of this table."""
        missing = [name for name in OURS if self._stored.column_type(self._table, name) is None]
        if missing == ["closed_reason"] and self._stored.dialect.name == "sqlite":
            text = f"table {self._table} was made by an earlier program; the next run takes it over as it is"
            yield self._finding(Severity.INFO, text)
        elif missing:
            text = f"table {self._table} lacks {', '.join(missing)}: another program made it; use another database"
            yield self._finding(Severity.ERROR, text, columns=missing)
            return
        yield from self._key()
        added: list[str] = []
        for name, wanted in declared(self._spec).items():
            kinds = self._stored.kinds(self._table, name)
            if kinds is None:
                added.append(name)
            else:
                yield from self._column(name, kinds, wanted)
        yield from self._added(added)
        yield from self._removed()

    def _key(self) -> Iterator[Finding]:
        before = self._shape.key if self._shape else self._stored.keys.get(self._table, self._spec.key)
        if before != self._spec.key:
            text = f"the key was {before} and is now {self._spec.key}; start a new database, this one keeps the history"
            yield self._finding(Severity.ERROR, text, stored=before, wanted=self._spec.key)

    def _column(self, name: str, stored: frozenset[Kind], wanted: Kind) -> Iterator[Finding]:
        if wanted in stored:
            yield from self._length(name)
        elif any(_is_wider(wanted, than=kind) for kind in stored):
            yield self._change(Severity.INFO, name, stored, wanted, "it is widened")
        elif not any(_is_wider(kind, than=wanted) for kind in stored):
            remedies = f"rename the stored column, such as to {name}_old, or the table"
            yield self._change(Severity.ERROR, name, stored, wanted, remedies)

    def _length(self, name: str) -> Iterator[Finding]:
        column = entity_tables(self._spec).main.c[name]
        if change := widening(self._stored, self._table, column):
            before, wanted = change
            text = f"column {name} is widened from {before} to {wanted}"
            yield self._finding(Severity.INFO, text, column=name, stored=before, wanted=wanted)

    def _added(self, names: list[str]) -> Iterator[Finding]:
        gone = set(self._shape.gone) if self._shape else set()
        back = [name for name in declared(self._spec) if name in gone]
        if names:
            text = f"{_counted(names)} new: {', '.join(names)}; added, and filled in by a full read"
            yield self._finding(Severity.INFO, text, columns=names)
        if back:
            text = f"{_counted(back)} back: {', '.join(back)}; filled in by a full read"
            yield self._finding(Severity.INFO, text, columns=back)

    def _removed(self) -> Iterator[Finding]:
        before = self._shape.kinds.keys() if self._shape else ()
        if names := sorted(set(before) - declared(self._spec).keys()):
            text = f"{_counted(names)} no longer in metadata: {', '.join(names)}; kept with what they hold"
            yield self._finding(Severity.INFO, text, columns=names)

    def _change(
        self, severity: Severity, name: str, stored: frozenset[Kind], wanted: Kind, consequence: str
    ) -> Finding:
        before = " or ".join(sorted(stored)) or self._stored.column_type(self._table, name) or _UNKNOWN
        text = f"column {name} was {before} and is now {wanted}; {consequence}"
        return self._finding(severity, text, column=name, stored=before, wanted=wanted.value)

    def _finding(self, severity: Severity, text: str, **details: Any) -> Finding:  # noqa: ANN401 - any plain value
        return Finding(severity, self._spec.logical_name, text, {"table": self._table, **details})
