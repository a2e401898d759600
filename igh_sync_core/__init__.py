"""A SQL copy of Microsoft Dataverse, with honest history. Needs no orchestrator.

Where things live, from the top down; imports point down alone:

- ``cli``: the commands. ``api``: the doors for programs. ``workflow``: a whole run, step by step.
- ``inspection``: what a run would do, what is amiss, why a record is here; writes nothing.
- ``preparation``: before any row, what is stored is judged against the source and made to fit.
- ``related``: tables copied only as far as others point at them; whether all references are whole.
- ``sync``: one entity from its strategy to its report, and the entities of a tier.
- ``history``: records become rows, rows become versions, with choices and the checkpoint that covers them.
- ``schema``: tables and views as they are to be. ``metadata``: what the source says that it has.
- ``store``: the database, SQLite or PostgreSQL alike. ``webapi``: the wire and its language.
- ``config``: the settings and which tables to copy.
- ``model``, ``report``, ``errors``, ``instants``: values that all of them share.
- ``sandbox``: a local Dataverse over HTTPS; shares no code with the rest.
"""

from igh_sync_core.api import run_sync, run_sync_workflow

__all__ = ["run_sync", "run_sync_workflow"]
