"""The laws of history as properties, on both engines: random loads against a plain model, at any sync time.

More of them: ``pytest tests/core/test_laws.py --hypothesis-profile=thorough``.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger import Ledger, total
from loads import NOON, Loader, loading, record
from msgspec import Raw
from sqlalchemy import delete

from igh_sync_core.report import Counts
from igh_sync_core.store.database import Database

KEYS = tuple(f"{digit * 8}-0000-0000-0000-000000000001" for digit in "abcd")
Fields = dict[str, Any]

moments = st.integers(-3, 12).map(lambda seconds: NOON + timedelta(seconds=seconds))
records = st.fixed_dictionaries(
    {
        "name": st.sampled_from([None, "one", "two"]),
        "score": st.sampled_from([None, 0.5, 2.0]),
        "tags": st.sampled_from([None, "1", "2", "1,2", "1,2,3"]),
        "modified": st.none() | moments,
        "versionnumber": st.integers(1, 3),
    }
)
pages = st.dictionaries(st.sampled_from(KEYS), records)
some_keys = st.lists(st.sampled_from(KEYS), unique=True)
loads = st.lists(
    st.tuples(st.just("page"), pages, moments)
    | st.tuples(st.just("snapshot"), pages, moments)
    | st.tuples(st.just("tombstones"), some_keys, moments),
    max_size=8,
)


def modified(fields: Any) -> datetime | None:
    value: datetime | None = fields["modified"]
    return value


def declared(fields: Any) -> list[Any]:
    """Everything but the version number (law 5)."""
    return [fields[name] for name in ("name", "score", "tags", "modified")]


def raw(page: dict[str, Fields]) -> list[Raw]:
    return [record(key, **fields) for key, fields in page.items()]


@pytest.fixture
def load(database: Database) -> Iterator[Loader]:
    with loading(database) as loader:
        yield loader


def empty(loader: Loader) -> Loader:
    """The same tables without a row, since a database for every example would take minutes."""
    with loader.database.transaction(loader.conn):
        for table in (loader.tables.main, *loader.tables.junctions.values()):
            loader.conn.execute(delete(table))
    return loader


def apply(loader: Loader, kind: str, what: Any, now: datetime) -> Counts:
    """One load, as a sync would do it."""
    if kind == "tombstones":
        return Counts(closed=loader.delete(*what, now=now))
    if kind == "page":
        return loader.write(*raw(what), now=now)
    batch = loader.codec.decode(raw(what))
    with loader.database.transaction(loader.conn):
        counts = loader.history.write(batch, now)
        return counts + Counts(closed=loader.history.close_others(batch.keys, now))


def tell(ledger: Ledger, kind: str, what: Any, now: datetime) -> Counts:
    """The same load, told to the model."""
    if kind == "tombstones":
        return total(ledger.vanish(key, now, "deleted") for key in what)
    if kind == "page":
        return total(ledger.meet(key, fields, now) for key, fields in what.items())
    return ledger.read_whole(what, now)


def stored(loader: Loader) -> dict[str, list[tuple[Any, ...]]]:
    """Versions by key in the order of their row_id: name, score, interval, reason."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for key, name, score, *interval in loader.versions("sampleid", "name", "score"):
        found.setdefault(str(key), []).append((name, None if score is None else float(score), *interval))
    return found


def expected(ledger: Ledger) -> dict[str, list[tuple[Any, ...]]]:
    return {
        key: [(one.record["name"], one.record["score"], one.start, one.end, one.reason) for one in versions]
        for key, versions in ledger.versions.items()
    }


def picks(loader: Loader) -> list[tuple[Any, ...]]:
    """Chosen options: key, code, interval."""
    return sorted(((str(key), *rest) for key, *rest in loader.picks()), key=repr)


def expected_picks(ledger: Ledger) -> list[tuple[Any, ...]]:
    """Each version's own options, over exactly its interval."""
    chosen = [
        (key, int(code), one.start, one.end)
        for key, versions in ledger.versions.items()
        for one in versions
        for code in (one.record["tags"] or "").split(",")
        if code
    ]
    return sorted(chosen, key=repr)


def assert_sound(loader: Loader) -> None:
    """What holds in every history, whatever was loaded."""
    for versions in stored(loader).values():
        assert all(start < end for *_, start, end, _ in versions if end is not None), "an empty interval"
        assert all(end is not None and reason for *_, end, reason in versions[:-1]), "two open versions"
        for (*_, end, reason), (*_, start, _, _) in pairwise(versions):
            assert start == end if reason == "updated" else start >= end, "a gap or an overlap"


@given(loads)
def test_any_history_equals_that_of_a_plain_model(load: Loader, steps: Sequence[tuple[str, Any, datetime]]) -> None:
    ledger = Ledger(modified, declared)
    empty(load)

    for step in steps:
        assert apply(load, *step) == tell(ledger, *step)
        assert_sound(load)

    assert stored(load) == expected(ledger)
    assert picks(load) == expected_picks(ledger)


@given(loads, pages, moments, st.data())
def test_a_read_that_begins_again_after_any_page_is_the_read_done_once(
    load: Loader,
    before: Sequence[tuple[str, Any, datetime]],
    read: dict[str, Fields],
    now: datetime,
    data: st.DataObject,
) -> None:
    cut = data.draw(st.integers(0, len(read)))
    histories = []
    for prefix in ([], list(read.items())[:cut]):
        empty(load)
        for step in before:
            apply(load, *step)
        for key, fields in [*prefix, *read.items()]:
            apply(load, "page", {key: fields}, now)
        histories.append((stored(load), picks(load)))

    assert histories[0] == histories[1]
    assert apply(load, "page", read, now) == Counts(unchanged=len(read))


@given(pages, moments, st.data())
def test_a_first_read_straight_into_the_table_is_the_one_compared(
    load: Loader, read: dict[str, Fields], now: datetime, data: st.DataObject
) -> None:
    again = data.draw(st.integers(0, len(read)))
    items = list(read.items())
    histories = []
    for new in (True, False):
        empty(load)
        for page in (dict(items[:again]), read):
            load.write(*raw(page), now=now, new=new)
        histories.append((stored(load), picks(load)))

    assert histories[0] == histories[1]
