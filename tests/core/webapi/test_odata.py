import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from igh_sync_core.errors import ProtocolViolation, SourceUnavailable
from igh_sync_core.webapi.odata import (
    MAX_CONDITIONS,
    MAX_URL,
    datetime_literal,
    entity_url,
    id_batches,
    in_filter,
    parse_page,
    prefer,
    refuse_cut,
    string_literal,
)

ROOT = "https://org.crm.dynamics.com/api/data/v9.2/"
ID = "7d577253-3ef0-4a0a-bb7f-8335c2596e70"


class TestPage:
    def test_records_stay_bytes_and_key_order_does_not_matter(self) -> None:
        record = b'{"a": 1.2300000000, "b":"\\u0000"}'
        links = b'"@odata.nextLink":"n","@odata.deltaLink":"d"'

        first = parse_page(b'{"value":[' + record + b"]," + links + b"}")
        second = parse_page(b'\xef\xbb\xbf{"@odata.context":"c",' + links + b',"value":[' + record + b"]}")

        assert [bytes(raw) for raw in first.value] == [bytes(raw) for raw in second.value] == [record]
        assert (first.next_link, first.delta_link, first.context) == ("n", "d", "")
        assert (second.next_link, second.delta_link, second.context) == ("n", "d", "c")

    @pytest.mark.parametrize(
        "body",
        [
            *(b"<html>", b"[]", b"{}", b'{"value":null}', b'{"value":{}}', b'{"value":[]}}', b'{"value":[],}'),
            *(b'{"value":[]}</html>', b'\xef\xbb\xbf{"value":[]}\0', b'{"value":[{"a":"\xff"}]} x'),
        ],
    )
    def test_anything_else_is_a_violation(self, body: bytes) -> None:
        refuse_cut(body)  # not cut, whatever else is wrong: it would not come whole another time

        with pytest.raises(ProtocolViolation, match="no page of records"):
            parse_page(body)

    @pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
    @pytest.mark.parametrize(
        "body", [b"", b" \n", b'{"value":[{"a":1}<html>', b'{"value":[', b'{"value":["\xff"', b'{"value":[{"a":{}}']
    )
    def test_one_that_ends_before_its_time_may_come_whole_another_time(self, mark: bytes, body: bytes) -> None:
        with pytest.raises(SourceUnavailable, match="ends before its time"):
            parse_page(mark + body)

    def test_a_fault_within_a_record_leaves_the_page_to_whoever_names_the_record(self) -> None:
        body = b'{"@odata.nextLink":"n","value":[{"a": 1},{"a":"cut in an emoji \\ud83d"}]}'

        page = parse_page(body)

        assert page.next_link == "n"
        assert [json.loads(bytes(raw)) for raw in page.value] == [{"a": 1}, {"a": "cut in an emoji \ud83d"}]
        with pytest.raises(msgspec.DecodeError):
            msgspec.json.decode(page.value[1])

    def test_half_a_pair_beside_the_records_is_a_violation(self) -> None:
        with pytest.raises(ProtocolViolation, match="no page of records"):
            parse_page(b'{"@odata.context":"\\ud83d","value":[{"a": 1}]}')

    def test_a_recorded_page_is_understood(self, captures: Path) -> None:
        body = (captures / "pages" / "amp_contacts-read.json").read_bytes()

        page = parse_page(body)

        assert len(page.value) == 2
        assert page.metadata_version == "6012567"
        assert page.next_link is not None
        assert page.next_link.encode() in body
        assert page.delta_link is None

    def test_recorded_deltas_are_told_from_full_reads(self, captures: Path) -> None:
        stem = "use-change-tracking-synchronize-data-external-systems"
        first, second = (parse_page((captures / "delta" / f"{stem}_{n}.json").read_bytes()) for n in (0, 1))

        assert (first.is_delta, second.is_delta) == (False, True)
        assert first.delta_link is not None
        assert first.delta_link.endswith("$deltatoken=919042%2108%2f22%2f2017%2008%3a10%3a44")


