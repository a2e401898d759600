"""Events for automations: schema drift, and references that lead nowhere. Names and counts only."""

from collections.abc import Mapping

from prefect.events import emit_event

from flows.harmless import harmless
from igh_sync_core.preparation.drift import Finding, Verdict
from igh_sync_core.related.references import Findings

DRIFT = "igh-sync.schema.drift"
DANGLING = "igh-sync.references.dangling"


@harmless
def announce_drift(verdict: Verdict, origin: str) -> None:
    """Tell that the source's schema moved; a table copied for the first time is no drift."""
    moved = [finding for finding in verdict.findings if not _is_new_table(finding)]
    if moved:
        entities = sorted({finding.entity for finding in moved})
        _emit(DRIFT, origin, {"counts": verdict.counts(), "entities": entities, "passed": verdict.passed})


@harmless
def announce_dangling(findings: Findings, origin: str) -> None:
    """Tell that references lead nowhere."""
    if findings.dangling:
        relations = [f"{one.table}.{one.fk_column}" for one in findings.dangling]
        _emit(DANGLING, origin, {"dangling": findings.dangling_count, "relations": relations})


def _emit(event: str, origin: str, payload: Mapping[str, object]) -> None:
    host = origin.partition("://")[2]
    resource = {"prefect.resource.id": f"igh-sync.environment.{host}", "prefect.resource.name": host}
    emit_event(event, resource=resource, payload=dict(payload))


def _is_new_table(finding: Finding) -> bool:
    return isinstance(finding.details.get("columns"), int)
