"""Drift in whole runs: set aside, back-filled, kept; on both engines."""

from collections.abc import Callable

import pytest
from copies import Copy, entities
from shaping import NOON

from igh_sync_core.sandbox import Organisation, health_organisation


@pytest.fixture
def organisation() -> Organisation:
    made = health_organisation(300)
    made.clock.set(NOON)
    return made


@pytest.fixture
def copy_of(organisation: Organisation, database_settings: dict[str, str]) -> Callable[..., Copy]:
    return lambda *names: Copy(organisation, database_settings, entities(*names))


def test_one_entity_that_no_longer_fits_is_set_aside_and_the_others_sync(
    organisation: Organisation, copy_of: Callable[..., Copy]
) -> None:
    copy = copy_of("vin_disease", "vin_product")
    organisation.add_column("vin_disease", "vin_flag", "Edm.Int32", fixed=1)
    copy.sync()
    before = copy.rows("vin_diseases", "row_id", "json_response")
    organisation.clock.advance(3600)
    product = organisation.keys("vin_product")[0]
    organisation.update("vin_product", product, {"vin_name": "renamed"})
    organisation.change_type("vin_disease", "vin_flag", "Edm.Boolean")

    reports = [copy.sync() for _again in range(2)]

    for report in reports:
        assert not report.success
        [(entity, error)] = report.failed_entities
        assert (entity, "column vin_flag was int32 and is now boolean" in error) == ("vin_disease", True)
        assert [finding["details"]["column"] for finding in report.validation_errors] == ["vin_flag"]
    assert reports[0].total("updated") == 1
    assert copy.rows("vin_diseases", "row_id", "json_response") == before


def test_columns_added_in_dataverse_are_back_filled_by_one_full_read(
    organisation: Organisation, copy_of: Callable[..., Copy]
) -> None:
    copy = copy_of("vin_disease")
    copy.sync()
    versions = len(copy.rows("vin_diseases", "row_id"))
    organisation.clock.advance(3600)
    organisation.add_column("vin_disease", "vin_weight", "Edm.Int32", fixed=12)

    first, second = copy.sync(), copy.sync()

    assert (first.total("added"), first.total("updated")) == (0, 0)
    assert first.total("unchanged") >= versions
    assert set(copy.rows("vin_diseases", "vin_weight")) == {(12,)}
    assert len(copy.rows("vin_diseases", "row_id")) == versions
    assert second.total("unchanged") == 0


def test_columns_removed_in_dataverse_stay_and_make_no_versions(
    organisation: Organisation, copy_of: Callable[..., Copy]
) -> None:
    copy = copy_of("vin_disease")
    copy.sync()
    before = copy.rows("vin_diseases", "row_id", "vin_name", "valid_to")
    organisation.clock.advance(3600)
    organisation.remove_column("vin_disease", "vin_name")

    report = copy.sync()

    assert (report.success, report.total("updated")) == (True, 0)
    assert copy.rows("vin_diseases", "row_id", "vin_name", "valid_to") == before
