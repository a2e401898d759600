"""The command: measures every case, prints the tables and writes the JSON."""

import os
import platform
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from . import dlt_home
from .cases import CONTESTANTS, ENGINES, Case, Outcome, best, cases
from .display import measurements_table, ratios_table
from .measuring import Arena
from .ratios import ratios


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; exit status 1 when a case could not be measured. A target missed is a finding, not a failure."""
    options = _parser().parse_args(argv)
    if options.clean:
        dlt_home.remove()
        return 0
    chosen = list(cases(options.contestants, options.engines, options.rows, options.latencies))
    outcomes = _measure(chosen, options)
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(measurements_table(outcomes))
    console.print(ratios_table(ratios(outcomes)))
    return 1 if any(outcome.error for outcome in outcomes) else 0


def _measure(chosen: Sequence[Case], options: Namespace) -> list[Outcome]:
    progress = Console(stderr=True)
    outcomes: list[Outcome] = []
    with Arena(("--without-json",) if options.floor_without_json else ()) as arena:
        for case in chosen:
            # With added latency waits rule, and a second run takes minutes to say the same.
            outcome = best([arena.measure(case) for _ in range(1 if case.latency_ms else options.repeats)])
            outcomes.append(outcome)
            spent = ", ".join(f"{measured.workload} {measured.seconds:.2f} s" for measured in outcome.measurements)
            progress.print(
                f"{case}: {spent or 'nothing measured'}{outcome.error and f'; {outcome.error}'}", markup=False
            )
            if options.json:
                _write(options, outcomes)
    return outcomes


def _write(options: Namespace, outcomes: list[Outcome]) -> None:
    """After each case anew, so that a long run that breaks off has not been in vain."""
    found = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
        "floor_without_json": options.floor_without_json,
        "repeats": options.repeats,
        "outcomes": outcomes,
        "ratios": [msgspec.structs.asdict(ratio) | {"is_reached": ratio.is_reached} for ratio in ratios(outcomes)],
    }
    options.json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m tests.benchmarks", description="How fast, how lean.")
    parser.add_argument("--rows", type=int, nargs="+", default=[40_000], help="sizes (default: 40000)")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES), help="default: both")
    parser.add_argument("--latencies", type=float, nargs="+", default=[0, 150], help="ms per reply (default: 0 150)")
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), help="default: all")
    parser.add_argument(
        "--repeats",
        type=int,
        default=1,
        help="runs of each case without added latency, the quickest of each workload counts (default: 1)",
    )
    parser.add_argument("--floor-without-json", action="store_true", help="the floor does not keep the records' JSON")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, too")
    parser.add_argument("--clean", action="store_true", help="only delete dlt's virtual environment, and end")
    return parser


if __name__ == "__main__":
    sys.exit(main())
