"""Which read comes next, from strategy and checkpoint alone; and what happens while a long one is under way."""

from datetime import UTC, datetime, timedelta

import pytest
from copies import Copy, entities
from loads import NOON, SPEC
from msgspec.structs import replace

from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.errors import SchemaError
from igh_sync_core.model import Organisation
from igh_sync_core.related.feeds import untracked_feed
from igh_sync_core.sandbox import health_organisation
from igh_sync_core.store.control import SyncState
from igh_sync_core.sync import strategy
from igh_sync_core.sync.run import Progress
from igh_sync_core.sync.strategy import Plan, Read, ReadKind, Strategy

ROOT = "https://org.crm.dynamics.com/api/data/v9.2/"
TRACKED = replace(SPEC, is_tracked=True)
TIMELESS = replace(SPEC, columns=tuple(one for one in SPEC.columns if one.name != "modifiedon"))
DELTA, BY_TIME, WHOLE = (Plan(one, "") for one in (Strategy.DELTA, Strategy.MODIFIEDON, Strategy.SNAPSHOT))
LINK = f"{ROOT}samples?$deltatoken=1"
PAGE = f"{ROOT}samples?$skiptoken=%3Ccookie"


def next_read(plan: Plan, *, days: int = 0, **stored: object) -> Read:
    known = {"entity_name": "samples", "strategy": plan.strategy, "columns_digest": strategy.digest(SPEC)}
    state = SyncState(**known | stored)
    organisation = Organisation("1", NOON + timedelta(days=days), 7, 1033)
    return strategy.next_read(SPEC, plan, state, api_root=ROOT, organisation=organisation)


@pytest.mark.parametrize("plan", [DELTA, BY_TIME, WHOLE])
def test_an_entity_never_read_is_read_first(plan: Plan) -> None:
    read = next_read(plan)

    assert (read.kind, read.url, read.reason) == (ReadKind.FIRST, f"{ROOT}samples", "")
    assert read.track_changes == (plan is DELTA)


@pytest.mark.parametrize("kind", ["first", "snapshot"])
def test_an_unfinished_read_goes_on_as_what_it_was(kind: str) -> None:
    read = next_read(DELTA, next_link=PAGE, read_kind=kind, delta_link=LINK)

    assert (read.kind, read.url, read.is_resumed, read.track_changes) == (kind, PAGE, True, True)


@pytest.mark.parametrize("stale", [{"columns_digest": "other"}, {"strategy": "snapshot"}])
def test_an_unfinished_read_of_other_columns_or_another_strategy_begins_anew(stale: dict[str, str]) -> None:
    read = next_read(DELTA, next_link=PAGE, read_kind="snapshot", last_sync_time=NOON, **stale)

    assert (read.kind, read.url, read.is_resumed) == (ReadKind.SNAPSHOT, f"{ROOT}samples", False)


def test_changes_come_from_the_delta_link_byte_for_byte() -> None:
    read = next_read(DELTA, delta_link=LINK, delta_link_time=NOON, last_sync_time=NOON, days=5)

    assert (read.kind, read.url) == (ReadKind.DELTA, LINK)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"days": 7}, "the delta link is 7 days old and deletions are kept 7"),
        ({"columns_digest": "other"}, "the columns changed"),
        ({"strategy": "modifiedon"}, "the strategy was modifiedon before"),
        ({"strategy": None}, "the strategy was unknown before"),
    ],
)
def test_a_delta_link_that_covers_the_table_no_more_is_a_snapshot_and_says_why(
    change: dict[str, object], why: str
) -> None:
    read = next_read(DELTA, **{"delta_link": LINK, "delta_link_time": NOON, "last_sync_time": NOON} | change)  # type: ignore[arg-type]

    assert (read.kind, read.track_changes) == (ReadKind.SNAPSHOT, True)
    assert why in read.reason


def test_no_link_is_too_old_where_only_its_time_is_known() -> None:
    assert next_read(DELTA, delta_link_time=NOON, last_timestamp=NOON, last_sync_time=NOON, days=9).reason == ""


