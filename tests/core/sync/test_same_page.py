"""A page that is a whole read by itself, and came before exactly so: nothing of it is decoded or compared."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from copies import Copy, at_noon
from msgspec import Raw
from shaping import NOON
from sqlalchemy import MetaData, Table, delete

from igh_sync_core.errors import StoreError
from igh_sync_core.history.batch import Batch
from igh_sync_core.history.rows import RowCodec
from igh_sync_core.preparation import adoption
from igh_sync_core.sandbox import Organisation

UNTRACKED, WHOLE, PAIRS = "vin_rdpriority", "vin_clinicalusestatus", "vin_vin_candidate_vin_region"
LONG_S = 3 * 365 * 86_400

CopyOf = Callable[..., Copy]


@pytest.fixture
def organisation() -> Organisation:
    return at_noon(2_000)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many records each page had that was decoded."""
    counts: list[int] = []
    decode = RowCodec.decode

    def counting(codec: RowCodec, records: Sequence[Raw]) -> Batch:
        counts.append(len(records))
        return decode(codec, records)

    monkeypatch.setattr(RowCodec, "decode", counting)
    return counts


def names(copy: Copy) -> list[str]:
    return sorted(name for (name,) in copy.open_rows("vin_clinicalusestatuses", "vin_name"))


@pytest.mark.parametrize("entity", [WHOLE, PAIRS])
def test_what_came_before_is_counted_and_no_more(copy_of: CopyOf, entity: str, decoded: list[int]) -> None:
    copy = copy_of(entity)
    copy.sync_one()
    table = copy.selection[0].api_name
    decoded.clear()
    versions = copy.rows(table, "row_id")
    report = copy.sync_one()

    assert decoded == []
    assert (report.added, report.updated, report.closed, report.unchanged) == (0, 0, 0, len(versions))
    assert copy.state(table).state == "completed"
    assert copy.rows(table, "row_id") == versions


def test_of_what_was_modified_the_watermark_stays(copy_of: CopyOf, decoded: list[int]) -> None:
    copy = copy_of(UNTRACKED)
    copy.organisation.clock.advance(LONG_S)  # past every record's modifiedon
    copy.sync_one()
    for number, key in enumerate(copy.organisation.keys(UNTRACKED)[:2]):
        copy.organisation.clock.advance(60)
        copy.organisation.update(UNTRACKED, key, {"vin_name": f"renamed {number}"})
    assert copy.sync_one().updated == 2
    copy.sync_one()
    before = copy.state("vin_rdpriorities").last_timestamp
    decoded.clear()

    assert copy.sync_one().unchanged == 2
    assert decoded == []
    assert copy.state("vin_rdpriorities").last_timestamp == before == NOON + timedelta(seconds=LONG_S, minutes=2)


def test_a_change_a_deletion_and_their_return_are_seen(copy_of: CopyOf, decoded: list[int]) -> None:
    copy = copy_of(WHOLE)
    copy.sync_one()
    first, second, *_ = copy.organisation.keys(WHOLE)
    before = copy.organisation.record(WHOLE, first)["vin_name"]
    copy.organisation.update(WHOLE, first, {"vin_name": "renamed"})
    assert copy.sync_one().updated == 1
    copy.organisation.update(WHOLE, first, {"vin_name": before})
    assert copy.sync_one().updated == 1
    copy.organisation.delete(WHOLE, second)
    assert copy.sync_one().closed == 1
    decoded.clear()

    assert copy.sync_one().unchanged == copy.organisation.count(WHOLE)
    assert decoded == []
    assert "renamed" not in names(copy)


@pytest.mark.parametrize("entity", [WHOLE, PAIRS])
def test_a_table_emptied_by_hand_is_filled_again(copy_of: CopyOf, entity: str) -> None:
    copy = copy_of(entity)
    copy.sync_one()
    copy.sync_one()
    table = copy.selection[0].api_name
    with copy.database.writing() as conn:
        conn.execute(delete(Table(table, MetaData())))

    assert copy.sync_one().added == copy.organisation.count(entity)


def test_a_reconcile_run_compares_whatever_came_before(copy_of: CopyOf) -> None:
    copy = copy_of(WHOLE)
    copy.sync_one()
    copy.sync_one()
    with copy.database.writing() as conn:
        conn.exec_driver_sql("DELETE FROM vin_clinicalusestatuses WHERE row_id = 1")
    assert copy.sync_one().added == 0

    copy.sync_one(reconcile=True)
    assert len(names(copy)) == copy.organisation.count(WHOLE)


