"""What a delta answer mixes in one list."""

from shaping import spec_of

from igh_sync_core.webapi.odata import parse_page
from igh_sync_core.webapi.tombstones import split_page

CONTEXT = b'{"@odata.context":"https://org.crm.dynamics.com/api/data/v9.2/$metadata#accounts/$delta","value":['
GONE = b'{"@odata.context":"https://org.crm.dynamics.com/api/data/v9.2/$metadata#accounts/$deletedEntity","id":"A"}'


def test_a_record_that_is_no_text_stays_a_record_for_whoever_names_it() -> None:
    """Half a surrogate pair, as a text cut in the middle of an emoji holds."""
    page = parse_page(CONTEXT + GONE + b',{"accountid":"b","name":"cut \\ud83d"}]}')

    records, deleted = split_page(page, spec_of(entity="account"))

    assert [b"cut" in bytes(record) for record in records] == [True]
    assert deleted == ["a"]
