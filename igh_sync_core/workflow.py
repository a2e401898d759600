"""A whole run: lock, validate, entities in tiers, fold the report. Orchestrators may call the steps themselves.

``run_workflow`` does all steps in one process; a flow wraps the same steps in tasks of its own, each of which calls
``attached`` to open its connections. Nothing here exits the process or prints.
"""

import contextlib
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec

from igh_sync_core import memory
from igh_sync_core.config import Config, validate
from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.errors import ConfigError
from igh_sync_core.metadata import catalog
from igh_sync_core.model import LogicalName, Organisation, TableSpec
from igh_sync_core.preparation import drift, validation
from igh_sync_core.preparation.drift import Verdict
from igh_sync_core.related.references import Findings, verify, with_findings
from igh_sync_core.related.tier import sync_related
from igh_sync_core.report import EntityReport, RunReport
from igh_sync_core.schema import ddl
from igh_sync_core.store.database import Database
from igh_sync_core.store.lock import exclusive_run, refuse_if_held
from igh_sync_core.sync.options import Options
from igh_sync_core.sync.run import Run
from igh_sync_core.sync.sharing import shared_client, shared_database
from igh_sync_core.sync.tier import guarded, sync_one, sync_tier
from igh_sync_core.webapi.client import Client
from igh_sync_core.webapi.pacing import Pace

OUTCOME = "igh_sync_core.outcome"
"""Logger of what a run ends with; a program that shows the report itself may leave it out."""

log = logging.getLogger(__name__)


def run_workflow(config: Config, entities: Sequence[EntityConfig], options: Options) -> RunReport:
    """One run, from the first request to the report.

    Raises:
        ConfigError: The settings are unusable; nothing was written, and most faults are told before anything is asked.
        AuthError: The credentials are refused; nothing was written.
        SourceError: The environment or its metadata cannot be had.
        StoreBusy: Another run holds the database.
        StoreError: The database cannot be used.
    """
    if faults := validate(config):
        raise ConfigError(faults)
    memory.settle()
    run_id = new_run_id()
    database = Database(config)
    with options.connect(config) as client:
        organisation = authenticate(client)
        run = _run(run_id, client, database, organisation, options)
        with held(run):
            notes, requests = prepare(run, entities, options.optionsets)
            verdict = verdict_of(run)
            reports = sync_tier(run, tiers(entities)[0], options)
            related = sync_related_tier(run, entities)
            for report in related:
                options.on_report(report)
            findings = verify_references(run, entities) if options.verify_references else Findings()
    whole = fold(run_id, [*reports, *related], requests=requests, notes=notes, verdict=verdict)
    whole = with_findings(whole, findings, tolerance=options.reference_tolerance)
    conclude(whole)
    return whole


def conclude(report: RunReport) -> None:
    """Log what people should know beyond the entities, and let go of the memory that writing took."""
    outcome = logging.getLogger(OUTCOME)
    for is_bad, line in report.outcome():
        outcome.log(logging.ERROR if is_bad else logging.INFO, "%s", line)
    if report.total("added") or report.total("updated") or report.total("closed"):
        memory.give_back()


