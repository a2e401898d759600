"""A multi-select that is away for a while, or taken for a text: its choices fit the versions once it is back."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from copies import Copy, at_noon, entities
from shaping import MULTI, NOON, Store, key, spec_of, text_column

from igh_sync_core.model import Column, Kind, TableSpec
from igh_sync_core.store.database import Database

TAGS = Column("tags", Kind.STRING, option=MULTI)
WITH = spec_of(text_column("name"), TAGS)
AWAY = {"gone": spec_of(text_column("name")), "a text": spec_of(text_column("name"), text_column("tags"))}
HOUR = timedelta(hours=1)


@pytest.fixture
def store(database: Database) -> Store:
    made = Store(database)
    made.become(WITH)
    made.write(WITH, *({"sampleid": key(n), "name": "a", "tags": "7,8"} for n in (1, 2)), new=True)
    made.begin(WITH)
    return made


@pytest.fixture(params=AWAY.values(), ids=AWAY)
def away(request: pytest.FixtureRequest) -> TableSpec:
    spec: TableSpec = request.param
    return spec


def picks(store: Store, number: int) -> list[tuple[int, int, int | None]]:
    """Code, and the hours from noon at which it begins and ends."""
    found = store.rows("SELECT CAST(entity_id AS text), option_code, valid_from, valid_to FROM _junction_samples_tags")
    of_record = ((code, hours(start), hours(end)) for record, code, start, end in found if record == key(number))
    return sorted(of_record, key=lambda pick: (pick[1], pick[0]))


def hours(time: Any) -> Any:
    moment = datetime.fromisoformat(time) if isinstance(time, str) else time
    return None if moment is None else int((moment - NOON) / HOUR)


def test_choices_end_where_their_version_ended_meanwhile(store: Store, away: TableSpec) -> None:
    store.become(away)
    store.write(away, {"sampleid": key(1), "name": "b", "tags": "9"}, now=NOON + HOUR)
    store.become(WITH)
    store.write(WITH, {"sampleid": key(1), "name": "c", "tags": "9"}, now=NOON + 3 * HOUR)

    assert picks(store, 1) == [(7, 0, 1), (8, 0, 1), (9, 3, None)]
    assert picks(store, 2) == [(7, 0, None), (8, 0, None)]


def test_choices_of_a_version_that_began_meanwhile_are_filled_in(store: Store, away: TableSpec) -> None:
    store.become(away)
    store.write(away, {"sampleid": key(1), "name": "b", "tags": "8,9"}, now=NOON + HOUR)
    store.become(WITH)
    store.write(WITH, {"sampleid": key(1), "name": "b", "tags": "8,9"}, now=NOON + 2 * HOUR)

    assert picks(store, 1) == [(7, 0, 1), (8, 0, 1), (8, 1, None), (9, 1, None)]


@pytest.mark.parametrize(("sent", "shown"), [("8,9", "8,9"), ("9", "9"), (None, None)])
def test_a_version_that_stands_shows_what_is_chosen_now(
    store: Store, away: TableSpec, sent: str | None, shown: str | None
) -> None:
    """The column is filled in without a new version, and so is its junction."""
    store.become(away)
    store.become(WITH)
    counts = store.write(WITH, {"sampleid": key(1), "name": "a", "tags": sent}, now=NOON + HOUR)

    assert counts.unchanged == 1
    assert store.rows("SELECT tags FROM samples_current ORDER BY sampleid") == [(shown,), ("7,8",)]
    assert picks(store, 1) == [(int(code), 0, None) for code in (sent or "").split(",") if code]
    assert picks(store, 2) == [(7, 0, None), (8, 0, None)]


def test_choices_of_a_record_that_vanished_meanwhile_have_ended_with_it(store: Store, away: TableSpec) -> None:
    store.become(away)
    store.run(f"UPDATE samples SET valid_to = {moment(store)} WHERE sampleid = '{key(1)}'")  # noqa: S608 - a key of ours
    store.become(WITH)

    assert picks(store, 1) == [(7, 0, 2), (8, 0, 2)]
    assert picks(store, 2) == [(7, 0, None), (8, 0, None)]


def moment(store: Store) -> str:
    """Two hours after noon, as the engine writes it down."""
    return "'2024-05-01T14:00:00Z'" + ("::timestamptz" if store.database.is_postgres else "")


def test_in_whole_runs_every_version_has_its_own_choices(database_settings: dict[str, str]) -> None:
    organisation = at_noon(150)
    copy = Copy(organisation, database_settings, entities("vin_candidate"))
    changed, deleted, picked = organisation.keys("vin_candidate")[:3]
    for one in (changed, deleted, picked):
        organisation.update("vin_candidate", one, {"vin_platforms": "100000000,100000001"})
    copy.sync()
    column = organisation.tables["vin_candidate"].shape.by_name["vin_platforms"]
    organisation.clock.advance(3600)
    organisation.remove_column("vin_candidate", "vin_platforms")
    organisation.update("vin_candidate", changed, {"vin_name": "changed while it was away"})
    organisation.delete("vin_candidate", deleted)
    copy.sync()
    organisation.clock.advance(3600)
    organisation.add_column("vin_candidate", "vin_platforms", "Edm.String", kind=column.kind, options=column.options)
    for one in (changed, picked):
        organisation.update("vin_candidate", one, {"vin_platforms": "100000002"}, touch=False)

    assert copy.sync().success

    own = "SELECT CAST(entity_id AS text), option_code, valid_to IS NULL FROM _junction_vin_candidates_vin_platforms"
    held = {(str(record), code, bool(is_open)) for record, code, is_open in copy.rows_of(own)}
    ended = {(one, code, False) for one in (changed, deleted) for code in (100000000, 100000001)}
    assert {row for row in held if row[0] in (changed, deleted, picked)} == {
        *ended,
        (changed, 100000002, True),
        (picked, 100000002, True),
    }
    shown = dict(copy.rows_of("SELECT CAST(vin_candidateid AS text), vin_platforms FROM vin_candidates_current"))
    assert shown[changed] == shown[picked] == "100000002"
