"""What a run did: frozen values, folded from the entities' reports; rendered elsewhere."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

Status = Literal["completed", "failed", "skipped"]


class Counts(Struct, frozen=True):
    """What happened to the keys of some pages; each key counts once.

    Attributes:
        added: Opened with no open version before (new, or back after a deletion).
        updated: Closed and opened again.
        closed: Closed for good: deleted or absent.
        unchanged: Met, with nothing to write but perhaps labels.
    """

    added: int = 0
    updated: int = 0
    closed: int = 0
    unchanged: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.added + other.added,
            self.updated + other.updated,
            self.closed + other.closed,
            self.unchanged + other.unchanged,
        )


class EntityReport(Struct, frozen=True, kw_only=True):
    """What happened to one entity.

    Attributes:
        entity: Logical name.
        table: Entity set, which is the table's name.
        strategy: How it was read: ``delta``, ``modifiedon``, ``snapshot``, ``related``; "" if it was not.
        reason: Why so, in words.
        added: Keys opened: new, or back after a deletion.
        updated: Keys that got a new version.
        closed: Keys closed: deleted or absent.
        unchanged: Keys met with nothing to write.
        requests: HTTP requests sent, retries included.
        seconds: Wall time.
        status: ``completed``, ``failed`` or ``skipped``.
        error: What went wrong, or "".
        retryable: Whether the same may succeed later.
    """

    entity: str
    table: str
    strategy: str = ""
    reason: str = ""
    added: int = 0
    updated: int = 0
    closed: int = 0
    unchanged: int = 0
    requests: int = 0
    seconds: float = 0.0
    status: Status = "completed"
    error: str = ""
    retryable: bool = False

    def after(self, earlier: "EntityReport") -> "EntityReport":
        """The same with what an earlier try in the same run did; what both met unchanged counts once."""
        summed = ("added", "updated", "closed", "requests", "seconds")
        return msgspec.structs.replace(self, **{name: getattr(self, name) + getattr(earlier, name) for name in summed})


class RunReport(Struct, frozen=True, kw_only=True):
    """What happened in one run.

    Attributes:
        run_id: Identifies the run in ``_sync_log``.
        entities: One report per configured entity in the order of the entities file, the filtered ones last.
        requests: HTTP requests of the whole run.
        validation_errors: Findings of the schema check with severity ``error``, as mappings.
        reference_errors: Dangling references, as mappings; empty when they were not verified or are tolerated.
        unchecked_references: Columns whose references could not all be verified, as mappings.
        notes: Things worth knowing that are no failure.
    """

    run_id: str
    entities: tuple[EntityReport, ...] = ()
    requests: int = 0
    validation_errors: tuple[dict[str, Any], ...] = ()
    reference_errors: tuple[dict[str, Any], ...] = ()
    unchecked_references: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def failed_entities(self) -> list[tuple[str, str]]:
        """Pairs of logical name and error."""
        return [(report.entity, report.error) for report in self.entities if report.status == "failed"]

    @property
    def success(self) -> bool:
        """Whether nothing failed and nothing was found wrong."""
        return not (self.failed_entities or self.validation_errors or self.reference_errors)

    def total(self, count: Literal["added", "updated", "closed", "unchanged"]) -> int:
        """Sum of one count over all entities."""
        return sum(getattr(report, count) for report in self.entities)

    def summary(self) -> str:
        """One line for people: which entities failed, or what was done."""
        if self.failed_entities:
            named = "; ".join(f"{entity}: {error}" for entity, error in self.failed_entities)
            return f"{len(self.failed_entities)} of {len(self.entities)} entities failed: {named}"
        done = [report for report in self.entities if report.status == "completed"]
        text = (
            f"{len(done)} entities, {self.total('added'):,} added, {self.total('updated'):,} updated, "
            f"{self.total('closed'):,} closed, {self.requests:,} requests"
        )
        faults = len(self.validation_errors) + len(self.reference_errors)
        return f"{text}; {faults} findings" if faults else text

    def outcome(self) -> Iterator[tuple[bool, str]]:
        """What people should know beyond the entities: pairs of whether it is bad, and a line."""
        for note in self.notes:
            yield False, f"note: {note}"
        if self.unchecked_references:
            targets = sorted({name for one in self.unchecked_references for name in one["targets"]})
            where = f": {', '.join(targets)}" if targets else ""
            count = len(self.unchecked_references)
            yield False, f"not checked: {count} columns, which point at tables that are not copied{where}"
        for finding in self.validation_errors:
            yield True, f"{finding['entity']}: {finding['description']}"
        for finding in self.reference_errors:
            yield True, dangling_line(finding)

    def as_dict(self) -> dict[str, Any]:
        """The mapping that ``sync-dataverse --json`` prints and ``run_sync_workflow`` gives."""
        return {
            "success": self.success,
            "run_id": self.run_id,
            "total_added": self.total("added"),
            "total_updated": self.total("updated"),
            "total_closed": self.total("closed"),
            "requests": self.requests,
            "failed_entities": self.failed_entities,
            "validation_errors": list(self.validation_errors),
            "reference_errors": list(self.reference_errors),
            "unchecked_references": list(self.unchecked_references),
            "notes": list(self.notes),
            "entities": [msgspec.to_builtins(report) for report in self.entities],
        }


def dangling_line(finding: Mapping[str, Any]) -> str:
    """References of one column that lead nowhere, as a report has them."""
    where = f"{finding['table']}.{finding['fk_column']} → {finding['referenced_table']}"
    samples = ", ".join(finding["sample_ids"])
    return f"{where}: {finding['dangling_count']} of {finding['total_checked']} dangling, such as {samples}"
