"""What is measured: cases, workloads, measurements; and which combinations are worth their time."""

from collections.abc import Iterator, Sequence
from itertools import product

from msgspec import Struct, field
from msgspec.structs import replace

FIRST, NOTHING, CHANGED = "first load", "nothing changed", "1 % changed, 0.2 % deleted"
CHANGED_SHARE, DELETED_SHARE = 0.01, 0.002

FLOOR, OURS, FLOW, DLT, DLT_LABELS = "floor", "ours", "flow", "dlt", "dlt-labels"
CONTESTANTS = (FLOOR, OURS, FLOW, DLT, DLT_LABELS)
ENGINES = ("sqlite", "postgresql")


class Case(Struct, frozen=True):
    """One contestant under one set of circumstances.

    Attributes:
        contestant: One of ``CONTESTANTS``.
        engine: One of ``ENGINES``.
        rows: Records of the local Dataverse, over all its tables.
        latency_ms: Milliseconds added to each of its replies.
        is_brief: Whether the first load is all that is asked.
    """

    contestant: str
    engine: str
    rows: int
    latency_ms: float = 0.0
    is_brief: bool = False

    def __str__(self) -> str:
        latency = f", {self.latency_ms:g} ms" if self.latency_ms else ""
        return f"{self.contestant}, {self.engine}, {self.rows:,} rows{latency}"

    @property
    def workloads(self) -> tuple[str, ...]:
        """What it is asked to do, in order; the floor knows no changes."""
        return (FIRST,) if self.contestant == FLOOR or self.is_brief else (FIRST, NOTHING, CHANGED)


class Measurement(Struct, frozen=True):
    """What one workload took.

    Attributes:
        workload: Its name.
        seconds: By the clock, within the contestant's process, from call to return.
        cpu_s: Processor time of that process.
        source_cpu_s: Processor time of the local Dataverse meanwhile, which shares the machine; 0 where unknown.
        peak_mb: Most memory the process held so far, beyond what it held when everything was imported; 10^6 bytes.
        requests: Arrived at the local Dataverse, login included.
        received_mb: Bodies of its replies.
        database_mb: Size of the database afterwards; SQLite's log included.
        counts: As the contestant counts, ``rows`` among them.
    """

    workload: str
    seconds: float
    cpu_s: float
    source_cpu_s: float
    peak_mb: float
    requests: int
    received_mb: float
    database_mb: float
    counts: dict[str, int]

    @property
    def rows_per_s(self) -> float:
        """Rows written or compared, each second."""
        return self.counts["rows"] / self.seconds


class Outcome(Struct):
    """What became of one case.

    Attributes:
        case: The case.
        load: How busy the machine was before it: mean length of the run queue over the last minute.
        base_mb: Memory of its process when everything was imported.
        measurements: One per workload.
        error: Why it could not be measured; "" when all went well.
    """

    case: Case
    load: float = 0.0
    base_mb: float = 0.0
    measurements: list[Measurement] = field(default_factory=list)
    error: str = ""

    def of(self, workload: str) -> Measurement | None:
        """The measurement of one workload, if there is one."""
        return next((one for one in self.measurements if one.workload == workload), None)

    @property
    def peak_mb(self) -> float:
        """Most memory that any of its processes held; at least one workload was measured."""
        return max(one.peak_mb for one in self.measurements)


def best(outcomes: Sequence[Outcome]) -> Outcome:
    """Of each workload the quickest measurement, since what else the machine does only ever adds; or the first error.

    Args:
        outcomes: Of one case, measured several times.
    """
    for outcome in outcomes:
        if outcome.error:
            return outcome
    measured = zip(*(outcome.measurements for outcome in outcomes), strict=True)
    quickest = [min(several, key=lambda one: one.seconds) for several in measured]
    return replace(outcomes[0], measurements=quickest)


def cases(
    contestants: Sequence[str], engines: Sequence[str], rows: Sequence[int], latencies_ms: Sequence[float]
) -> Iterator[Case]:
    """Every combination that tells something, smallest first, the contestants of one circumstance side by side.

    The flow runs without latency only. So does dlt, which is slow: into SQLite alone, and of larger sizes no more than
    the first load.
    """
    smallest, quickest = min(rows), min(latencies_ms)
    for size, engine, latency_ms, contestant in product(sorted(rows), engines, sorted(latencies_ms), contestants):
        is_small, is_quick = size == smallest, latency_ms == quickest
        if contestant in (FLOOR, OURS) or (contestant == FLOW and is_quick):
            yield Case(contestant, engine, size, latency_ms)
        elif contestant in (DLT, DLT_LABELS) and engine == "sqlite" and is_quick:
            yield Case(contestant, engine, size, latency_ms, is_brief=not is_small)