def test_changes_by_time_begin_an_overlap_before_the_watermark_in_a_total_order() -> None:
    read = next_read(BY_TIME, last_timestamp=NOON, last_sync_time=NOON)

    assert read.kind is ReadKind.INCREMENT
    assert "modifiedon%20ge%202024-05-01T11:50:00Z" in read.url
    assert read.url.endswith("$orderby=modifiedon%20asc,sampleid%20asc")
    assert "$orderby" not in strategy.without_order(read.url)
    assert "modifiedon%20ge" in strategy.without_order(read.url)


@pytest.mark.parametrize("watermark", [datetime(1, 1, 1, tzinfo=UTC), datetime(1753, 1, 1, 0, 5, tzinfo=UTC)])
def test_a_watermark_before_all_times_is_no_obstacle(watermark: datetime) -> None:
    stored = {"last_timestamp": watermark, "columns_digest": strategy.digest(SPEC)}
    read = next_read(BY_TIME, last_sync_time=NOON, **stored)
    state = SyncState(entity_name="samples", strategy=Strategy.RELATED, **stored)
    feed = untracked_feed(SPEC, state, members=10_000, api_root=ROOT)

    for url in (read.url, feed.url):
        assert "modifiedon%20ge%201753-01-01T00:00:00Z" in url


def test_a_snapshot_is_read_whole_every_time() -> None:
    assert next_read(WHOLE, last_timestamp=NOON, last_sync_time=NOON).kind is ReadKind.SNAPSHOT


@pytest.mark.parametrize(
    ("latest", "started", "before", "expected"),
    [(1, 2, None, 1), (2, 1, None, 1), (1, 2, 3, 3), (None, 2, 3, 3), (None, 2, None, None)],
    ids=["what was stored", "never past the server's clock", "never back", "nothing met", "nothing ever"],
)
def test_the_watermark(latest: int | None, started: int, before: int | None, expected: int | None) -> None:
    def at(hours: int | None) -> object:
        return None if hours is None else NOON + timedelta(hours=hours)

    state = SyncState(
        entity_name="samples", read_latest=at(latest), read_started=at(started), last_timestamp=at(before)
    )
    assert strategy.watermark(state) == at(expected)


def test_without_change_tracking_the_next_best_is_what_the_columns_allow() -> None:
    assert strategy.without_tracking(TRACKED, "").strategy is Strategy.MODIFIEDON
    assert strategy.without_tracking(TIMELESS, "").strategy is Strategy.SNAPSHOT


def test_a_demand_that_the_table_cannot_meet_names_the_remedy() -> None:
    for spec, demanded, remedy in ((SPEC, "delta", "switch it on"), (TIMELESS, "modifiedon", "use 'snapshot'")):
        with pytest.raises(SchemaError, match=remedy):
            strategy.choose(spec, EntityConfig("sample", "samples", strategy=demanded))


def test_the_order_of_columns_does_not_make_them_others() -> None:
    assert strategy.digest(replace(SPEC, columns=SPEC.columns[::-1])) == strategy.digest(SPEC)
    assert strategy.digest(TIMELESS) != strategy.digest(SPEC)


@pytest.mark.parametrize("entity", ["vin_disease", "vin_vin_candidate_account"])
def test_what_is_deleted_or_made_while_a_long_first_read_is_under_way_is_not_lost(
    database_settings: dict[str, str], entity: str
) -> None:
    """The delta link is of the last page, so no delta tells of it."""
    copy = Copy(health_organisation(2_000), database_settings, entities(entity))
    [early, *_] = keys = copy.organisation.keys(entity)
    made = "00000000-0000-0000-0000-000000000001"
    pages: list[Progress] = []

    def on_page(progress: Progress) -> None:
        pages.append(progress)
        if len(pages) == 3:
            copy.organisation.clock.advance(30)
            copy.organisation.delete(entity, early)
            copy.organisation.insert(entity, {f"{entity}id": made})

    report = copy.sync_one(page_size=2, on_page=on_page)
    assert "1 missed deletions" in report.reason
    assert {key for (key,) in copy.open_rows(report.table, f"{entity}id")} == {*keys, made} - {early}
    assert not copy.state(report.table).overlap_due
    assert copy.sync_one().requests == 1


def test_a_first_read_of_one_page_needs_no_sweep(database_settings: dict[str, str]) -> None:
    copy = Copy(health_organisation(2_000), database_settings, entities("vin_disease"))

    assert copy.sync_one().requests == 2, "its page, and what was modified meanwhile"
