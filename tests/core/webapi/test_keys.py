"""Pages of keys alone."""

import pytest
from loads import SPEC
from msgspec.structs import replace

from igh_sync_core.model import Column, Kind
from igh_sync_core.webapi.keys import parse_keys
from igh_sync_core.webapi.odata import parse_page

PAGE = b"""{"@odata.context": "https://org.crm.dynamics.com/api/data/v9.2/$metadata#samples/$delta", "value": [
    {"sampleid": "aB", "versionnumber": 1}, {"@odata.context": "samples/$deletedEntity", "id": "Cd"}]}"""


@pytest.mark.parametrize(("kind", "told"), [(Kind.GUID, ("ab", "cd")), (Kind.STRING, ("aB", "Cd"))])
def test_keys_are_those_that_are_stored_and_only_guids_have_no_case(kind: Kind, told: tuple[str, str]) -> None:
    keys = parse_keys(replace(SPEC, columns=(Column("sampleid", kind), *SPEC.columns[1:])), parse_page(PAGE))

    assert (keys.versions, keys.deleted) == ([(told[0], 1)], [told[1]])
