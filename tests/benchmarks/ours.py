"""Contestant: this program, called as any orchestrator calls it."""

from igh_sync_core.config import load_config
from igh_sync_core.config.entities import load_entity_configs
from igh_sync_core.report import RunReport
from igh_sync_core.sync.options import Options
from igh_sync_core.workflow import run_workflow

from .worker import serve


def counts_of(report: RunReport) -> dict[str, int]:
    """What a run did, and ``rows``: all it wrote or compared.

    Raises:
        RuntimeError: It failed, so its seconds mean nothing.
    """
    if not report.success:
        raise RuntimeError(report.summary(), report.failed_entities)
    counts = {
        "added": report.total("added"),
        "updated": report.total("updated"),
        "closed": report.total("closed"),
        "unchanged": report.total("unchanged"),
    }
    return {"rows": sum(counts.values()), "entities": len(report.entities), **counts}


def sync(_workload: str) -> dict[str, int]:
    """One run with the environment's settings."""
    return counts_of(run_workflow(load_config(), load_entity_configs(), Options()))


if __name__ == "__main__":
    serve(sync)
