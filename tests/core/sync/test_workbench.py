"""A few places for pages, and what is done while all of them are taken."""

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import pytest
from msgspec import Raw
from wires import until

from igh_sync_core.related import tier
from igh_sync_core.sync.workbench import Workbench
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
