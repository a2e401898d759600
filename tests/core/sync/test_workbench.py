"""A few places for pages, and what is done while all of them are taken."""

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec import Raw
from wires import until

from igh_sync_core.config import Config
from igh_sync_core.related import tier
from igh_sync_core.store.database import Database
from igh_sync_core.sync.sharing import shared_database
from igh_sync_core.sync.workbench import Workbench, workbench_of
from igh_sync_core.webapi.odata import Page
from igh_sync_core.webapi.paging import Fetched, Trail, read_ahead

ROOT = "https://org.crm.dynamics.com/api/data/v9.2/"


def test_it_holds_so_many_and_the_next_waits_for_one_to_leave() -> None:
    bench, has_entered = Workbench(2), threading.Event()

    def work() -> None:
        with bench:
            has_entered.set()

    thread = threading.Thread(target=work)
    with bench:
        with bench:
            assert bench.keeps_up(), "nobody waits yet"
            thread.start()
            assert until(lambda: not bench.keeps_up())
            assert not has_entered.is_set()
        assert has_entered.wait(10)
        assert bench.keeps_up()
    thread.join()


def settings(**database: str) -> Config:
    return Config(ROOT, "app", "secret", "", **database)  # type: ignore[arg-type]  # the others are texts, too


def has_places(bench: Workbench, places: int) -> bool:
    """Whether of one thread more than that all but one find a place, and that one waits."""
    entered, has_ended = threading.Semaphore(0), threading.Event()

    def work() -> None:
        with bench:
            entered.release()
            has_ended.wait(60)

    threads = [threading.Thread(target=work) for _ in range(places + 1)]
    for thread in threads:
        thread.start()
    found = [entered.acquire(timeout=10) for _ in range(places)]
    is_full = until(lambda: not bench.keeps_up(), seconds=10)
    has_ended.set()
    for thread in threads:
        thread.join()
    return all(found) and is_full


def test_a_database_has_one_of_its_own_that_the_tasks_of_a_process_share(tmp_path: Path) -> None:
    one, other = settings(sqlite_db_path=str(tmp_path / "a.db")), settings(sqlite_db_path=str(tmp_path / "b.db"))
    with shared_database(one) as first, shared_database(one) as again, shared_database(other) as second:
        assert workbench_of(first) is workbench_of(again)
        assert workbench_of(first) is not workbench_of(second)
        with workbench_of(first):
            assert has_places(workbench_of(second), 1), "one that is waited for holds up no other"


def test_postgresql_takes_a_page_while_another_is_decoded() -> None:
    database = Database(settings(postgres_connection_string="postgresql://u:p@h/d"))

    assert has_places(workbench_of(database), 2)


class Pages:
    """Three numbered pages of each chain; tells who asked for which."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.askers: set[str] = set()

    def __call__(self, url: str, _abandoned: threading.Event) -> Fetched:
        name = url.rpartition("/")[2]
        self.asked.append(name)
        self.askers.add(threading.current_thread().name)
        following = f"{ROOT}{name[0]}{int(name[1]) + 1}" if name[1] < "3" else None
        return Fetched(Page([Raw(name.encode())], following), None, 0)


def test_where_it_is_not_worth_it_a_page_is_asked_for_when_it_is_wanted() -> None:
    pages, start = Pages(), f"{ROOT}a1"
    for number, fetched in enumerate(
        read_ahead(pages, Trail(ROOT, [start]), threading.Event(), is_ahead=lambda: False), 1
    ):
        assert bytes(fetched.page.value[0]) == f"a{number}".encode()
        assert pages.asked == [f"a{at}" for at in range(1, number + 1)]

    assert len(pages.asked) == 3
    assert pages.askers == {threading.current_thread().name}, "nobody else could do anything meanwhile"


def test_where_it_is_not_worth_it_several_chains_still_end() -> None:
    pages, starts = Pages(), [f"{ROOT}{chain}1" for chain in "abc"]
    read = read_ahead(pages, Trail(ROOT, starts), threading.Event(), at_once=2, is_ahead=lambda: False)
    names = [bytes(fetched.page.value[0]).decode() for fetched in read]

    assert sorted(names) == sorted(f"{chain}{at}" for chain in "abc" for at in (1, 2, 3))


@pytest.mark.parametrize(("is_ahead", "under_way"), [(False, 1), (True, tier.BATCHES_AT_ONCE)])
def test_another_batch_of_ids_is_under_way_where_that_is_worth_it(*, is_ahead: bool, under_way: int) -> None:
    asked: list[str] = []

    def ask(ids: Sequence[str]) -> tier.Answer:
        return tier.Answer(ids, [], Fetched(Page([]), datetime.now(UTC), 0))

    def batches() -> Iterator[list[str]]:
        for name in "abcd":
            asked.append(name)
            yield [name]

    answers = tier.several_at_once(ask, batches(), is_ahead=lambda: is_ahead)
    next(answers)
    assert len(asked) == under_way