def test_an_empty_table_is_as_it_was(copy_of: CopyOf, decoded: list[int]) -> None:
    copy = copy_of(WHOLE)
    for key in copy.organisation.keys(WHOLE):
        copy.organisation.delete(WHOLE, key)
    copy.sync_one()
    copy.sync_one()
    decoded.clear()

    assert copy.sync_one().unchanged == 0
    assert decoded == []


def test_another_read_in_between_counts_for_nothing(copy_of: CopyOf, decoded: list[int]) -> None:
    copy = copy_of(WHOLE)
    copy.sync_one()
    assert copy.state("vin_clinicalusestatuses").page_digest
    copy.sync_one(page_size=3)
    assert copy.state("vin_clinicalusestatuses").page_digest is None
    decoded.clear()

    assert copy.sync_one().unchanged == copy.organisation.count(WHOLE)
    assert sum(decoded) == copy.organisation.count(WHOLE)


def test_records_are_looked_at_again_where_the_table_has_become_another(copy_of: CopyOf, decoded: list[int]) -> None:
    copy = copy_of(WHOLE)
    copy.sync_one()
    copy.sync_one()
    before = copy.state("vin_clinicalusestatuses").page_digest
    copy.organisation.add_column(WHOLE, "vin_note", "Edm.String")
    decoded.clear()
    copy.sync_one()

    assert copy.organisation.count(WHOLE) in decoded  # beside it the stored documents, to be compared
    assert copy.state("vin_clinicalusestatuses").page_digest not in (None, before)


def test_a_state_of_an_earlier_form_is_extended_though_nothing_has_moved(
    copy_of: CopyOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copy_of(WHOLE)
    copy.sync_one()
    with copy.database.writing() as conn:
        conn.exec_driver_sql("ALTER TABLE _sync_state DROP COLUMN page_digest")
    columns = [name for name in adoption.CONTROL_COLUMNS if name != "_sync_state.page_digest"]
    with monkeypatch.context() as earlier:  # looks at the schema as it is now, and finds it in order
        earlier.setattr(adoption, "CONTROL_COLUMNS", columns)
        earlier.setattr(adoption, "_extend_control_tables", lambda _conn: None)
        with pytest.raises(StoreError):
            copy.sync_one()

    assert copy.sync_one().unchanged == copy.organisation.count(WHOLE)
    assert copy.state("vin_clinicalusestatuses").page_digest


def test_what_an_earlier_form_of_the_program_stored_since_is_not_taken_for_the_page(copy_of: CopyOf) -> None:
    copy = copy_of(WHOLE)
    copy.sync_one()
    with copy.database.writing() as conn:  # as one that knows of no digest would
        conn.exec_driver_sql("UPDATE vin_clinicalusestatuses SET json_response = '{}', vin_name = 'x' WHERE row_id = 1")
        conn.exec_driver_sql("UPDATE _sync_state SET run_id = 'another'")

    assert copy.sync_one().updated == 1
    assert "x" not in names(copy)


@pytest.mark.parametrize("left", [0, 1])
def test_a_complete_read_is_none_of_recent_records_though_its_page_is_the_same(copy_of: CopyOf, left: int) -> None:
    copy = copy_of(UNTRACKED)
    copy.sync_one()
    copy.organisation.clock.advance(3_600)
    for key in copy.organisation.keys(UNTRACKED)[left:]:
        copy.organisation.delete(UNTRACKED, key)
    for key in copy.organisation.keys(UNTRACKED):
        copy.organisation.update(UNTRACKED, key, {"vin_name": "the last one"})
    copy.sync_one()
    copy.selection = [replace(copy.selection[0], strategy="snapshot")]
    copy.sync_one()

    assert len(copy.open_rows("vin_rdpriorities", "row_id")) == left


def test_what_was_closed_as_a_related_table_is_open_again(copy_of: CopyOf) -> None:
    copy = copy_of(WHOLE)
    copy.sync_one()
    key = copy.organisation.keys(WHOLE)[0]
    copy.selection = [replace(copy.selection[0], filtered=True)]
    copy.sandbox.hide(WHOLE, key)
    assert copy.sync_one(reconcile=True).closed == 1
    copy.sandbox.reveal(WHOLE, key)
    copy.selection = [replace(copy.selection[0], filtered=False)]

    assert copy.sync_one().added == 1
