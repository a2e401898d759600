"""Pages of keys laid beside what is stored: what is missing, what differs, and what is gone."""

from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec
import pytest
from loads import SPEC, Loader, at, loading, record
from sqlalchemy import text

from igh_sync_core.model import Column, Kind
from igh_sync_core.store.database import Database
from igh_sync_core.sync import sweep
from igh_sync_core.sync.sweep import Sweep

NAMED = msgspec.structs.replace(SPEC, columns=(Column("sampleid", Kind.STRING), *SPEC.columns[1:]))
KEYS = [f"{number:08x}-0000-0000-0000-000000000000" for number in range(7)]

Page = Sequence[tuple[str, int | None]]


@pytest.fixture(params=[SPEC, NAMED], ids=["guids", "names"])
def load(request: pytest.FixtureRequest, database: Database) -> Iterator[Loader]:
    with loading(database, request.param) as loader:
        loader.write(*(record(key, name="a", versionnumber=number) for number, key in enumerate(KEYS)))
        yield loader


def swept(load: Loader, *pages: Page) -> Sweep:
    """Each page in a transaction of its own, as a sync does."""
    sweeping = Sweep(load.tables)
    for page in pages:
        with load.database.apart(load.conn):
            sweeping.lay(load.conn, page)
    return sweeping


def absent(load: Loader, sweeping: Sweep) -> list[list[str]]:
    with load.database.apart(load.conn):
        return list(islice(sweeping.absent(load.conn), 9))


def told(*numbers: int) -> Page:
    return [(KEYS[number], number) for number in numbers]


def test_nothing_differs_where_every_version_is_met(load: Loader) -> None:
    sweeping = swept(load, told(6, 0, 1, 2), told(3, 4, 5))

    assert sweeping.differences(0).found == []
    assert absent(load, sweeping) == []


def test_keys_not_met_are_found_a_part_at_a_time(load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "KEYS_AT_ONCE", 3)

    found = absent(load, swept(load, told(2), told(5, 6)))

    assert found == [KEYS[0:2], KEYS[3:5]]


def test_a_key_told_twice_stands_for_no_other(load: Loader) -> None:
    """As happens when records move from page to page while they are read."""
    assert absent(load, swept(load, told(0, 1, 2, 3), told(3, 4, 5))) == [[KEYS[6]]]


def test_a_closed_version_is_no_longer_absent(load: Loader) -> None:
    load.delete(KEYS[6], now=at(1))

    assert absent(load, swept(load, told(0, 1, 2, 3, 4, 5))) == []


def test_what_is_not_stored_or_in_another_version_is_read_again(load: Loader) -> None:
    new = "ffffffff-0000-0000-0000-000000000000"

    found = swept(load, told(0, 1, 2), [(KEYS[3], 30), (KEYS[4], None), (new, 1)]).differences(2)

    assert found.found == [(KEYS[3], True), (KEYS[4], True), (new, False)]
    assert found.summary() == "reconciled: 2 missed updates, 1 missed inserts, 2 missed deletions"


def test_more_differences_than_are_worth_asking_are_not_gathered(load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "DIFFERENT_KEYS", 2)

    sweeping = swept(load, [(key, 99) for key in KEYS[:4]], [(key, 99) for key in KEYS[4:]])

    assert (len(sweeping.differences(0).found), sweeping.differences(0).is_too_many) == (3, True)
    assert absent(load, sweeping) == []


def test_versions_without_a_key_are_left_alone(load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    if load.database.is_postgres:
        pytest.skip("such tables are adopted SQLite files")
    monkeypatch.setattr(sweep, "KEYS_AT_ONCE", 3)
    with load.database.transaction(load.conn):
        row = "name, json_response, sync_time"
        load.conn.execute(text(f"insert into samples ({row}) select {row} from samples"))  # noqa: S608 - no input

    assert absent(load, swept(load, told(0, 1, 2, 3, 4, 5))) == [[KEYS[6]]]


def test_the_newest_of_several_open_versions_counts(load: Loader) -> None:
    if load.database.is_postgres:
        pytest.skip("such tables are adopted SQLite files")
    with load.database.transaction(load.conn):
        load.conn.execute(text("drop index uq_samples_open"))
        row = "sampleid, name, json_response, sync_time"
        copied = f"insert into samples ({row}, versionnumber) select {row}, 9 from samples where sampleid = :key"  # noqa: S608 - no input
        load.conn.execute(text(copied), {"key": KEYS[1]})

    sweeping = swept(load, [(key, 9 if key == KEYS[1] else number) for number, key in enumerate(KEYS)])

    assert sweeping.differences(0).found == []
    assert absent(load, sweeping) == []
