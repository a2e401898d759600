"""One run at a time: who is refused, whose lock is taken over, and that nobody writes without it."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from copies import Copy, entities
from sqlalchemy import delete, insert, select, update
from wires import until

from igh_sync_core.config import Config
from igh_sync_core.errors import StoreBusy, StoreError
from igh_sync_core.sandbox import health_organisation
from igh_sync_core.schema.ddl import create_control_tables
from igh_sync_core.store import lock, processes
from igh_sync_core.store.control import SyncLock, SyncSeen
from igh_sync_core.store.database import Database
from igh_sync_core.store.lock import exclusive_run, fence

LOCK = SyncLock.metadata.tables["_sync_lock"]
SEEN = SyncSeen.metadata.tables["_sync_seen"]
RACERS = 4
RUNNER = """
import sys, time
from igh_sync_core.config import Config
from igh_sync_core.store.database import Database
from igh_sync_core.errors import StoreBusy
from igh_sync_core.store.lock import exclusive_run
from igh_sync_core.schema.ddl import create_control_tables
setting, value, name, start = sys.argv[1:]
time.sleep(max(0.0, float(start) - time.time()))
database = Database(Config("https://org.crm.dynamics.com", "", "", "", **{setting: value}))
create_control_tables(database)
try:
    with exclusive_run(database, name):
        print("won", flush=True)
        sys.stdin.read()
except StoreBusy as exc:
    print(exc, flush=True)
"""


@pytest.fixture
def ready(database: Database) -> Database:
    create_control_tables(database)
    return database


def now() -> datetime:
    return datetime.now(UTC)


def holder(**other: Any) -> dict[str, Any]:
    """A row of the lock: by default of a run on another machine that is well."""
    row = {"name": "run", "token": "other", "host": "elsewhere", "pid": 1, "since": now(), "heartbeat": now()}
    return row | other


def hold(database: Database, **other: Any) -> None:
    with database.writing() as conn:
        conn.execute(delete(LOCK))
        conn.execute(insert(LOCK).values(**holder(**other)))


def is_taken(database: Database) -> bool:
    """Whether a new run gets the database."""
    try:
        with exclusive_run(database, "new"), database.writing() as conn:
            fence(conn, "new")
            return True
    except StoreBusy:
        return False


def start(settings: dict[str, str], name: str, at: float = 0.0) -> subprocess.Popen[str]:
    [(setting, value)] = settings.items()
    return subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, "-c", RUNNER, setting, value, name, str(at)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_second_run_is_told_who_holds_the_database_and_since_when(ready: Database) -> None:
    with exclusive_run(ready, "first"), pytest.raises(StoreBusy) as refused, exclusive_run(ready, "second"):
        pass

    assert f"run first (process {os.getpid()} on {socket.gethostname()}) since {now():%Y-%m-%d}" in str(refused.value)
    assert is_taken(ready), "the first has given it back"


@pytest.mark.parametrize(
    ("step", "fault"), [("start", RuntimeError("can't start new thread")), ("join", KeyboardInterrupt())]
)
def test_a_run_whose_heart_cannot_be_started_or_waited_for_gives_the_database_back(
    ready: Database, monkeypatch: pytest.MonkeyPatch, step: str, fault: BaseException
) -> None:
    """In a process that lives on, such as a notebook's, its lock would keep every run out for half an hour."""

    def fail(_thread: threading.Thread) -> None:
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, step, fail)
        with pytest.raises(type(fault)), exclusive_run(ready, "first"):
            pass

    assert is_taken(ready)


@pytest.mark.e2e
def test_of_processes_that_race_for_a_new_database_exactly_one_wins(database_settings: dict[str, str]) -> None:
    racers = [start(database_settings, f"racer{number}", time.time() + 4) for number in range(RACERS)]
    said = [line(racer) for racer in racers]
    for racer in racers:
        racer.communicate()

    assert said.count("won") == 1
    winner = f"racer{said.index('won')}"
    assert all(f"held by run {winner} " in text for text in said if text != "won")


@pytest.mark.e2e
def test_the_lock_of_a_killed_process_is_taken_over_at_once(
    database_settings: dict[str, str], ready: Database, caplog: pytest.LogCaptureFixture
) -> None:
    process = start(database_settings, "doomed")
    assert line(process) == "won"
    assert not is_taken(ready)
    process.send_signal(signal.SIGKILL)
    # Not buried yet: nobody has asked for its exit status.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    assert is_taken(ready)
    assert "is dead; its lock is taken over" in caplog.text
    process.communicate()


@pytest.mark.parametrize(
    ("age_s", "is_dead"),
    [(0, False), (60, False), (100, True), (-60, False), (-86_400, True)],
    ids=["fresh", "late", "stopped", "clock a little ahead", "from before the clock was set back"],
)
def test_a_holder_elsewhere_lives_as_long_as_its_heart(ready: Database, age_s: int, is_dead: bool) -> None:
    hold(ready, heartbeat=now() - timedelta(seconds=age_s))

    assert is_taken(ready) == is_dead


