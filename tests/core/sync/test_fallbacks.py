"""What is done where the server refuses a read, or answers another one than was asked."""

import httpx
import pytest
from copies import Copy, entities
from sqlalchemy import text

from igh_sync_core.sandbox import health_organisation
from igh_sync_core.sandbox.http.service import sent_address
from igh_sync_core.sync.run import Progress

TRACKED, TABLE = "vin_disease", "vin_diseases"
PAIRS = "vin_vin_candidate_vin_country"
SMALL_PAGES = 7
NO_PRIVILEGE = "0x80040220"


class Interrupted(Exception):
    """Stands for whatever ends a process in the middle of a run."""


@pytest.fixture
def copy(database_settings: dict[str, str]) -> Copy:
    return Copy(health_organisation(2_000), database_settings, entities(TRACKED))


def interrupt(progress: Progress) -> None:
    if not progress.is_done:
        raise Interrupted


def current(copy: Copy) -> set[str]:
    return {key for (key,) in copy.open_rows(TABLE, f"{TRACKED}id")}


def refuse_tracking(copy: Copy, status: int, code: str = "0x80072491") -> None:
    """What metadata says is not what the server does: the user may not read all records, or tracking is off again."""
    answer = copy.sandbox.handle

    def handle(request: httpx.Request) -> httpx.Response:
        reply = answer(request)
        is_tracked = "track-changes" in request.headers.get("Prefer", "") or "deltatoken" in sent_address(request)
        if reply.status_code == httpx.codes.OK and is_tracked:
            return httpx.Response(status, json={"error": {"code": code, "message": "not enabled"}})
        return reply

    copy.sandbox.handle = handle  # type: ignore[method-assign]


def keep_link(copy: Copy, *, only: int = 99) -> None:
    """The server leaves out the delta link, and with it most of the records, of so many tracked reads."""
    answer, left = copy.sandbox.handle, [only]

    def handle(request: httpx.Request) -> httpx.Response:
        reply = answer(request)
        if b"@odata.deltaLink" not in reply.content or not left[0]:
            return reply
        left[0] -= 1
        page = {**reply.json(), "@odata.deltaLink": None}
        return httpx.Response(200, headers={"Date": reply.headers["Date"]}, json=page | {"value": page["value"][:1]})

    copy.sandbox.handle = handle  # type: ignore[method-assign]


def test_a_tracked_read_that_ends_without_a_delta_link_is_read_untracked_and_says_so(copy: Copy) -> None:
    keep_link(copy)
    copy.organisation.clock.advance(60)

    for _run in range(2):
        report = copy.sync_one(page_size=100)
        assert report.strategy == "modifiedon"
        assert "the last page had no delta link; read whole, untracked" in report.reason
        assert current(copy) == set(copy.organisation.keys(TRACKED))
        assert report.closed == 0


def test_changes_that_end_without_a_delta_link_are_read_whole(copy: Copy) -> None:
    copy.sync_one()
    copy.organisation.clock.advance(60)
    key = copy.organisation.keys(TRACKED)[0]
    copy.organisation.update(TRACKED, key, {"vin_name": "renamed"})
    keep_link(copy, only=1)

    report = copy.sync_one()
    assert (report.strategy, report.updated, report.closed) == ("delta", 1, 0)
    assert "the last page had no delta link; read whole" in report.reason
    assert copy.sync_one().requests == 1


@pytest.mark.parametrize("status", [400, 403, 410])
def test_an_interrupted_untracked_read_goes_on_though_tracking_is_refused_again(copy: Copy, status: int) -> None:
    refuse_tracking(copy, status)
    assert copy.sync(page_size=SMALL_PAGES, on_page=interrupt).failed_entities
    stored = len(current(copy))

    report = copy.sync_one(page_size=SMALL_PAGES)
    assert "change tracking was refused" in report.reason
    assert "goes on after its last stored page" in report.reason
    assert report.added == len(copy.organisation.keys(TRACKED)) - stored > 0
    assert current(copy) == set(copy.organisation.keys(TRACKED))


def test_where_tracking_is_refused_again_later_runs_read_what_changed_and_say_so(copy: Copy) -> None:
    refuse_tracking(copy, 400)
    copy.sync_one()
    copy.organisation.clock.advance(3_600)
    copy.organisation.update(TRACKED, copy.organisation.keys(TRACKED)[0], {"vin_name": "renamed"})

    report = copy.sync_one()
    assert (report.updated, report.requests) == (1, 2)
    assert report.unchanged < len(current(copy)) - 1  # the overlap of a moment, not everything
    assert report.reason.endswith("change tracking was refused (0x80072491)")
    assert "read whole" not in report.reason


def test_tracking_refused_while_a_tracked_read_was_interrupted_is_no_end_of_the_table(copy: Copy) -> None:
    assert copy.sync(page_size=SMALL_PAGES, on_page=interrupt).failed_entities
    copy.organisation.tables[TRACKED].shape.is_tracked = False  # as metadata will tell one day

    report = copy.sync_one(page_size=SMALL_PAGES)
    assert "change tracking was refused" in report.reason
    assert current(copy) == set(copy.organisation.keys(TRACKED))


