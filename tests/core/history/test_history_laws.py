"""Two laws beside the model: pages may come in any order, and the database itself keeps one open row per key."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loads import Loader, loading, record
from shaping import NOON
from sqlalchemy import delete, insert
from sqlalchemy.exc import IntegrityError

from igh_sync_core.store.database import Database

KEYS = [f"{letter * 8}-0000-0000-0000-00000000000{number}" for number, letter in enumerate("abcd")]


class Seen(NamedTuple):
    """One record as the source showed it."""

    key: str
    name: str
    tags: str | None
    modified: datetime | None


moments = st.integers(-120, 600).map(lambda seconds: NOON + timedelta(seconds=seconds))
records = st.builds(
    Seen,
    key=st.sampled_from(KEYS),
    name=st.sampled_from(["one", "two", "three"]),
    tags=st.sampled_from([None, "1", "1,2", "2,3"]),
    modified=st.none() | moments,
)
distinct = st.lists(records, min_size=1, max_size=4, unique_by=lambda one: one.key)


@pytest.fixture
def load(database: Database) -> Iterator[Loader]:
    with loading(database) as loader:
        yield loader


def loaded(load: Loader, read: list[Seen]) -> tuple[list[Any], list[Any]]:
    """What the emptied tables hold after one page per record: versions and chosen options."""
    with load.database.transaction(load.conn):
        for table in (load.tables.main, *load.tables.junctions.values()):
            load.conn.execute(delete(table))
    for one in read:
        load.write(record(one.key, modified=one.modified, name=one.name, tags=one.tags))
    versions = sorted((str(key), *rest) for key, *rest in load.versions("sampleid", "name"))
    return versions, sorted((str(key), code, start) for key, code, start, _end in load.picks())


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(distinct, st.randoms(use_true_random=False))
def test_the_order_of_pages_does_not_matter(load: Loader, read: list[Seen], random: Any) -> None:
    assert loaded(load, random.sample(read, len(read))) == loaded(load, read)


def test_the_database_itself_refuses_a_second_open_row(load: Loader) -> None:
    load.write(record(KEYS[0]))
    double = {"sampleid": KEYS[0], "json_response": "{}", "sync_time": NOON, "valid_from": NOON}

    with pytest.raises(IntegrityError), load.database.transaction(load.conn):
        load.conn.execute(insert(load.tables.main).values(double))
