"""Before any row: learn the metadata if it moved, judge what is stored against it, and make the tables fit.

The verdict is kept in the database, so that every process of the run knows which entities are set aside.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
from sqlalchemy import Connection

from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.history import checkpoint, choices
from igh_sync_core.metadata import catalog, discovery
from igh_sync_core.metadata.catalog import Catalog
from igh_sync_core.metadata.discovery import Hints
from igh_sync_core.model import LogicalName, TableSpec
from igh_sync_core.preparation import adoption, drift, leftovers
from igh_sync_core.preparation.drift import Finding, Severity, Verdict
from igh_sync_core.schema import ddl, shapes, views
from igh_sync_core.store import fingerprint
from igh_sync_core.store.lock import fence
from igh_sync_core.sync.run import Run
from igh_sync_core.webapi.client import Client

_FORM = 1
"""Moves when this program checks or makes tables in another way, so that everything is looked at again."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preparation:
    """What a run knows before its first row.

    Attributes:
        verdict: How the stored tables fit; its broken entities are set aside.
        notes: What could not be read and what is done without it.
        requests: Sent for it; none where the metadata had not moved.
    """

    verdict: Verdict
    notes: tuple[str, ...]
    requests: int


def prepare(run: Run, entities: Sequence[EntityConfig], hints: Hints) -> Preparation:
    """Do all of it for one run.

    Args:
        run: Holds the database.
        entities: As configured.
        hints: Choice columns by entity, for tables whose definitions may not be read.
    """
    known, requests = _learn(run, entities, hints)
    now = run.organisation.server_time
    with run.database.writing() as conn:
        fence(conn, run.run_id)
        verdict, adopted = _fit(conn, run, entities, known)
        checkpoint.end_killed(conn, run_id=run.run_id, now=run.now())
        drift.keep(conn, verdict)
        language = run.organisation.language
        left = leftovers.report(conn, _specs(known), repair=run.reconcile, now=now, language=language)
    _tell(verdict)
    return Preparation(verdict, (*known.notes, *adopted, *left), requests)


def _fit(
    conn: Connection, run: Run, entities: Sequence[EntityConfig], known: Catalog
) -> tuple[Verdict, tuple[str, ...]]:
    """Make the stored tables fit, and say how they did before; nothing is looked at where nothing has moved."""
    mark = partial(_mark, conn, run, entities, known)
    if (verdict := drift.settled(conn, mark())) is not None:
        return verdict, ()
    specs = _specs(known)
    adopted = adoption.adopt(conn, specs, entities, now=run.organisation.server_time)
    stored = shapes.read(conn, specs)
    verdict = drift.judge(stored, entities, known)
    applied = ddl.apply(conn, stored, _sound(known, verdict), language=run.organisation.language)
    verdict = verdict.joined_by(Finding(Severity.ERROR, entity, text) for entity, text in applied.failed)
    catalog.set_aside(conn, {name: verdict.faults_of(name) for name in sorted(verdict.broken)})
    if applied.is_settled:
        # As the next check would find it, now that everything is made.
        drift.settle(conn, mark(), drift.judge(shapes.read(conn, specs), entities, known))
    return verdict, (*adopted, *(text for _entity, text in applied.unseen))


def _mark(conn: Connection, run: Run, entities: Sequence[EntityConfig], known: Catalog) -> str:
    """Fingerprint of everything that the check depends on."""
    language = run.organisation.language
    shown = [views.digest(spec, language) for spec in _specs(known)]
    ours = (_FORM, adoption.CONTROL_COLUMNS)
    told = (ours, shown, fingerprint.of_schema(conn), language, entities, sorted(known.entries.items()))
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()[:16]


def version_of(metadata_version: str, hints: Hints) -> str:
    """What knowledge is filed under: the metadata version, and the hints that shaped it."""
    if not (metadata_version and hints):
        return metadata_version
    digest = hashlib.sha256(msgspec.json.encode(hints, order="sorted")).hexdigest()[:8]
    return f"{metadata_version}+{digest}"


def _learn(run: Run, entities: Sequence[EntityConfig], hints: Hints) -> tuple[Catalog, int]:
    """What is known, downloaded only if it moved or if rights were missing that are there now."""
    names = [LogicalName(entity.name) for entity in entities]
    version = version_of(run.organisation.metadata_version, hints)
    with run.database.writing() as conn:
        fence(conn, run.run_id)
        known = catalog.kept(conn, names, version)
    if known is not None and not _may_read_more(run.client, known):
        return known, len(known.refused)
    known, requests = discovery.fetch(run.client, names, with_lengths=run.database.is_postgres, hints=hints)
    readable = [name for name, entry in known.entries.items() if entry.has_options]
    now, language = run.organisation.server_time, run.organisation.language
    with run.database.writing() as conn:
        fence(conn, run.run_id)
        catalog.keep(conn, known, version)
        choices.record(conn, readable, known.options, now=now, language=language)
    return known, requests


def _may_read_more(client: Client, known: Catalog) -> bool:
    """Whether what was refused before is readable now, by one request each: rights do not move the metadata version."""
    return any(discovery.is_readable(client, address) for address in known.refused)


def _specs(known: Catalog) -> list[TableSpec]:
    return [entry.spec for entry in known.entries.values() if entry.spec]


def _sound(known: Catalog, verdict: Verdict) -> list[TableSpec]:
    return [entry.spec for name, entry in known.entries.items() if entry.spec and name not in verdict.broken]


def _tell(verdict: Verdict) -> None:
    levels = {Severity.ERROR: logging.ERROR, Severity.WARNING: logging.WARNING, Severity.INFO: logging.INFO}
    for finding in verdict.findings:
        log.log(levels[finding.severity], "%s: %s", finding.entity, finding.description)
