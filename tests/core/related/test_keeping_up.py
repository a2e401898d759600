"""What happens to a related table while all its keys are read, page after page, is not lost."""

from collections.abc import Callable

import httpx
import pytest
from copies import Copy
from graphs import SELECTION, Graph, key_of

from igh_sync_core.report import EntityReport
from igh_sync_core.sandbox import Fault
from igh_sync_core.sandbox.http.service import sent_address

RESTORED, CHANGED, GONE, QUIET = (key_of("account", number) for number in range(4))
PAGE = 3


@pytest.fixture
def copy(database_settings: dict[str, str]) -> Copy:
    """Four accounts that studies point at, of which one is deleted and to be restored, and three others."""
    graph = Graph()
    for number in range(7):
        graph.add("account", number)
        if number < 4:
            graph.add("vin_study", number, _vin_site_value=("account", key_of("account", number)))
    made = Copy(graph.organisation(), database_settings, SELECTION)
    accounts(made)
    made.organisation.delete("account", RESTORED)
    accounts(made)
    made.organisation.clock.advance(3_600)
    return made


def accounts(copy: Copy, *, page_size: int = 5_000, reconcile: bool = False) -> EntityReport:
    """The report of a run that succeeds."""
    report = copy.sync(page_size=page_size, reconcile=reconcile)
    assert report.failed_entities == []
    return next(one for one in report.entities if one.entity == "account")


def live(copy: Copy) -> None:
    organisation = copy.organisation
    organisation.clock.advance(60)
    organisation.update("account", CHANGED, {"name": "changed meanwhile"})
    organisation.delete("account", GONE)
    organisation.restore("account", RESTORED)


def after_first_page(copy: Copy, action: Callable[[Copy], None]) -> None:
    """Do something once, when the first page of keys is on its way."""
    answer, due = copy.sandbox.handle, [action]

    def handle(request: httpx.Request) -> httpx.Response:
        reply = answer(request)
        if due and reply.status_code == httpx.codes.OK and "/accounts?$select" in sent_address(request):
            due.pop()(copy)
        return reply

    copy.sandbox.handle = handle  # type: ignore[method-assign]


def is_up_to_date(copy: Copy) -> bool:
    names = dict(copy.open_rows("accounts", "accountid", "name"))
    source = {key: copy.organisation.record("account", key)["name"] for key in (RESTORED, CHANGED, QUIET)}
    return names == source


@pytest.fixture(params=["by id", "all keys again"])
def second_look(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How few records are looked at again, and how many."""
    if request.param != "by id":
        monkeypatch.setattr("igh_sync_core.related.feeds.MAX_CONDITIONS", 3)
    return str(request.param)


def test_what_happens_while_all_keys_are_read_for_a_lost_link_is_found(copy: Copy, second_look: str) -> None:
    copy.organisation.expire_delta_tokens("account")
    after_first_page(copy, live)
    report = accounts(copy, page_size=PAGE)

    assert second_look in report.reason
    assert (report.added, report.updated, report.closed) == (1, 1, 1)
    assert is_up_to_date(copy)
    # The link refused and two pages of keys; then four ids in two pages, or two pages of keys and the two that differ.
    assert report.requests == (5 if second_look == "by id" else 6)
    assert accounts(copy, page_size=PAGE).requests == 1


def test_what_happens_while_a_run_reconciles_is_told_by_the_older_link(copy: Copy) -> None:
    after_first_page(copy, live)
    assert accounts(copy, page_size=PAGE, reconcile=True).requests == 2
    accounts(copy, page_size=PAGE)

    assert is_up_to_date(copy)
    assert accounts(copy, page_size=PAGE).requests == 1


def test_a_second_look_that_failed_is_made_by_the_next_run(copy: Copy, second_look: str) -> None:
    copy.organisation.expire_delta_tokens("account")
    after_first_page(copy, live)
    spoilt = "/accounts?$filter" if second_look == "by id" else "/accounts?$select"
    # The link refused and two pages of keys come before.
    copy.sandbox.faults.add(Fault(kind="status", match=spoilt, times=99, skip=3 if "select" in spoilt else 0))
    assert copy.sync(page_size=PAGE).failed_entities
    copy.sandbox.faults.clear()
    accounts(copy, page_size=PAGE)

    assert is_up_to_date(copy)
    accounts(copy, page_size=PAGE)
    assert accounts(copy, page_size=PAGE).requests == 1


def test_a_second_look_that_was_cut_goes_on_with_the_same_link(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("igh_sync_core.related.feeds.MAX_CONDITIONS", 0)
    copy.organisation.expire_delta_tokens("account")
    after_first_page(copy, live)
    copy.sandbox.faults.add(Fault(kind="status", match="/accounts?$select", times=99, skip=4))
    assert copy.sync(page_size=PAGE).failed_entities
    link = copy.state("accounts").delta_link
    copy.sandbox.faults.clear()
    report = accounts(copy, page_size=PAGE)

    assert "goes on after its last stored page of keys" in report.reason
    assert copy.state("accounts").delta_link == link
    assert is_up_to_date(copy)


@pytest.mark.parametrize("reconcile", [False, True])
def test_keys_of_one_page_are_looked_at_once(copy: Copy, *, reconcile: bool) -> None:
    if not reconcile:
        copy.organisation.expire_delta_tokens("account")
    report = accounts(copy, reconcile=reconcile)

    assert report.requests == (1 if reconcile else 2)


def test_keys_are_looked_at_once_where_nothing_is_stored(copy: Copy) -> None:
    first = next(one for one in copy.sync(page_size=2).entities if one.entity == "contact")
    assert first.requests == 1
    for number in range(5):
        copy.organisation.insert("contact", {"contactid": key_of("contact", number)})
    copy.organisation.expire_delta_tokens("contact")
    second = next(one for one in copy.sync(page_size=2).entities if one.entity == "contact")

    assert second.requests == 4, "the link refused, and three pages of keys"


def test_nothing_is_left_of_an_unfinished_read_once_tracking_is_off(copy: Copy) -> None:
    copy.organisation.expire_delta_tokens("account")
    copy.sandbox.faults.add(Fault(kind="status", match="/accounts?$select", times=99, skip=2))
    assert copy.sync(page_size=1).failed_entities
    copy.sandbox.faults.clear()
    assert copy.rows_of("SELECT key FROM _sync_seen")
    copy.organisation.set_change_tracking("account", on=False)
    accounts(copy)

    assert copy.rows_of("SELECT key FROM _sync_seen") == []
