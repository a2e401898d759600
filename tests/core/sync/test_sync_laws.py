"""Whole syncs as properties, on both engines: an organisation is edited at random and synced at random moments."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from copies import Copy, entities
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger import Ledger
from sqlalchemy import MetaData, delete

from igh_sync_core.sandbox import Organisation, health_organisation
from igh_sync_core.store.dialect import parse_instant

ENTITY, TABLE, KEY, CHOICES = "vin_candidate", "vin_candidates", "vin_candidateid", "vin_platforms"
PAIRS = "vin_vin_candidate_account"
START = datetime(2026, 1, 10, 12, 0, 0, tzinfo=UTC)
ROWS = 150
"""Over all tables; the entity has a handful."""
KEPT = {"_sync_metadata", "_sync_shape"}
"""What metadata said stays between examples: it is the same."""

numbers = st.integers(0, 20)
names = st.sampled_from(["one", "two", None])
codes = st.lists(st.integers(100_000_000, 100_000_003), max_size=3, unique=True)
edits = (
    st.tuples(st.just("insert"), numbers, names)
    | st.tuples(st.just("update"), numbers, names)
    | st.tuples(st.just("rollup"), numbers, names)
    | st.tuples(st.just("choose"), numbers, codes)
    | st.tuples(st.just("delete"), numbers, st.none())
    | st.tuples(st.just("restore"), numbers, st.none())
    | st.tuples(st.just("wait"), st.sampled_from([1, 1, 60, 86_400]), st.none())
)
syncs = st.tuples(st.just("sync"), st.integers(1, 6), st.booleans())
lives = st.lists(edits | syncs, max_size=25)


def edit(organisation: Organisation, what: str, number: int, value: Any) -> None:
    """One thing that people do; nothing where there is nothing to do it to."""
    keys, buried = organisation.keys(ENTITY), sorted(organisation.tables[ENTITY].rows.buried)
    key = keys[number % len(keys)] if keys else None
    if what == "wait":
        organisation.clock.advance(number)
    elif what == "insert":
        organisation.insert(ENTITY, {"vin_name": value})
    elif what == "restore" and buried:
        organisation.restore(ENTITY, buried[number % len(buried)])
    elif what == "delete" and key:
        organisation.delete(ENTITY, key)
    elif what == "choose" and key:
        organisation.update(ENTITY, key, {CHOICES: ",".join(map(str, sorted(value))) or None})
    elif what in {"update", "rollup"} and key:
        organisation.update(ENTITY, key, {"vin_name": value}, touch=what == "update")


def modified(record: Mapping[str, Any]) -> datetime:
    return parse_instant(record["modifiedon"])


def declared(record: Mapping[str, Any]) -> dict[str, Any]:
    """Everything but the version number (law 5)."""
    return {name: value for name, value in record.items() if name != "versionnumber"}


def source(organisation: Organisation) -> dict[str, Mapping[str, Any]]:
    return {key: organisation.record(ENTITY, key) for key in organisation.keys(ENTITY)}


def a_copy(settings_of: dict[str, str], *names: str) -> Copy:
    """A new organisation and an emptied database."""
    organisation = health_organisation(ROWS)
    organisation.clock.set(START)
    copy = Copy(organisation, settings_of, entities(*names))
    stored = MetaData()
    with copy.database.writing() as conn:
        stored.reflect(conn)
        for table in stored.tables.values():
            if table.name not in KEPT:
                conn.execute(delete(table))
    return copy


def moment(value: Any) -> datetime | None:
    """A stored time of either engine."""
    return parse_instant(value) if isinstance(value, str) else value and value.astimezone(UTC)


def stored(copy: Copy) -> dict[str, list[tuple[Any, ...]]]:
    """Versions by key in the order of their row_id: name, interval, reason."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for key, name, start, end, reason in copy.rows(TABLE, KEY, "vin_name", "valid_from", "valid_to", "closed_reason"):
        found.setdefault(key, []).append((name, moment(start), moment(end), reason))
    return found


def expected(ledger: Ledger) -> dict[str, list[tuple[Any, ...]]]:
    return {
        key: [(one.record["vin_name"], one.start, one.end, one.reason) for one in versions]
        for key, versions in ledger.versions.items()
    }


def picks(copy: Copy) -> list[tuple[Any, ...]]:
    with copy.database.writing() as conn:
        junction = MetaData()
        junction.reflect(conn, only=[f"_junction_{TABLE}_{CHOICES}"])
        [table] = junction.tables.values()
        chosen = (table.c[name] for name in ("entity_id", "option_code", "valid_from", "valid_to"))
        rows = conn.execute(table.select().with_only_columns(*chosen)).all()
    return sorted(((str(key), code, moment(start), moment(end)) for key, code, start, end in rows), key=repr)


def expected_picks(ledger: Ledger) -> list[tuple[Any, ...]]:
    chosen = [
        (key, int(code), one.start, one.end)
        for key, versions in ledger.versions.items()
        for one in versions
        for code in (one.record[CHOICES] or "").split(",")
        if code
    ]
    return sorted(chosen, key=repr)


@settings(max_examples=settings().max_examples // 3)
@given(lives)
def test_edits_synced_at_random_moments_leave_the_history_of_a_plain_model(
    database_settings: dict[str, str], life: Sequence[tuple[str, int, Any]]
) -> None:
    copy = a_copy(database_settings, ENTITY)
    ledger = Ledger(modified, declared)

    for what, number, value in [*life, ("sync", 3, False)]:
        if what != "sync":
            edit(copy.organisation, what, number, value)
            continue
        if value:
            copy.organisation.expire_delta_tokens(ENTITY)
        report = copy.sync_one(page_size=number)
        told = ledger.read_whole(
            source(copy.organisation), copy.organisation.clock.now(), "absent" if value else "deleted"
        )
        assert (report.added, report.updated, report.closed) == (told.added, told.updated, told.closed)

    assert stored(copy) == expected(ledger)
    assert picks(copy) == expected_picks(ledger)


@settings(max_examples=settings().max_examples // 3)
@given(lives, st.integers(1, 3))
def test_whatever_happens_while_pages_are_read_the_next_quiet_run_has_it(
    database_settings: dict[str, str], life: Sequence[tuple[str, int, Any]], page_size: int
) -> None:
    copy = a_copy(database_settings, ENTITY, PAIRS)
    rest = [step for step in life if step[0] != "sync"]

    def live_on(_progress: object) -> None:
        if rest:
            edit(copy.organisation, *rest.pop(0))
            pairs = copy.organisation.keys(PAIRS)
            if len(pairs) > 1:
                copy.organisation.delete(PAIRS, pairs[len(rest) % len(pairs)])

    assert copy.sync(page_size=page_size, concurrency=1, on_page=live_on).success
    copy.organisation.clock.advance(60)
    assert copy.sync(page_size=page_size).success

    found = {key: (name, version) for key, name, version in copy.open_rows(TABLE, KEY, "vin_name", "versionnumber")}
    assert found == {
        key: (record["vin_name"], record["versionnumber"]) for key, record in source(copy.organisation).items()
    }
    pairs = {key for (key,) in copy.open_rows("vin_vin_candidate_accountset", f"{PAIRS}id")}
    assert pairs == set(copy.organisation.keys(PAIRS))
    for versions in stored(copy).values():
        for (_, _, end, reason), (_, start, _, _) in pairwise(versions):
            assert end is not None
            assert start is not None
            assert start == end if reason == "updated" else start >= end