def test_a_delta_link_answered_with_everything_is_read_whole_and_loses_no_deletion(copy: Copy) -> None:
    copy.sync_one()
    changed, gone = copy.organisation.keys(TRACKED)[:2]
    copy.organisation.clock.advance(60)
    copy.organisation.update(TRACKED, changed, {"vin_name": "changed meanwhile"})
    copy.organisation.delete(TRACKED, gone)
    copy.organisation.expired_token_returns_everything = True
    copy.organisation.expire_delta_tokens(TRACKED)

    report = copy.sync_one(page_size=SMALL_PAGES)
    assert "the delta link was answered with all records; read whole" in report.reason
    assert (report.updated, report.closed) == (1, 1)
    ended = [row for row in copy.rows(TABLE, f"{TRACKED}id", "closed_reason") if row[1]]
    assert sorted(ended) == sorted([(changed, "updated"), (gone, "absent")])
    assert copy.sync_one().requests == 1


def narrow(copy: Copy, entity: str = TRACKED) -> str:
    """Leave the user what is its own, of which the server tells no changes; gives a record that it reads no more."""
    hidden = copy.organisation.keys(entity)[0]
    copy.sandbox.hide(entity, hidden)
    refuse_tracking(copy, 403, NO_PRIVILEGE)
    return hidden


@pytest.mark.parametrize("reconcile", [False, True])
def test_a_role_narrowed_to_the_users_own_records_is_a_failure_and_closes_nothing(
    copy: Copy, *, reconcile: bool
) -> None:
    copy.sync_one()
    before = copy.rows(TABLE, f"{TRACKED}id", "valid_from", "valid_to")
    link, answer = copy.state(TABLE).delta_link, copy.sandbox.handle
    hidden = narrow(copy)

    [(_entity, error)] = copy.sync(reconcile=reconcile).failed_entities
    assert "organization-level read" in error
    assert copy.rows(TABLE, f"{TRACKED}id", "valid_from", "valid_to") == before
    assert copy.state(TABLE).delta_link == link
    copy.sandbox.reveal(TRACKED, hidden)
    copy.sandbox.handle = answer  # type: ignore[method-assign]
    assert copy.sync_one().requests == 1


def test_a_role_narrowed_while_a_whole_read_was_interrupted_closes_nothing(copy: Copy) -> None:
    copy.sync_one()
    copy.organisation.expire_delta_tokens(TRACKED)
    assert copy.sync(page_size=SMALL_PAGES, on_page=interrupt).failed_entities
    assert copy.state(TABLE).delta_link is None
    narrow(copy)

    assert copy.sync(page_size=SMALL_PAGES).failed_entities
    assert current(copy) == set(copy.organisation.keys(TRACKED))


@pytest.mark.parametrize("is_first", [False, True])
@pytest.mark.parametrize("entity", [TRACKED, PAIRS])
def test_a_role_narrowed_after_a_link_was_missing_closes_nothing(copy: Copy, entity: str, *, is_first: bool) -> None:
    copy.selection = entities(entity)
    if not is_first:
        copy.sync_one()
    keep_link(copy, only=1 if is_first else 2)
    assert "read whole, untracked" in copy.sync_one().reason
    shown = (copy.selection[0].api_name, f"{entity}id", "valid_to")
    before = copy.rows(*shown)
    narrow(copy, entity)

    for reconcile in (False, True):
        [(_entity, error)] = copy.sync(reconcile=reconcile).failed_entities
        assert "organization-level read" in error
        assert copy.rows(*shown) == before


def test_a_table_that_never_was_tracked_is_read_without_tracking_where_the_role_is_narrow(copy: Copy) -> None:
    hidden = narrow(copy)

    assert "change tracking was refused" in copy.sync_one().reason
    assert current(copy) == set(copy.organisation.keys(TRACKED)) - {hidden}


def test_a_table_made_anew_has_nothing_to_lose_where_the_role_is_narrow(copy: Copy) -> None:
    copy.sync_one()
    hidden = narrow(copy)
    with copy.database.writing() as conn:
        conn.execute(text(f"ALTER TABLE {TABLE} RENAME TO {TABLE}_before"))

    assert "change tracking was refused" in copy.sync_one().reason
    assert current(copy) == set(copy.organisation.keys(TRACKED)) - {hidden}


@pytest.mark.parametrize(("entity", "strategy"), [(TRACKED, ""), ("contact", "related")])
def test_a_table_that_gives_no_list_of_its_records_is_skipped(copy: Copy, entity: str, strategy: str) -> None:
    copy.selection = entities(TRACKED, "vin_candidate", "contact")
    answer, [chosen] = copy.sandbox.handle, entities(entity)
    message = "The 'RetrieveMultiple' method does not support entities of this type."

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith(f"/{chosen.api_name}"):
            return httpx.Response(400, json={"error": {"code": "0x80040800", "message": message}})
        return answer(request)

    copy.sandbox.handle = handle  # type: ignore[method-assign]
    report = copy.sync()

    skipped, *others = sorted(report.entities, key=lambda one: one.status, reverse=True)
    assert (skipped.entity, skipped.strategy, skipped.status, skipped.error) == (entity, strategy, "skipped", "")
    assert "gives no list of its records (0x80040800)" in skipped.reason
    assert report.success
    assert {one.status for one in others} == {"completed"}
    ends = dict(copy.rows_of("SELECT entity_name, status FROM _sync_log"))
    assert ends.pop(chosen.api_name) == "skipped"
    assert set(ends.values()) == {"completed"}
    states = dict(copy.rows_of("SELECT entity_name, state FROM _sync_state"))
    assert states.get(chosen.api_name, "pending") == "pending"
