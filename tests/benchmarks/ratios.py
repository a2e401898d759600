"""What is to be reached: every figure a ratio or a difference within one run, beside its target."""

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from .cases import CHANGED, DLT, DLT_LABELS, FIRST, FLOOR, FLOW, NOTHING, OURS, Case, Outcome

FIRST_TO_FLOOR = 1.5
FIRST_TO_DLT = 5.0
NOTHING_TO_FIRST = 0.03
CHANGED_TO_FIRST = 0.08
FIRST_TO_ONE_BY_ONE = 0.35
PEAK_MB = 200.0
PEAK_GROWTH = 1.15
FLOW_S = 3.0


class Ratio(Struct, frozen=True):
    """One figure and its target.

    Attributes:
        claim: What is compared with what.
        where: Under which circumstances.
        value: The figure.
        target: What it should be at most, or at least.
        is_floor: Whether the target is the least that will do.
    """

    claim: str
    where: str
    value: float
    target: float
    is_floor: bool = False

    @property
    def is_reached(self) -> bool:
        """Whether the target is met."""
        return self.value >= self.target if self.is_floor else self.value <= self.target


class Results:
    """Outcomes by case; those that went wrong are not among them."""

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        self._by_case = {outcome.case: outcome for outcome in outcomes if not outcome.error}

    def of(self, contestant: str) -> Iterator[Outcome]:
        """Every outcome of one contestant, in the order measured."""
        return (outcome for case, outcome in self._by_case.items() if case.contestant == contestant)

    def seconds(self, case: Case, workload: str = FIRST) -> float | None:
        """What a workload took, if it was measured."""
        measured = self._by_case[case].of(workload) if case in self._by_case else None
        return measured.seconds if measured else None


def ratios(outcomes: Sequence[Outcome]) -> list[Ratio]:
    """Every ratio that the outcomes allow."""
    results = Results(outcomes)
    found: list[Ratio] = []
    for make in (_to_floor, _to_dlt, _keeping_up, _to_one_by_one, _memory, _growth, _flow):
        found += make(results)
    return found


def _to_floor(results: Results) -> Iterator[Ratio]:
    for outcome in _without_latency(results):
        ours = results.seconds(outcome.case)
        floor = results.seconds(_as(outcome.case, FLOOR))
        if ours and floor:
            yield Ratio("first load / floor", _where(outcome.case), ours / floor, FIRST_TO_FLOOR)


def _to_dlt(results: Results) -> Iterator[Ratio]:
    """In rows per second, since dlt is not asked for the related entities."""
    for name, what in ((DLT, "dlt's"), (DLT_LABELS, "dlt's of the same pages")):
        firsts = {_where(outcome.case): outcome.of(FIRST) for outcome in results.of(name)}
        rates = {where: measured.rows_per_s for where, measured in firsts.items() if measured}
        for outcome in results.of(OURS):
            ours, theirs = outcome.of(FIRST), rates.get(_where(outcome.case))
            if ours and theirs:
                claim = f"rows per second of the first load / {what}"
                yield Ratio(claim, _where(outcome.case), ours.rows_per_s / theirs, FIRST_TO_DLT, is_floor=True)


def _keeping_up(results: Results) -> Iterator[Ratio]:
    for outcome in _without_latency(results):
        first = results.seconds(outcome.case)
        for workload, target in ((NOTHING, NOTHING_TO_FIRST), (CHANGED, CHANGED_TO_FIRST)):
            again = results.seconds(outcome.case, workload)
            if first and again:
                yield Ratio(f"{workload} / first load", _where(outcome.case), again / first, target)


def _to_one_by_one(results: Results) -> Iterator[Ratio]:
    """Against every request waiting for its own delay, and for nothing else beyond what the floor takes."""
    for outcome in results.of(OURS):
        case, ours = outcome.case, outcome.of(FIRST)
        floor = results.seconds(Case(FLOOR, case.engine, case.rows))
        if ours and floor and case.latency_ms:
            one_by_one_s = ours.requests * case.latency_ms / 1000 + floor
            claim = "first load / the same requests one after another"
            yield Ratio(claim, _where(case), ours.seconds / one_by_one_s, FIRST_TO_ONE_BY_ONE)


def _memory(results: Results) -> Iterator[Ratio]:
    for outcome in results.of(OURS):
        if outcome.measurements:
            yield Ratio("peak memory over imports, MB", _where(outcome.case), outcome.peak_mb, PEAK_MB)


def _growth(results: Results) -> Iterator[Ratio]:
    """How much more memory the largest size takes than the smallest."""
    peaks: dict[str, list[tuple[int, float]]] = {}
    for outcome in _without_latency(results):
        if outcome.measurements:
            peaks.setdefault(outcome.case.engine, []).append((outcome.case.rows, outcome.peak_mb))
    for engine, found in peaks.items():
        (fewest, small_mb), (most, large_mb) = min(found), max(found)
        if fewest < most:
            where = f"{engine}, {most:,} against {fewest:,} rows"
            yield Ratio("growth of peak memory", where, large_mb / small_mb, PEAK_GROWTH)


def _flow(results: Results) -> Iterator[Ratio]:
    for outcome in results.of(FLOW):
        for workload in (FIRST, NOTHING):
            flow, core = outcome.of(workload), results.seconds(_as(outcome.case, OURS), workload)
            if flow and core:
                claim = f"what the flow adds, {workload}, s"
                yield Ratio(claim, _where(outcome.case), flow.seconds - core, FLOW_S)


def _without_latency(results: Results) -> Iterator[Outcome]:
    return (outcome for outcome in results.of(OURS) if not outcome.case.latency_ms)


def _as(case: Case, contestant: str) -> Case:
    return Case(contestant, case.engine, case.rows, case.latency_ms)


def _where(case: Case) -> str:
    return str(case).partition(", ")[2]