def new_run_id() -> str:
    """A name for one run, unique and short enough to read."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"


def authenticate(client: Client) -> Organisation:
    """Log in and ask who the environment is; the first thing of every run, before anything is written.

    Raises:
        AuthError: The credentials are refused.
        SourceError: The environment does not answer as a Dataverse.
    """
    return catalog.ask_organisation(client.channel("authenticate"), client.config.api_root)


@contextlib.contextmanager
def held(run: Run) -> Iterator[None]:
    """Hold the database for the run, its control tables made and its organisation on record.

    Raises:
        StoreBusy: Another run holds it.
    """
    with run.database.keeping_connections():
        refuse_if_held(run.database)
        ddl.create_control_tables(run.database)
        with exclusive_run(run.database, run.run_id):
            with run.database.writing() as conn:
                catalog.keep_organisation(conn, run.organisation)
            yield


@contextlib.contextmanager
def attached(
    config: Config, run_id: str, *, options: Options | None = None, pace: Callable[[], Pace] = Pace
) -> Iterator[Run]:
    """Join a run that another thread, process or machine holds.

    Args:
        config: The same settings as the holder's.
        run_id: The holder's token.
        options: How the run is done.
        pace: Gives the limits of patience and breadth of the client, which all that join in one process share.
    """
    memory.settle()
    with shared_database(config) as database, shared_client(config, pace=pace) as client:
        with database.reading() as conn:
            organisation = catalog.kept_organisation(conn)
        yield _run(run_id, client, database, organisation, options or Options())


def _run(run_id: str, client: Client, database: Database, organisation: Organisation, options: Options) -> Run:
    return Run(run_id, client, database, organisation, options.page_size, options.listener, options.reconcile)


def prepare(
    run: Run, entities: Iterable[EntityConfig], hints: Mapping[str, Sequence[str]] | None = None
) -> tuple[tuple[str, ...], int]:
    """Learn the metadata, if it moved, check the stored tables against it and make them fit.

    Args:
        run: Holds the database.
        entities: As configured.
        hints: Choice columns by entity, for where definitions may not be read.

    Returns:
        Notes worth reporting, and the requests of the run so far. What the check found is kept: see ``verdict_of``.
    """
    prepared = validation.prepare(run, tuple(entities), hints or {})
    return prepared.notes, run.organisation.requests + prepared.requests


def verdict_of(run: Run) -> Verdict:
    """What this run's schema check found, in whichever process it was made."""
    with run.database.reading() as conn:
        return drift.kept(conn)


def tiers(entities: Iterable[EntityConfig]) -> tuple[list[EntityConfig], list[EntityConfig]]:
    """Unfiltered entities first; the filtered ones follow what those point at."""
    everything = list(entities)
    return [one for one in everything if not one.filtered], [one for one in everything if one.filtered]


def sync_related_tier(run: Run, entities: Sequence[EntityConfig]) -> list[EntityReport]:
    """Sync all filtered entities together and log them in ``_sync_log``; what failed is in its report.

    Args:
        run: The run; the unfiltered entities were synced before.
        entities: Every configured entity, filtered or not.

    Returns:
        One report per filtered entity.

    Raises:
        StoreError: The database cannot be used.
    """
    filtered = {LogicalName(entity.name): entity for entity in tiers(entities)[1]}
    if not filtered:
        return []
    specs = kept_specs(run, entities)
    sound = filtered.keys() & {spec.logical_name for spec in specs}
    aside = [guarded(partial(sync_one, run), filtered[name]) for name in filtered if name not in sound]
    return aside + sync_related(run, specs, sound)


def verify_references(run: Run, entities: Iterable[EntityConfig]) -> Findings:
    """Check every reference between the entities' current rows.

    Raises:
        StoreError: The database cannot be used.
    """
    specs = kept_specs(run, entities)
    with run.database.reading() as conn:
        return verify(conn, specs)


def kept_specs(run: Run, entities: Iterable[EntityConfig]) -> list[TableSpec]:
    """Tables of the entities that can be synced, as this run's validation found them."""
    with run.database.reading() as conn:
        entries = catalog.kept_entries(conn, [LogicalName(entity.name) for entity in entities])
    return [entry.spec for entry in entries if entry.spec is not None]


def fold(
    run_id: str,
    reports: Sequence[EntityReport],
    *,
    requests: int,
    notes: tuple[str, ...],
    verdict: Verdict | None = None,
) -> RunReport:
    """The run's report from those of its entities.

    Args:
        run_id: The run.
        reports: One per entity.
        requests: Sent before the first entity.
        notes: Things worth knowing.
        verdict: What the schema check found.
    """
    total = requests + sum(report.requests for report in reports)
    errors: tuple[dict[str, Any], ...] = tuple(msgspec.to_builtins(verdict.errors)) if verdict else ()
    return RunReport(run_id=run_id, entities=tuple(reports), requests=total, notes=notes, validation_errors=errors)
