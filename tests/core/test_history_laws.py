"""Laws of the history as properties, on both engines: against a model that knows nothing of SQL."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert
from sqlalchemy.exc import IntegrityError
from test_versions import Loader, loading, record

from igh_sync_core.database import Database
from igh_sync_core.report import Counts

NOON = datetime(2024, 5, 1, 12, 0, 0, tzinfo=UTC)
KEYS = [f"{letter * 8}-0000-0000-0000-00000000000{number}" for number, letter in enumerate("abcd")]
PROPERTY = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Seen(NamedTuple):
    """One record as the source showed it."""

    key: str
    name: str
    tags: str | None
    modified: datetime | None


@dataclass
class Version:
    """One row of the model."""

    seen: Seen
    start: datetime
    end: datetime | None = None
    reason: str | None = None


@dataclass
class Model:
    """What the table must hold, worked out one record at a time from the laws."""

    versions: dict[str, list[Version]] = field(default_factory=dict)

    def write(self, page: Iterable[Seen], now: datetime) -> None:
        for seen in {one.key: one for one in page}.values():
            history = self.versions.setdefault(seen.key, [])
            last = history[-1] if history else None
            if last and last.end is None:
                if last.seen != seen:
                    history.append(Version(seen, self._change(last, seen, now)))
            else:
                history.append(Version(seen, self._opening(last, seen, now)))

    def close(self, keys: Iterable[str], reason: str, now: datetime) -> None:
        for key in keys:
            for version in self.versions.get(key, []):
                if version.end is None:
                    version.end, version.reason = max(now, version.start + timedelta(seconds=1)), reason

    def open_keys(self) -> set[str]:
        return {key for key, history in self.versions.items() if history and history[-1].end is None}

    def _change(self, last: Version, seen: Seen, now: datetime) -> datetime:
        later = seen.modified if seen.modified and seen.modified > last.start else None
        last.end, last.reason = later or max(now, last.start + timedelta(seconds=1)), "updated"
        return last.end

    def _opening(self, last: Version | None, seen: Seen, now: datetime) -> datetime:
        source = seen.modified or now
        if last is None or last.end is None:
            return source
        return source if source >= last.end else max(now, last.end)

    def rows(self) -> list[tuple[Any, ...]]:
        return sorted(
            (key, one.seen.name, one.start, one.end, one.reason)
            for key, history in self.versions.items()
            for one in history
        )

    def picks(self) -> list[tuple[Any, ...]]:
        return sorted(
            ((key, int(code), one.start, one.end or datetime.max.replace(tzinfo=UTC)))
            for key, history in self.versions.items()
            for one in history
            for code in (one.seen.tags or "").split(",")
            if code
        )


moments = st.integers(-120, 600).map(lambda seconds: NOON + timedelta(seconds=seconds))
records = st.builds(
    Seen,
    key=st.sampled_from(KEYS),
    name=st.sampled_from(["one", "two", "three"]),
    tags=st.sampled_from([None, "1", "1,2", "2,3"]),
    modified=st.none() | moments,
)
pages = st.lists(records, max_size=5)
edits = st.one_of(
    st.tuples(st.just("write"), pages),
    st.tuples(st.just("new"), pages),
    st.tuples(st.just("delete"), st.lists(st.sampled_from(KEYS), max_size=3)),
    st.tuples(st.just("snapshot"), pages),
)
distinct = st.lists(records, min_size=1, max_size=4, unique_by=lambda one: one.key)


@pytest.fixture
def load(database: Database) -> Iterator[Loader]:
    with loading(database) as loader:
        yield loader


def emptied(load: Loader) -> Loader:
    """The same tables without rows: new ones for each example would take most of the time."""
    with load.database.transaction(load.conn):
        for table in (load.tables.main, *load.tables.junctions.values()):
            load.conn.execute(delete(table))
    return load


def sent(seen: Seen) -> Any:
    return record(seen.key, modified=seen.modified, name=seen.name, tags=seen.tags)


def stored(load: Loader) -> list[tuple[Any, ...]]:
    return sorted((str(key), *rest) for key, *rest in load.versions("sampleid", "name"))


def stored_picks(load: Loader) -> list[tuple[Any, ...]]:
    never = datetime.max.replace(tzinfo=UTC)
    return sorted((str(key), code, start, end or never) for key, code, start, end in load.picks())


def apply(load: Loader, model: Model, kind: str, what: list[Any], now: datetime) -> None:
    if kind == "delete":
        load.delete(*what, now=now)
        model.close(what, "deleted", now)
        return
    model.write(what, now)
    if kind == "snapshot":
        load.snapshot(*map(sent, what), now=now)
        model.close(model.open_keys() - {one.key for one in what}, "absent", now)
    else:
        load.write(*map(sent, what), now=now, new=kind == "new" and not load.versions())


@PROPERTY
@given(st.lists(edits, max_size=8))
def test_the_history_of_any_edits_equals_the_model(load: Loader, script: list[tuple[str, list[Any]]]) -> None:
    emptied(load)
    model = Model()
    for at, (kind, what) in enumerate(script):
        apply(load, model, kind, what, NOON + timedelta(minutes=at))

    assert stored(load) == model.rows()
    assert stored_picks(load) == model.picks()


@PROPERTY
@given(st.lists(edits, max_size=8))
def test_intervals_of_a_key_meet_except_where_it_was_deleted(load: Loader, script: list[tuple[str, list[Any]]]) -> None:
    emptied(load)
    for at, (kind, what) in enumerate(script):
        apply(load, Model(), kind, what, NOON + timedelta(minutes=at))
    by_key: dict[str, list[tuple[Any, ...]]] = {}
    for key, start, end, reason in load.versions("sampleid"):
        by_key.setdefault(key, []).append((start, end, reason))

    for history in by_key.values():
        assert sum(end is None for _start, end, _reason in history) <= 1
        assert all(end is None or start < end for start, end, _reason in history)
        for (_, end, reason), (start, _, _) in itertools.pairwise(history):
            assert end == start if reason == "updated" else end <= start


@PROPERTY
@given(st.lists(distinct, min_size=1, max_size=3), st.data())
def test_replaying_any_prefix_of_the_pages_writes_nothing(
    load: Loader, read: list[list[Seen]], data: st.DataObject
) -> None:
    emptied(load)
    seen_last = list({one.key: one for page in read for one in page}.values())
    for page in read:
        load.write(*map(sent, page))
    load.write(*map(sent, seen_last))
    before = stored(load)
    prefix = data.draw(st.integers(0, len(seen_last)))

    counts = load.write(*map(sent, seen_last[:prefix]), now=NOON + timedelta(hours=1))
    assert counts == Counts(unchanged=prefix)
    assert stored(load) == before


@PROPERTY
@given(distinct, st.randoms(use_true_random=False))
def test_the_order_of_pages_does_not_matter(load: Loader, read: list[Seen], random: Any) -> None:
    emptied(load)
    for one in read:
        load.write(sent(one))
    in_order, picks = stored(load), stored_picks(load)
    emptied(load)
    for one in random.sample(read, len(read)):
        load.write(sent(one))

    assert (stored(load), stored_picks(load)) == (in_order, picks)


def test_the_database_itself_refuses_a_second_open_row(load: Loader) -> None:
    load.write(sent(Seen(KEYS[0], "one", None, NOON)))
    double = {"sampleid": KEYS[0], "json_response": "{}", "sync_time": NOON, "valid_from": NOON}

    with pytest.raises(IntegrityError), load.database.transaction(load.conn):
        load.conn.execute(insert(load.tables.main).values(double))