class TestUrls:
    def test_the_whole_address_byte_for_byte(self) -> None:
        time = datetime(2021, 4, 28, 15, 19, 30, tzinfo=UTC)

        url = entity_url(
            ROOT,
            "accounts",
            select=("accountid", "name"),
            where=f"modifiedon ge {datetime_literal(time)} and name ne 'A&B+C #1'",
            order_by=("modifiedon asc", "accountid asc"),
            top=5,
        )

        assert url == (
            "https://org.crm.dynamics.com/api/data/v9.2/accounts?$select=accountid,name"
            "&$filter=modifiedon%20ge%202021-04-28T15:19:30Z%20and%20name%20ne%20'A%26B%2BC%20%231'"
            "&$orderby=modifiedon%20asc,accountid%20asc&$top=5"
        )

    def test_a_query_without_options_has_no_question_mark(self) -> None:
        assert entity_url(ROOT, "WhoAmI") == f"{ROOT}WhoAmI"

    def test_in_with_a_lookup_names_the_column_and_not_the_property(self) -> None:
        url = entity_url(ROOT, "accounts", where=in_filter("_primarycontactid_value", [ID, ID]))

        assert url == (
            f"{ROOT}accounts?$filter=Microsoft.Dynamics.CRM.In(PropertyName='primarycontactid',"
            f"PropertyValues=%5B'{ID}','{ID}'%5D)"
        )

    @pytest.mark.parametrize(("column", "ids"), [("a b", [ID]), ("", []), ("_x_value", ["it's"]), ("x", ['"'])])
    def test_in_takes_names_and_plain_ids_only(self, column: str, ids: list[str]) -> None:
        with pytest.raises(ValueError, match=r"no column name|quote"):
            in_filter(column, ids)

    @given(st.text(), st.lists(st.sampled_from(["name", "createdon desc", "_ownerid_value"]), max_size=3))
    def test_whatever_is_asked_arrives(self, text: str, order_by: list[str]) -> None:
        where = f"name eq '{text.encode('utf-8', 'ignore').decode()}'"

        url = entity_url(ROOT, "accounts", where=where, order_by=order_by)

        wanted = [("$filter", where)] + ([("$orderby", ",".join(order_by))] if order_by else [])
        assert parse_qsl(urlsplit(url).query, strict_parsing=True) == wanted
        assert url.isascii()
        assert " " not in url


class TestLiterals:
    def test_a_time_is_asked_for_in_utc_and_whole_seconds(self) -> None:
        paris = datetime(2021, 4, 28, 17, 19, 30, 999_999, tzinfo=timezone(timedelta(hours=2)))

        assert datetime_literal(paris) == "2021-04-28T15:19:30Z"
        assert datetime_literal(datetime(1, 1, 1, tzinfo=UTC)) == "0001-01-01T00:00:00Z"
        assert string_literal("O'Neill") == "'O''Neill'"

    def test_a_time_without_zone_is_refused(self) -> None:
        with pytest.raises(ValueError, match="without zone"):
            datetime_literal(datetime(2021, 4, 28))  # noqa: DTZ001 - the fault under test


class TestBatches:
    def test_nothing_asked_gives_no_batch(self) -> None:
        assert list(id_batches([], url_room=MAX_URL)) == []

    @given(st.integers(0, 1300), st.integers(39, 25_000))
    def test_batches_keep_all_ids_and_fill_the_room(self, count: int, room: int) -> None:
        ids = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(count)]

        batches = list(id_batches(ids, url_room=room))

        limit = min(MAX_CONDITIONS, room // 39)
        assert [value for batch in batches for value in batch] == ids
        assert [len(batch) for batch in batches[:-1]] == [limit] * (len(batches) - 1)

    def test_batches_are_as_large_as_wished_at_the_time(self) -> None:
        ids = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(10)]
        sizes: list[int] = []
        batches = id_batches(ids, url_room=MAX_URL, most=lambda: 5 if sizes else 3)
        while batch := next(batches, None):
            sizes.append(len(batch))

        assert sizes == [3, 5, 2]

    def test_a_full_batch_fits_the_address(self) -> None:
        columns = [f"column_{n:03}" for n in range(1_500)]
        empty = entity_url(ROOT, "accounts", select=columns, where=in_filter("accountid", []))
        ids = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(2_000)]

        batches = list(id_batches(ids, url_room=MAX_URL - len(empty)))

        longest = max(
            len(entity_url(ROOT, "accounts", select=columns, where=in_filter("accountid", b))) for b in batches
        )
        assert MAX_URL - 40 < longest <= MAX_URL

    def test_no_room_is_an_error_and_not_an_endless_loop(self) -> None:
        with pytest.raises(ValueError, match="no room"):
            list(id_batches([ID], url_room=38))


class TestPrefer:
    def test_the_items_in_the_vendors_order(self) -> None:
        everything = 'odata.track-changes,odata.maxpagesize=5000,odata.include-annotations="*"'

        assert prefer(page_size=5_000, track_changes=True) == everything
        assert prefer() == 'odata.include-annotations="*"'
        assert prefer(annotations=False) == ""