def test_a_process_of_the_same_number_is_not_the_holder_after_a_restart(ready: Database) -> None:
    mark = processes.birth_mark(os.getpid())
    assert mark is not None
    space, _, tick = mark.rpartition("/")
    hold(ready, host=socket.gethostname(), pid=os.getpid(), process=f"{space}/{int(tick) - 1}")

    assert is_taken(ready)


def test_in_another_container_of_the_same_name_numbers_mean_nothing(ready: Database) -> None:
    restarted = {"host": socket.gethostname(), "pid": os.getpid(), "process": "other-boot/pid:[1]/17"}
    hold(ready, **restarted)
    assert not is_taken(ready), "its heart beats"
    hold(ready, **restarted, heartbeat=now() - timedelta(seconds=100))
    assert is_taken(ready)


@pytest.mark.parametrize(("age_s", "is_dead"), [(100, False), (1_900, True)])
def test_a_process_that_is_there_may_be_late_but_not_for_ever(ready: Database, age_s: int, is_dead: bool) -> None:
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "process": processes.birth_mark(os.getpid())}
    hold(ready, **mine, heartbeat=now() - timedelta(seconds=age_s))

    assert is_taken(ready) == is_dead


def test_where_the_system_tells_no_birth_a_number_must_do(ready: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "birth_mark", lambda _pid: None)
    hold(ready, host=socket.gethostname(), pid=os.getpid())
    assert not is_taken(ready)
    hold(ready, host=socket.gethostname(), pid=2**22 + 1)
    assert is_taken(ready)


def test_a_takeover_waits_for_what_the_old_run_is_about_to_commit(ready: Database) -> None:
    hold(ready, token="old", heartbeat=now() - timedelta(hours=1))
    is_fenced, order = threading.Event(), []

    def write_late() -> None:
        with ready.writing() as conn:
            fence(conn, "old")
            is_fenced.set()
            time.sleep(0.5)
            conn.execute(insert(SEEN).values(entity_name="late", key="1"))
            order.append("committed")

    writer = threading.Thread(target=write_late)
    writer.start()
    is_fenced.wait()
    with exclusive_run(ready, "new"):
        order.append("taken over")
        with ready.writing() as conn:
            assert conn.execute(select(SEEN.c.key)).all() == [("1",)]
            with pytest.raises(StoreError, match="run old lost the database"):
                fence(conn, "old")
    writer.join()

    assert order == ["committed", "taken over"]


def test_transactions_and_heartbeat_of_one_run_do_not_wait_for_each_other_on_postgresql(postgres_url: str) -> None:
    ready = Database(Config("https://org.crm.dynamics.com", "", "", "", postgres_connection_string=postgres_url))
    create_control_tables(ready)
    with exclusive_run(ready, "mine"), ready.writing() as one, ready.writing() as two, ready.writing() as heart:
        fence(one, "mine")
        fence(two, "mine")
        assert heart.execute(update(LOCK).values(heartbeat=now())).rowcount == 1


def test_a_run_that_lost_the_database_writes_nothing_more(database_settings: dict[str, str]) -> None:
    copy = Copy(health_organisation(2_000), database_settings, entities("vin_disease"))
    left: list[Any] = []

    def lose(_progress: object) -> None:
        if not left:
            hold(copy.database)
            left.append((copy.rows("vin_diseases", "row_id"), copy.state("vin_diseases")))

    [(_, error)] = copy.sync(page_size=2, on_page=lose).failed_entities
    assert "lost the database to another run; nothing more is written" in error
    assert [(copy.rows("vin_diseases", "row_id"), copy.state("vin_diseases"))] == left
    assert is_held_by(copy.database, "other")


def is_held_by(database: Database, token: str) -> bool:
    with database.writing() as conn:
        return conn.scalar(select(LOCK.c.token)) == token


def test_the_heart_beats_until_the_lock_is_lost(
    ready: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.05)
    with exclusive_run(ready, "mine"):
        with ready.writing() as conn:
            conn.execute(update(LOCK).values(heartbeat=now() - timedelta(hours=1)))
        assert until(lambda: has_just_beaten(ready))
        hold(ready)
        assert until(lambda: "run mine lost the database" in caplog.text)

    assert is_held_by(ready, "other"), "what is another's is not given back"


def has_just_beaten(database: Database) -> bool:
    with database.writing() as conn:
        return now() - conn.execute(select(LOCK.c.heartbeat)).scalar_one() < timedelta(minutes=1)


def test_a_lock_that_cannot_be_given_back_hides_neither_success_nor_error(
    ready: Database, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        with exclusive_run(ready, "mine"):
            with ready.writing() as conn:
                LOCK.drop(conn)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert [record.levelno for record in caplog.records if "could not be given back" in record.message] == [
        logging.WARNING
    ]
