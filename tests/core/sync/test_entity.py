"""How an entity is read and what that leaves in the table: section 5 of the design, on both engines."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from copies import Copy, entities, taking_ids
from sqlalchemy import Engine, MetaData, Table, delete, event, update

from igh_sync_core.errors import ConfigError, StoreUnavailable
from igh_sync_core.history import checkpoint
from igh_sync_core.report import EntityReport
from igh_sync_core.sandbox import Fault, Organisation, health_organisation
from igh_sync_core.sandbox.http.service import sent_address
from igh_sync_core.sync.run import Progress

TRACKED, UNTRACKED, WHOLE, PAIRS = "vin_disease", "vin_rdpriority", "vin_clinicalusestatus", "vin_vin_candidate_account"
START = datetime(2026, 1, 10, 12, 0, 0, tzinfo=UTC)
SMALL_PAGES = 7


class Interrupted(Exception):
    """Stands for whatever ends a process in the middle of a run."""


@pytest.fixture
def organisation() -> Organisation:
    made = health_organisation(2_000)
    made.clock.set(START)
    return made


def after_page(number: int, action: Callable[[], object]) -> Callable[[Progress], None]:
    """Do something once, when that many pages have been stored."""
    seen: list[Progress] = []

    def listen(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) == number:
            action()

    return listen


def interrupt() -> None:
    raise Interrupted


def current(copy: Copy, entity: str, *columns: str) -> dict[str, tuple[object, ...]]:
    """Current rows by key."""
    [spec] = [one for one in copy.selection if one.name == entity]
    return {row[0]: row[1:] for row in copy.open_rows(spec.api_name, f"{entity}id", *columns)}


@pytest.mark.parametrize(
    ("entity", "strategy", "reason"),
    [
        (TRACKED, "delta", "change tracking is on"),
        (UNTRACKED, "modifiedon", "no change tracking"),
        (WHOLE, "snapshot", "neither"),
        (PAIRS, "delta", "change tracking is on"),
        ("vin_vin_candidate_vin_region", "snapshot", "neither"),
    ],
)
def test_the_strategy_follows_from_metadata_and_says_why(
    copy_of: Callable[..., Copy], entity: str, strategy: str, reason: str
) -> None:
    report = copy_of(entity).sync_one()

    assert report.strategy == strategy
    assert reason in report.reason


def test_the_entities_file_may_demand_another_strategy(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(TRACKED)
    copy.selection = [replace(copy.selection[0], strategy="snapshot")]

    report = copy.sync_one()
    assert (report.strategy, "demanded" in report.reason) == ("snapshot", True)


def test_a_strategy_the_table_does_not_allow_is_an_error_that_names_the_remedy(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(UNTRACKED)
    copy.selection = [replace(copy.selection[0], strategy="delta")]

    [(entity, error)] = copy.sync().failed_entities
    assert entity == UNTRACKED
    assert "change tracking" in error


@pytest.mark.parametrize("entity", [TRACKED, UNTRACKED, WHOLE, PAIRS])
def test_a_first_read_over_many_pages_copies_every_record(copy_of: Callable[..., Copy], entity: str) -> None:
    copy = copy_of(entity)
    report = copy.sync_one(page_size=SMALL_PAGES)

    assert report.added == copy.organisation.count(entity)
    assert set(current(copy, entity)) == set(copy.organisation.keys(entity))


@pytest.mark.parametrize("entity", [TRACKED, UNTRACKED, WHOLE])
def test_changes_and_inserts_arrive_and_the_rest_makes_no_versions(copy_of: Callable[..., Copy], entity: str) -> None:
    copy = copy_of(entity)
    copy.sync_one()
    key = copy.organisation.keys(entity)[0]
    copy.organisation.clock.advance(60)
    copy.organisation.update(entity, key, {"vin_name": "renamed"})
    added = copy.organisation.insert(entity, {"vin_name": "added"})

    report = copy.sync_one()
    assert (report.added, report.updated, report.closed) == (1, 1, 0)
    assert current(copy, entity, "vin_name")[key] == ("renamed",)
    assert current(copy, entity, "vin_name")[added] == ("added",)


def test_entities_without_news_are_put_on_record_together(copy_of: Callable[..., Copy]) -> None:
    commits: list[object] = []
    totals, note = [], commits.append
    for names in ([TRACKED], [TRACKED, "vin_candidate", PAIRS]):
        copy = copy_of(*names)
        copy.sync()
        copy.sync()
        event.listen(Engine, "commit", note)
        report = copy.sync()
        event.remove(Engine, "commit", note)
        totals.append(len(commits))
        commits.clear()
        lines = copy.rows_of(f"SELECT status, requests FROM _sync_log WHERE run_id = '{report.run_id}'")  # noqa: S608
        assert lines == [("completed", 1)] * len(names)
        states = [copy.state(entity.api_name) for entity in copy.selection]
        assert {(state.state, state.run_id) for state in states} == {("completed", report.run_id)}

    assert totals[0] == totals[1]


@pytest.mark.parametrize("entity", [TRACKED, UNTRACKED, WHOLE])
def test_nothing_is_written_for_an_entity_without_news_alone(
    copy_of: Callable[..., Copy], monkeypatch: pytest.MonkeyPatch, entity: str
) -> None:
    copy = copy_of(entity)
    copy.sync()
    settled = copy.sync()
    writers: list[str] = []

    def guard(_conn: object, run_id: str) -> None:
        writers.append(run_id)

    monkeypatch.setattr("igh_sync_core.sync.writing.fence", guard)
    told: list[Progress] = []
    run = copy.sync(on_page=told.append)
    [report] = run.entities
    assert [(one.rows, one.is_done) for one in told] == [(report.unchanged, True)]
    assert (writers, report.added, report.updated, report.closed) == ([], 0, 0, 0)
    assert report.unchanged == settled.entities[0].unchanged
    [line] = copy.rows_of(f"SELECT status, records_unchanged FROM _sync_log WHERE run_id = '{run.run_id}'")  # noqa: S608
    assert tuple(line) == ("completed", report.unchanged)

    [kept, gone, *_] = copy.organisation.keys(entity)
    copy.organisation.delete(entity, gone)
    assert copy.sync().entities[0].closed == (0 if entity == UNTRACKED else 1)
    copy.organisation.update(entity, kept, {"vin_name": "renamed"})
    assert copy.sync().entities[0].updated == 1
    assert writers


def test_entities_without_news_that_cannot_be_put_on_record_are_told_as_failed(
    copy_of: Callable[..., Copy], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copy_of(TRACKED, UNTRACKED)
    copy.sync()
    copy.sync()

    def fail(*_: object) -> None:
        raise StoreUnavailable("the power went out")  # noqa: TRY003, EM101 - stands for anything

    with monkeypatch.context() as patch:
        patch.setattr("igh_sync_core.sync.tier._put_on_record", fail)
        told: list[EntityReport] = []
        report = copy.sync(on_report=told.append)

    lost = [(TRACKED, "the power went out"), (UNTRACKED, "the power went out")]
    assert report.failed_entities == lost
    assert {(one.entity, one.error) for one in told if one.status == "failed"} == set(lost)
    assert copy.sync().success


def test_whoever_breaks_off_a_run_leaves_what_had_ended_on_record(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(TRACKED, PAIRS)
    copy.sync()
    told: list[EntityReport] = []

    def break_off(report: EntityReport) -> None:
        told.append(report)
        if len(told) == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        copy.sync(on_report=break_off, concurrency=1)

    assert copy.rows_of("SELECT status FROM _sync_log") == [("completed",)] * 4


def test_a_failure_is_logged_under_the_name_that_metadata_tells(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(TRACKED)
    copy.selection = [replace(copy.selection[0], api_name="otherwise")]
    copy.sandbox.deny(TRACKED)
    report = copy.sync()

    assert len(report.failed_entities) == 1
    assert copy.rows_of("SELECT entity_name, status FROM _sync_log") == [("vin_diseases", "failed")]


@pytest.mark.parametrize("ahead", [-3_600, 3_600])
def test_the_log_tells_the_time_by_the_clock_of_the_server_and_from_when_an_entity_had_its_turn(
    copy_of: Callable[..., Copy], ahead: int
) -> None:
    copy = copy_of(TRACKED, UNTRACKED, WHOLE)
    login = (datetime.now(UTC) + timedelta(seconds=ahead)).replace(microsecond=0)
    copy.organisation.clock.set(login)
    for change in (False, True):
        if change:
            copy.sandbox.deny(WHOLE)
        report = copy.sync(on_page=after_page(1, lambda: time.sleep(1.1)), concurrency=1)
        query = f"SELECT start_time, end_time FROM _sync_log WHERE run_id = '{report.run_id}' ORDER BY id"  # noqa: S608
        (start, end), (next_start, next_end), (last_start, last_end) = map(as_times, copy.rows_of(query))

        assert login <= start < end <= next_start <= next_end <= last_start <= last_end
        assert last_end - login < timedelta(seconds=60)


def as_times(row: Sequence[Any]) -> list[datetime]:
    return [datetime.fromisoformat(value) if isinstance(value, str) else value for value in row]


def test_an_entity_is_completed_in_the_log_with_its_last_page(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(UNTRACKED)
    told: list[tuple[Any, ...]] = []

    def look(progress: Progress) -> None:
        told.append((progress.is_done, *copy.rows_of("SELECT status, records_added FROM _sync_log")))

    report = copy.sync_one(page_size=SMALL_PAGES, on_page=look)

    assert len(told) > 2
    assert told[0] == (False, ("in_progress", 0))
    assert told[-1] == (True, ("completed", report.added))


def test_a_run_with_nothing_changed_asks_once_per_tracked_entity(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(TRACKED, PAIRS, UNTRACKED, WHOLE)
    copy.sync()

    report = copy.sync()
    assert [entity.requests for entity in report.entities] == [1, 1, 1, 1]
    assert len(copy.asked) == report.requests == 5, "one for each entity, and one for the metadata version"
    assert report.total("added") + report.total("updated") + report.total("closed") == 0


# Deletions


def test_a_tombstone_closes_as_deleted(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(TRACKED)
    copy.sync_one()
    key = copy.organisation.keys(TRACKED)[0]
    copy.organisation.delete(TRACKED, key)

    assert copy.sync_one().closed == 1
    closed = [row for row in copy.rows("vin_diseases", "vin_diseaseid", "closed_reason") if row[1]]
    assert closed == [(key, "deleted")]


def test_a_row_missing_from_a_complete_read_closes_as_absent(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(WHOLE)
    copy.sync_one(page_size=3)
    key = copy.organisation.keys(WHOLE)[0]
    copy.organisation.delete(WHOLE, key)

    assert copy.sync_one(page_size=3).closed == 1
    closed = [row for row in copy.rows("vin_clinicalusestatuses", f"{WHOLE}id", "closed_reason") if row[1]]
    assert closed == [(key, "absent")]


def test_a_record_restored_after_its_deletion_opens_a_new_version(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(TRACKED)
    copy.sync_one()
    key = copy.organisation.keys(TRACKED)[0]
    copy.organisation.delete(TRACKED, key)
    copy.organisation.clock.advance(60)
    copy.sync_one()
    copy.organisation.restore(TRACKED, key)
    copy.organisation.clock.advance(60)

    assert copy.sync_one().added == 1
    reasons = [row[1] for row in copy.rows("vin_diseases", "vin_diseaseid", "closed_reason") if row[0] == key]
    assert reasons == ["deleted", None]


def test_a_record_made_and_deleted_between_two_runs_is_nothing(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(TRACKED)
    copy.sync_one()
    copy.organisation.delete(TRACKED, copy.organisation.insert(TRACKED, {"vin_name": "short-lived"}))

    report = copy.sync_one()
    assert (report.added, report.updated, report.closed) == (0, 0, 0)


def test_a_deactivated_record_is_not_deleted(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(TRACKED)
    copy.sync_one()
    key = copy.organisation.keys(TRACKED)[0]
    copy.organisation.update(TRACKED, key, {"statecode": 1})

    report = copy.sync_one()
    assert (report.updated, report.closed) == (1, 0)
    assert current(copy, TRACKED, "statecode")[key] == (1,)


# No gap, no double


@pytest.mark.parametrize("entity", [TRACKED, UNTRACKED])
def test_rows_changed_while_a_first_read_is_under_way_are_not_lost(copy_of: Callable[..., Copy], entity: str) -> None:
    copy = copy_of(entity)
    early = copy.organisation.keys(entity)[0]

    def change() -> None:
        copy.organisation.clock.advance(30)
        copy.organisation.update(entity, early, {"vin_name": "changed under way"})

    copy.sync_one(page_size=2, on_page=after_page(2, change))
    copy.sync_one()
    assert current(copy, entity, "vin_name")[early] == ("changed under way",)


@pytest.mark.parametrize("entity", [TRACKED, UNTRACKED])
def test_rows_read_again_make_no_versions(copy_of: Callable[..., Copy], entity: str) -> None:
    copy = copy_of(entity)
    copy.organisation.update(entity, copy.organisation.keys(entity)[0], {"vin_name": "fresh"})
    copy.sync_one()
    copy.sync_one()

    table = copy.selection[0].api_name
    assert len(copy.rows(table, "row_id")) == copy.organisation.count(entity)


def test_rows_sharing_the_second_of_the_watermark_are_read(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(UNTRACKED)
    first, second = copy.organisation.keys(UNTRACKED)[:2]
    copy.organisation.update(UNTRACKED, first, {"vin_name": "one"})
    copy.sync_one()
    copy.organisation.update(UNTRACKED, second, {"vin_name": "two"})

    copy.sync_one()
    assert current(copy, UNTRACKED, "vin_name")[second] == ("two",)


def test_rows_committed_late_inside_the_overlap_are_read(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(UNTRACKED)
    first, late = copy.organisation.keys(UNTRACKED)[:2]
    copy.organisation.update(UNTRACKED, first, {"vin_name": "one"})
    copy.sync_one()
    copy.organisation.clock.advance(-300)
    copy.organisation.update(UNTRACKED, late, {"vin_name": "stamped five minutes ago, committed now"})
    copy.organisation.clock.advance(600)

    copy.sync_one()
    assert current(copy, UNTRACKED, "vin_name")[late] == ("stamped five minutes ago, committed now",)


def test_the_watermark_never_passes_the_clock_of_the_server(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(UNTRACKED)
    future = START + timedelta(days=365)
    copy.organisation.update(
        UNTRACKED, copy.organisation.keys(UNTRACKED)[0], {"modifiedon": f"{future:%Y-%m-%dT%H:%M:%SZ}"}
    )

    copy.sync_one()
    assert copy.state("vin_rdpriorities").last_timestamp == START


def test_modifiedon_going_backwards_makes_no_empty_interval(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(TRACKED)
    copy.sync_one()
    key = copy.organisation.keys(TRACKED)[0]
    copy.organisation.clock.advance(60)
    copy.organisation.update(TRACKED, key, {"vin_name": "imported", "modifiedon": "2001-01-01T00:00:00Z"})

    copy.sync_one()
    [old, new] = [row for row in copy.rows("vin_diseases", "vin_diseaseid", "valid_from", "valid_to") if row[0] == key]
    assert old[1] < old[2] == new[1]
    assert new[2] is None


def test_a_rollup_change_without_a_new_modifiedon_is_a_version(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(TRACKED)
    copy.sync_one()
    key = copy.organisation.keys(TRACKED)[0]
    copy.organisation.clock.advance(60)
    copy.organisation.update(TRACKED, key, {"vin_name": "rolled up"}, touch=False)

    assert copy.sync_one().updated == 1
    [old, new] = [row for row in copy.rows("vin_diseases", "vin_diseaseid", "valid_from", "valid_to") if row[0] == key]
    assert old[1] < old[2] == new[1]


# Expired links, changed columns


@pytest.mark.parametrize("answers_all", [False, True], ids=["refused", "everything with 200"])
def test_an_expired_delta_link_reads_whole_keeps_history_and_says_so(
    copy_of: Callable[..., Copy], answers_all: bool
) -> None:
    copy = copy_of(TRACKED)
    copy.sync_one()
    changed, gone = copy.organisation.keys(TRACKED)[:2]
    copy.organisation.update(TRACKED, changed, {"vin_name": "changed meanwhile"})
    copy.organisation.delete(TRACKED, gone)
    if answers_all:
        copy.organisation.clock.advance(40 * 86_400)
    else:
        copy.organisation.expire_delta_tokens(TRACKED)

    report = copy.sync_one(page_size=SMALL_PAGES)
    assert "read whole" in report.reason
    assert (report.updated, report.closed) == (1, 1)
    reasons = [row for row in copy.rows("vin_diseases", "vin_diseaseid", "closed_reason") if row[0] in (changed, gone)]
    assert sorted(reasons, key=str) == sorted([(changed, "updated"), (changed, None), (gone, "absent")], key=str)
    assert copy.sync_one().requests == 1


def test_a_changed_column_reads_whole_and_fills_open_rows_without_versions(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(TRACKED)
    copy.sync_one()
    copy.organisation.add_column(TRACKED, "vin_extra", "Edm.String")

    report = copy.sync_one()
    assert "columns changed" in report.reason
    assert (report.added, report.updated, report.closed) == (0, 0, 0)
    assert len(copy.rows("vin_diseases", "vin_extra")) == copy.organisation.count(TRACKED)
    assert copy.sync_one().requests == 1


# Resume


@pytest.mark.parametrize("entity", [TRACKED, UNTRACKED, WHOLE])
def test_an_interrupted_first_read_goes_on_after_its_last_page(copy_of: Callable[..., Copy], entity: str) -> None:
    copy = copy_of(entity)
    assert copy.sync(page_size=2, on_page=after_page(2, interrupt)).failed_entities
    stored = len(copy.rows(copy.selection[0].api_name, "row_id"))
    assert 0 < stored < copy.organisation.count(entity)

    report = copy.sync_one(page_size=2)
    assert "goes on after its last stored page" in report.reason
    assert report.added == copy.organisation.count(entity) - stored


def test_a_complete_read_that_did_not_finish_closes_nothing(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(WHOLE)
    copy.sync_one()
    gone = copy.organisation.keys(WHOLE)[0]
    copy.organisation.delete(WHOLE, gone)
    copy.sync(page_size=2, on_page=after_page(2, interrupt))
    assert gone in current(copy, WHOLE)

    assert copy.sync_one(page_size=2).closed == 1
    assert gone not in current(copy, WHOLE)


def test_a_refused_page_link_restarts_the_read_and_loses_nothing(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(TRACKED)
    copy.sync(page_size=SMALL_PAGES, on_page=after_page(2, interrupt))
    state = copy.state("vin_diseases")
    assert state.next_link
    with copy.database.writing() as conn:
        broken = state.model_copy(update={"next_link": state.next_link.replace("pagenumber", "pagenumbre")})
        checkpoint.write(conn, broken)

    report = copy.sync_one()
    assert "refused" in report.reason
    assert set(current(copy, TRACKED)) == set(copy.organisation.keys(TRACKED))


def test_a_run_closes_the_lines_that_killed_ones_left_open(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(TRACKED)
    copy.sync()
    with copy.database.writing() as conn:
        conn.exec_driver_sql("UPDATE _sync_log SET status = 'in_progress', end_time = NULL, run_id = 'killed'")

    copy.sync()
    query = "SELECT status, end_time, error_message FROM _sync_log WHERE run_id = 'killed'"
    [(status, ended, error)] = copy.rows_of(query)
    assert status == "failed"
    assert ended is not None
    assert "the run ended before this entity did" in error


# Refusals and faults


def test_a_table_that_refuses_order_is_still_read_completely(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(UNTRACKED)
    copy.sandbox.refuse_order_by(UNTRACKED)
    copy.sync_one()
    copy.organisation.clock.advance(60)
    for key in copy.organisation.keys(UNTRACKED):
        copy.organisation.update(UNTRACKED, key, {"vin_name": "all changed"})

    report = copy.sync_one(page_size=3)
    assert "$orderby was refused" in report.reason
    assert report.updated == copy.organisation.count(UNTRACKED)


def test_change_tracking_switched_off_goes_on_by_modifiedon_and_keeps_history(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(TRACKED)
    copy.sync_one()
    copy.organisation.set_change_tracking(TRACKED, on=False)
    copy.organisation.clock.advance(60)
    copy.organisation.update(TRACKED, copy.organisation.keys(TRACKED)[0], {"vin_name": "renamed"})

    report = copy.sync_one()
    assert (report.strategy, report.updated, report.closed) == ("modifiedon", 1, 0)
    assert "the strategy was delta before" in report.reason


@pytest.mark.parametrize("kind", ["loop", "foreign_link", "missing_value", "not_json"])
def test_a_read_that_cannot_be_proved_complete_is_an_error(copy_of: Callable[..., Copy], kind: str) -> None:
    copy = copy_of(TRACKED)
    copy.sandbox.faults.add(Fault(kind=kind, match="vin_diseases", times=99))  # type: ignore[arg-type]

    [(entity, _error)] = copy.sync(page_size=SMALL_PAGES).failed_entities
    assert entity == TRACKED
    assert copy.state("vin_diseases").state == "failed"


@pytest.mark.parametrize("kind", ["duplicates", "fewer"])
def test_pages_may_repeat_rows_or_be_short(copy_of: Callable[..., Copy], kind: str) -> None:
    copy = copy_of(TRACKED)
    copy.sandbox.faults.add(Fault(kind=kind, match="vin_diseases", times=99))  # type: ignore[arg-type]

    copy.sync_one(page_size=SMALL_PAGES)
    assert set(current(copy, TRACKED)) == set(copy.organisation.keys(TRACKED))


def test_one_entity_that_may_not_be_read_does_not_stop_the_others(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(TRACKED, UNTRACKED)
    copy.sandbox.deny(TRACKED)

    report = copy.sync()
    assert [entity for entity, _ in report.failed_entities] == [TRACKED]
    assert report.entities[1].added == copy.organisation.count(UNTRACKED)
    assert TRACKED in report.summary()


# Reconcile


@pytest.mark.parametrize("entity", [TRACKED, UNTRACKED, WHOLE, PAIRS])
def test_reconcile_repairs_whatever_differs_and_counts_it(
    copy_of: Callable[..., Copy], entity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("igh_sync_core.sync.sweep.KEYS_AT_ONCE", 2)
    copy = copy_of(entity)
    copy.sync_one()
    table = copy.selection[0].api_name
    with copy.database.writing() as conn:
        stored = Table(table, MetaData(), autoload_with=conn)
        key = stored.c[f"{entity}id"]
        missing, stale = copy.organisation.keys(entity)[:2]
        conn.execute(delete(stored).where(key == missing))
        conn.execute(update(stored).where(key == stale).values(versionnumber=1))
        surplus = stored.select().where(key == copy.organisation.keys(entity)[2])
        row = dict(conn.execute(surplus).mappings().one())
        del row["row_id"]
        for digit in "0123f":
            conn.execute(stored.insert().values({**row, f"{entity}id": f"{digit * 8}-0000-0000-0000-000000000000"}))

    report = copy.sync_one(reconcile=True)
    assert report.closed == 5
    if report.strategy == "snapshot":
        assert report.added == 1
    else:
        assert "1 missed updates, 1 missed inserts, 5 missed deletions" in report.reason
    assert set(current(copy, entity)) == set(copy.organisation.keys(entity))


def test_reconcile_finds_nothing_where_nothing_differs(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(TRACKED)
    copy.sync_one()

    report = copy.sync_one(reconcile=True)
    assert "0 missed updates, 0 missed inserts, 0 missed deletions" in report.reason


def test_reconcile_finds_out_how_many_ids_the_server_takes_and_asks_for_no_more_again(
    copy_of: Callable[..., Copy],
) -> None:
    copy = copy_of(TRACKED)
    copy.sync_one()
    with copy.database.writing() as conn:
        stored = Table("vin_diseases", MetaData(), autoload_with=conn)
        conn.execute(update(stored).values(versionnumber=1))
    asked = taking_ids(copy, 6)

    report = copy.sync_one(reconcile=True, page_size=24)
    assert f"{len(copy.organisation.keys(TRACKED))} missed updates" in report.reason
    assert [count for count in asked if count > 6] == [24, 12]
    assert sum(count for count in asked if count <= 6) == len(copy.organisation.keys(TRACKED))


# What no server should do, and what a setting may do


def other_page(copy: Copy, change: Callable[[dict[str, Any]], dict[str, Any]], *, only: str = "") -> None:
    """Let every later page whose address holds *only* arrive changed."""
    answer = copy.sandbox.handle

    def handle(request: httpx.Request) -> httpx.Response:
        reply = answer(request)
        is_page = reply.status_code == httpx.codes.OK and "vin_diseases" in request.url.path
        if not is_page or only not in sent_address(request):
            return reply
        return httpx.Response(200, headers={"Date": reply.headers["Date"]}, json=change(reply.json()))

    copy.sandbox.handle = handle  # type: ignore[method-assign]


def test_a_record_behind_its_own_tombstone_in_one_page_stays_open(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(TRACKED)
    copy.sync_one()
    key = copy.organisation.keys(TRACKED)[0]
    copy.organisation.clock.advance(60)
    copy.organisation.update(TRACKED, key, {"vin_name": "back"})
    tombstone = {"@odata.context": "https://org/$metadata#vin_diseases/$deletedEntity", "id": key, "reason": "deleted"}
    other_page(copy, lambda page: {**page, "value": [tombstone, *page["value"]]}, only="deltatoken")

    copy.sync_one()
    assert current(copy, TRACKED, "vin_name")[key] == ("back",)


def test_a_tombstone_behind_its_record_hides_no_absent_one(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(TRACKED)
    copy.sync_one()
    count = copy.organisation.count(TRACKED)
    copy.organisation.expire_delta_tokens(TRACKED)

    def one_deleted_and_one_absent(page: dict[str, Any]) -> dict[str, Any]:
        if not page["value"]:
            return page
        key = page["value"][0]["vin_diseaseid"]
        tombstone = {"@odata.context": "https://org/$metadata#vin_diseases/$deletedEntity", "id": key}
        return {**page, "@odata.context": f"{page['@odata.context']}/$delta", "value": [*page["value"][:-1], tombstone]}

    other_page(copy, one_deleted_and_one_absent)

    assert copy.sync_one().closed == 2
    assert len(current(copy, TRACKED)) == count - 2


def test_another_address_of_the_same_organisation_reads_whole_once(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(TRACKED)
    copy.sync_one()
    copy.config = replace(copy.config, api_url="https://org.crm.dynamics.com/api/data/v9.1")

    report = copy.sync_one()
    assert "the address of the environment changed" in report.reason
    assert (report.added, report.updated, report.closed) == (0, 0, 0)
    assert copy.sync_one().requests == 1


def test_another_organisation_is_never_mixed_into_a_copy(
    copy_of: Callable[..., Copy], database_settings: dict[str, str]
) -> None:
    copy = copy_of(UNTRACKED)
    copy.sync_one()
    before = copy.rows("vin_rdpriorities", "row_id", "valid_to")
    other = Copy(health_organisation(300, seed=99), database_settings, entities(UNTRACKED))

    with pytest.raises(ConfigError, match="copy of organisation"):
        other.sync()
    assert copy.rows("vin_rdpriorities", "row_id", "valid_to") == before


def test_a_refused_filter_on_modifiedon_falls_back_to_another_complete_way(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(UNTRACKED)
    copy.sync_one()
    answer = copy.sandbox.handle

    def handle(request: httpx.Request) -> httpx.Response:
        if "filter=modifiedon" in sent_address(request):
            return httpx.Response(400, json={"error": {"code": "0x80044822", "message": "not supported"}})
        return answer(request)

    copy.sandbox.handle = handle  # type: ignore[method-assign]
    copy.organisation.clock.advance(60)
    copy.organisation.update(UNTRACKED, copy.organisation.keys(UNTRACKED)[0], {"vin_name": "seen all the same"})

    report = copy.sync_one()
    assert "read whole" in report.reason
    assert report.updated == 1
