"""A copy that is killed again and again while it is made, and the laws that must hold in whatever is left."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import Connection, MetaData, Table, func, inspect, select

from igh_sync_core.config import Config
from igh_sync_core.config.entities import load_entity_configs
from igh_sync_core.sandbox import Server
from igh_sync_core.store.control import SyncState
from igh_sync_core.store.database import Database

ENTITIES = (
    "vin_candidate",
    "vin_clinicaltrial",
    "vin_disease",
    "vin_rdpriority",
    "vin_clinicalusestatus",
    "vin_vin_candidate_account",
)
KILLED = -9
PAGE_SIZE = 60
OUR_OWN = frozenset({"row_id", "junction_id", "run_id", "read_started", "read_latest", "page_digest"})
"""Columns that number rows or tell of the last run: the only ones in which two equal histories may differ."""
KEYS = {entity.api_name: f"{entity.name}id" for entity in load_entity_configs() if entity.name in ENTITIES}
_STATES = SyncState.metadata.tables["_sync_state"]
Rows = list[tuple[Any, ...]]


class Launcher:
    """The process that starts and kills the others; see ``launcher``."""

    def __init__(self, folder: Path) -> None:
        self._output = folder / "output.txt"
        script = Path(__file__).with_name("launcher.py")
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder
        )

    def run(self, environment: dict[str, str], *argv: str, kill_after_s: float | None = None) -> tuple[int, float]:
        """Exit code and seconds of one process."""
        order = {
            "argv": argv,
            "environment": environment,
            "kill_after_s": kill_after_s,
            "output": str(self._output),
        }
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(order) + "\n")
        stdin.flush()
        answer = json.loads(stdout.readline())
        return int(answer["code"]), float(answer["seconds"])

    def output(self) -> str:
        """What the last process wrote."""
        return self._output.read_text()

    def close(self) -> None:
        """End it."""
        self._process.communicate()


@contextmanager
def launching(folder: Path) -> Iterator[Launcher]:
    """A launcher that ends with the block."""
    launcher = Launcher(folder)
    try:
        yield launcher
    finally:
        launcher.close()


@dataclass
class Target:
    """One copy of a served organisation, made by real processes.

    Attributes:
        settings: The fields of ``Config`` that choose the database.
        kills: How many processes were killed so far.
        completed: How many came to their end.
    """

    server: Server
    settings: dict[str, str]
    launcher: Launcher
    random: Random
    kills: int = field(default=0, init=False)
    completed: int = field(default=0, init=False)
    _span_s: float = field(default=1.0, init=False)

    def __post_init__(self) -> None:
        self.database = Database(Config("https://org.crm.dynamics.com", "", "", "", **self.settings))
        names = {"sqlite_db_path": "SQLITE_DB_PATH", "postgres_connection_string": "POSTGRES_CONNECTION_STRING"}
        self._environment = self.server.environment() | {names[name]: text for name, text in self.settings.items()}

    def sync(self, *argv: str, kill_after_s: float | None = None) -> bool:
        """One process; whether it came to its end, which must be a good one."""
        arguments = ("--entities", *ENTITIES, "--page-size", str(PAGE_SIZE), *argv)
        code, seconds = self.launcher.run(self._environment, *arguments, kill_after_s=kill_after_s)
        assert code in (0, KILLED), self.launcher.output()
        if code == KILLED:
            self.kills += 1
        else:
            self.completed += 1
            self._span_s = max(0.2, seconds)
        return code == 0

    def sync_under_kills(self, kills: int, *argv: str) -> None:
        """Kill that many processes at random moments, then let one come to its end; the laws hold at each stop."""
        wanted = self.kills + kills
        while self.kills < wanted:
            self.sync_or_die(*argv)
        assert self.sync(*argv)
        self.check()

    def sync_or_die(self, *argv: str) -> None:
        """One process that is killed at a random moment, unless it ends before."""
        # Rather early than late, which is quicker; what was read stays, so every part of a read has its turn.
        self.sync(*argv, kill_after_s=0.02 + self._span_s * self.random.random() ** 2)
        self.check()

    def check(self) -> None:
        """What must hold whenever a process may have died: law 1 and law 4."""
        with self.database.connection() as conn:
            snapshot = conn.execution_options(isolation_level="REPEATABLE READ") if self.database.is_postgres else conn
            with snapshot.begin():
                present = set(inspect(snapshot).get_table_names())
                if "_sync_state" not in present:
                    return
                for state in snapshot.execute(select(_STATES)).mappings():
                    table = Table(state["entity_name"], MetaData(), autoload_with=snapshot)
                    open_rows = select(func.count()).select_from(table).where(table.c.valid_to.is_(None))
                    assert state["records_count"] == snapshot.scalar(open_rows), "rows without their checkpoint"
                    empty = select(func.count()).select_from(table).where(table.c.valid_to <= table.c.valid_from)
                    assert snapshot.scalar(empty) == 0, "an interval without length"

    def history(self) -> dict[str, Rows]:
        """Every table that holds what Dataverse said or how far the copy has come, without our own numbers."""
        with self.database.writing() as conn:
            names = [name for name in inspect(conn).get_table_names() if name not in _OF_RUNS]
            return {name: _rows(conn, name) for name in sorted(names)}

    def current(self, entity_set: str, *columns: str) -> set[tuple[Any, ...]]:
        """The current versions."""
        with self.database.writing() as conn:
            table = Table(entity_set, MetaData(), autoload_with=conn)
            found = conn.execute(select(*(table.c[name] for name in columns)).where(table.c.valid_to.is_(None)))
            return {tuple(str(value) for value in row) for row in found}


_OF_RUNS = {"_sync_log", "_sync_lock", "_sync_metadata", "sqlite_sequence"}


def _rows(conn: Connection, name: str) -> Rows:
    """All rows; versions of a key in the order they were written."""
    table = Table(name, MetaData(), autoload_with=conn)
    # Two entities may share a field whose codes they name differently: which label it shows is who came first.
    ignored = OUR_OWN | ({"label"} if name.startswith("_optionset_") else set())
    columns = [column for column in table.columns if column.name not in ignored]
    if name in KEYS:
        ordered = select(*columns).order_by(table.c[KEYS[name]], table.c.row_id)
        return [tuple(map(repr, row)) for row in conn.execute(ordered)]
    return sorted(tuple(map(repr, row)) for row in conn.execute(select(*columns)))
