"""The benchmark works: it counts right and judges right. Seconds are none of a test's business."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from .cases import (
    CHANGED,
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
    best,
    cases,
)
from .measuring import middle
from .ratios import Ratio, ratios

ROOT = Path(__file__).parents[2]


def run_benchmark(file: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks", *arguments, "--latencies", "0", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(file.read_bytes())
    return found


@pytest.mark.e2e
def test_floor_and_ours_copy_the_same_rows_into_either_engine(tmp_path: Path) -> None:
    found = run_benchmark(tmp_path / "found.json", "--rows", "2000", "--contestants", "floor", "ours")

    outcomes = msgspec.convert(found["outcomes"], list[Outcome])
    first = {(one.case.contestant, one.case.engine): one.measurements[0] for one in outcomes}
    kept_up = [one.measurements[1:] for one in outcomes if one.case.contestant == OURS]
    assert [str(one.case) for one in outcomes] == [
        "floor, sqlite, 2,000 rows",
        "ours, sqlite, 2,000 rows",
        "floor, postgresql, 2,000 rows",
        "ours, postgresql, 2,000 rows",
    ]
    assert len({one.counts["rows"] for one in first.values()}) == 1
    assert first[OURS, "sqlite"].requests > first[FLOOR, "sqlite"].requests > 26
    assert all(one.received_mb > 0.1 and one.database_mb > 0.1 for one in first.values())
    for nothing, changed in kept_up:
        assert nothing.counts["added"] == nothing.counts["updated"] == nothing.counts["closed"] == 0
        assert 0 < changed.counts["updated"] <= changed.counts["source_changed"]
    assert {ratio["claim"] for ratio in found["ratios"]} == {
        "first load / floor",
        f"{NOTHING} / first load",
        f"{CHANGED} / first load",
        "peak memory over imports, MB",
    }


def outcome(case: Case, *seconds: float, peak_mb: float = 100.0, rows: int = 1_000) -> Outcome:
    """An outcome as if measured, 100 requests for each workload."""
    measured = [
        Measurement(workload, took, took, took, peak_mb, 100, 1.0, 1.0, {"rows": rows})
        for workload, took in zip((FIRST, NOTHING, CHANGED), seconds, strict=False)
    ]
    return Outcome(case, measurements=measured)


def judged(*outcomes: Outcome) -> dict[str, tuple[Any, bool]]:
    return {ratio.claim: (pytest.approx(ratio.value), ratio.is_reached) for ratio in ratios(outcomes)}


def test_of_a_case_measured_twice_the_quickest_of_each_workload_counts() -> None:
    case = Case(OURS, "sqlite", 2_000)

    both = best([outcome(case, 3.0, 0.1, 0.3, peak_mb=90.0), outcome(case, 2.0, 0.2, 0.4)])

    assert [one.seconds for one in both.measurements] == [2.0, 0.1, 0.3]
    assert (both.case, both.peak_mb) == (case, 100.0)


def test_of_a_workload_measured_several_times_the_middle_counts_and_the_memory_of_all() -> None:
    [[several]] = [outcome(Case(OURS, "sqlite", 2_000), 3.0).measurements]
    measured = [
        replace(several, seconds=seconds, peak_mb=peak)
        for seconds, peak in ((3, 90), (1, 91), (2, 92), (9, 95), (2.5, 94))
    ]

    assert middle(measured) == replace(several, seconds=2.5, peak_mb=95)


def test_a_case_that_went_wrong_once_has_gone_wrong() -> None:
    case = Case(OURS, "sqlite", 2_000)

    assert best([outcome(case, 3.0), Outcome(case, error="it broke")]).error == "it broke"


def test_every_ratio_compares_what_its_name_says() -> None:
    found = judged(
        outcome(Case(FLOOR, "sqlite", 1_000), 10.0),
        outcome(Case(OURS, "sqlite", 1_000), 15.0, 0.3, 1.5),
        outcome(Case(FLOW, "sqlite", 1_000), 17.0, 3.4, 4.0),
        outcome(Case(DLT, "sqlite", 1_000), 60.0, 60.0, 60.0, rows=800),
        outcome(Case(DLT_LABELS, "sqlite", 1_000, is_brief=True), 40.0, rows=800),
    )

    assert found == {
        "first load / floor": (1.5, True),
        "rows per second of the first load / dlt's": (5.0, True),
        "rows per second of the first load / dlt's of the same pages": (10 / 3, False),
        "nothing changed / first load": (0.02, True),
        "1 % changed, 0.2 % deleted / first load": (0.1, False),
        "peak memory over imports, MB": (100.0, True),
        "what the flow adds, first load, s": (2.0, True),
        "what the flow adds, nothing changed, s": (3.1, False),
    }


def test_latency_is_held_against_the_floor_and_every_request_by_itself() -> None:
    found = judged(
        outcome(Case(FLOOR, "sqlite", 1_000), 5.0),
        outcome(Case(OURS, "sqlite", 1_000, 150.0), 7.0),
    )

    assert found["first load / the same requests one after another"] == (7.0 / (100 * 0.15 + 5.0), True)
    assert "first load / floor" not in found


def test_memory_is_compared_between_the_smallest_and_the_largest_size() -> None:
    ours = [
        outcome(Case(OURS, "sqlite", rows), 1.0, peak_mb=peak_mb)
        for rows, peak_mb in ((40_000, 100.0), (200_000, 190.0), (1_000_000, 116.0))
    ]

    assert judged(*ours)["growth of peak memory"] == (1.16, False)


def test_a_case_that_went_wrong_yields_no_ratio() -> None:
    broken = outcome(Case(FLOOR, "sqlite", 1_000), 10.0)
    broken.error = "it ended without a word"

    assert judged(broken, outcome(Case(OURS, "sqlite", 1_000), 15.0)).keys() == {"peak memory over imports, MB"}


def test_a_ratio_at_its_target_has_reached_it() -> None:
    assert Ratio("", "", 1.5, 1.5).is_reached
    assert Ratio("", "", 5.0, 5.0, is_floor=True).is_reached
    assert not Ratio("", "", 4.9, 5.0, is_floor=True).is_reached


def test_slow_contestants_do_as_little_as_tells_something() -> None:
    chosen = list(cases([FLOOR, OURS, FLOW, DLT], ["sqlite", "postgresql"], [9_000, 1_000], [150.0, 0.0]))

    assert [case for case in chosen if case.contestant == DLT] == [
        Case(DLT, "sqlite", 1_000, 0.0),
        Case(DLT, "sqlite", 9_000, 0.0, is_brief=True),
    ]
    assert chosen[-1].workloads == (FIRST, NOTHING, CHANGED)
    assert Case(DLT, "sqlite", 9_000, is_brief=True).workloads == Case(FLOOR, "sqlite", 9_000).workloads == (FIRST,)
    assert [case for case in chosen if case.contestant == FLOW] == [
        Case(FLOW, engine, rows, 0.0) for rows in (1_000, 9_000) for engine in ("sqlite", "postgresql")
    ]
    assert sum(case.contestant in {FLOOR, OURS} for case in chosen) == 16
