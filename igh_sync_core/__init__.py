"""A SQL copy of Microsoft Dataverse, with honest history. Needs no orchestrator."""

from igh_sync_core.api import run_sync, run_sync_workflow

__all__ = ["run_sync", "run_sync_workflow"]
