"""What PostgreSQL refuses for its size is a lasting error of its record, which is named; the rest stays as it was."""

from typing import Any

import pytest
from loads import loading, record
from shaping import Store, key, spec_of
from sqlalchemy.exc import DataError as ValueRefused
from sqlalchemy.exc import DBAPIError, OperationalError
from targets import config_for

from igh_sync_core.errors import DataError
from igh_sync_core.model import Column, Kind
from igh_sync_core.store.database import Database

SPEC = spec_of(*(Column(f"c{at}", Kind.GUID) for at in range(600)))
TOO_BIG = {column.name: key(7) for column in SPEC.columns}
"""Six hundred short values, of which none is kept apart from its row: more than a page of 8 kB."""


@pytest.fixture
def store(postgres_url: str) -> Store:
    made = Store(Database(config_for(postgres_connection_string=postgres_url)))
    made.become(SPEC)
    return made


def records(wide: int, count: int = 40) -> list[dict[str, Any]]:
    return [(TOO_BIG if at == wide else {}) | {"sampleid": key(at)} for at in range(count)]


@pytest.mark.parametrize("wide", [0, 23, 39])
@pytest.mark.parametrize("stored", [False, True])
def test_a_row_too_big_for_the_database_is_named(store: Store, wide: int, stored: bool) -> None:
    if stored:
        store.write(SPEC, *({"sampleid": key(at), "c1": key(8)} for at in range(40)))

    with pytest.raises(DataError) as refused:
        store.write(SPEC, *records(wide), new=not stored)

    told = f"sample {key(wide)}: table samples cannot hold the record: row is too big: size "
    assert str(refused.value).startswith(told)
    assert not refused.value.retryable
    assert store.rows("SELECT count(*) FROM samples") == [(40 if stored else 0,)]


@pytest.mark.parametrize("kind", [OperationalError, ValueRefused])
@pytest.mark.parametrize("new", [True, False])
def test_a_refusal_of_no_record_keeps_its_own_cause(
    database: Database, monkeypatch: pytest.MonkeyPatch, kind: type[DBAPIError], *, new: bool
) -> None:
    cause = OSError("no space left on device")

    def refuse(*_given: object) -> None:
        statement = "COPY"
        raise kind(statement, None, cause) from cause

    with loading(database) as load:
        monkeypatch.setattr(Database, "load", refuse)
        with pytest.raises(kind) as refused:
            load.write(record(), new=new)
    assert refused.value.__cause__ is cause
