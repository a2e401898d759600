"""One case from start to finish: a fresh Dataverse, a fresh database, the contestant, one workload after another."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from msgspec.structs import replace

from igh_sync_core.config.entities import load_entity_configs

from . import dlt_home
from .cases import (
    CHANGED,
    CHANGED_SHARE,
    DELETED_SHARE,
    DLT,
    DLT_LABELS,
    FIRST,
    FLOOR,
    FLOW,
    NOTHING,
    OURS,
    Case,
    Measurement,
    Outcome,
)
from .databases import Database, SQLiteFile, postgres_database, postgres_server
from .processes import Dataverse, Line, dataverse, prefect_server, running
from .wire import have_rows

DLT_SETTINGS = {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}


TIMES = {FIRST: 1, NOTHING: 3, CHANGED: 3}
"""How often each workload is measured; the middle one counts."""

OUR_TIMES = {FIRST: 1, NOTHING: 9, CHANGED: 5}
"""The same for ours: keeping up takes it tenths of a second, in which whatever else the machine does shows."""


class Arena:
    """What cases share: recordings, and PostgreSQL, started when first needed. A context manager.

    Args:
        floor_wishes: Arguments of every floor.
    """

    def __init__(self, floor_wishes: tuple[str, ...] = ()) -> None:
        self._stack = ExitStack()
        self._floor_wishes = floor_wishes
        # PostgreSQL may run as another user, who must be able to reach its folder.
        self._folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def measure(self, case: Case) -> Outcome:
        """Run one case; what goes wrong is told in its outcome, so that the others go on."""
        outcome = Outcome(case, load=round(os.getloadavg()[0], 2))
        try:
            with self._started(case) as (line, source, database):
                outcome.base_mb = line.hear()["base_mb"]
                times = OUR_TIMES if case.contestant == OURS else TIMES
                for workload in case.workloads:
                    measured = [_measured(workload, line, source, database) for _ in range(times[workload])]
                    outcome.measurements.append(middle(measured))
        except (RuntimeError, OSError) as exc:
            outcome.error = str(exc)
        return outcome

    @contextmanager
    def _started(self, case: Case) -> Iterator[tuple[Line, Dataverse, Database]]:
        command = self._command(case)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(dir=self._folder)))
            # Not shared between cases: even an idle Prefect server takes a tenth of a processor.
            own = stack.enter_context(prefect_server(folder / "prefect")) if case.contestant == FLOW else {}
            source = stack.enter_context(dataverse(case.rows, latency_ms=case.latency_ms, folder=folder))
            have_rows(source.settings)
            database: Database = SQLiteFile(folder)
            if case.engine == "postgresql":
                database = stack.enter_context(postgres_database(self._postgres_url))
            settings = source.settings | database.settings | own
            if case.contestant in (DLT, DLT_LABELS):
                settings |= DLT_SETTINGS | {"REQUESTS_CA_BUNDLE": source.settings["DATAVERSE_CA_FILE"]}
            line = stack.enter_context(running(command, folder / "contestant.log", settings))
            yield line, source, database

    def _command(self, case: Case) -> list[str]:
        """How to start the contestant."""
        if case.contestant in (DLT, DLT_LABELS):
            wishes = ["--labels"] if case.contestant == DLT_LABELS else []
            names = [entity.api_name for entity in load_entity_configs() if not entity.filtered]
            return [str(dlt_home.ensure_python()), "-m", f"{__package__}.dlt_scd2", *wishes, *names]
        wishes = [str(self._recording(case.rows)), *self._floor_wishes] if case.contestant == FLOOR else []
        return [sys.executable, "-m", f"{__package__}.{case.contestant}", *wishes]

    @cached_property
    def _postgres_url(self) -> str:
        return self._stack.enter_context(postgres_server(self._folder / "postgres"))

    def _recording(self, rows: int) -> Path:
        """The pages that ours reads of so many rows; the same for every engine and latency."""
        file = self._folder / f"pages-{rows}.json"
        if not file.exists():
            with (
                TemporaryDirectory(dir=self._folder) as place,
                dataverse(rows, latency_ms=0, folder=Path(place)) as source,
            ):
                command = [sys.executable, "-m", f"{__package__}.recording", str(file)]
                settings = source.settings | SQLiteFile(Path(place)).settings
                with running(command, Path(place) / "recording.log", settings) as line:
                    line.hear()
                    line.ask(FIRST)
        return file


def middle(measurements: list[Measurement]) -> Measurement:
    """The one in the middle by its seconds, with the most memory that the process had held by the end of them all."""
    chosen = sorted(measurements, key=lambda one: one.seconds)[len(measurements) // 2]
    return replace(chosen, peak_mb=max(one.peak_mb for one in measurements))


def _measured(workload: str, line: Line, source: Dataverse, database: Database) -> Measurement:
    changed = source.change(changed=CHANGED_SHARE, deleted=DELETED_SHARE) if workload == CHANGED else {}
    requests, sent, source_cpu_s = source.counters()
    told = line.ask(workload)
    requests_after, sent_after, source_cpu_after_s = source.counters()
    return Measurement(
        workload=workload,
        seconds=told["seconds"],
        cpu_s=told["cpu_s"],
        source_cpu_s=source_cpu_after_s - source_cpu_s,
        peak_mb=told["peak_mb"],
        requests=requests_after - requests,
        received_mb=(sent_after - sent) / 1e6,
        database_mb=database.size_mb(),
        counts=told["counts"] | {f"source_{name}": count for name, count in changed.items()},
    )
