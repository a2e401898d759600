"""Change tracking: first reads, deltas, expiry, refusals."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from igh_sync_core.sandbox import Organisation

TRACK = "odata.track-changes"


def follow(
    api: httpx.Client, url: str, *, page_rows: int = 5000, between: Callable[[], None] | None = None
) -> tuple[list[dict[str, Any]], str]:
    """All items of an answer and its delta link; *between* runs after every page but the last."""
    rows: list[dict[str, Any]] = []
    while True:
        body = api.get(url, headers={"Prefer": f"{TRACK},odata.maxpagesize={page_rows}"}).raise_for_status().json()
        rows += body["value"]
        if "@odata.nextLink" not in body:
            return rows, body["@odata.deltaLink"]
        assert "@odata.deltaLink" not in body
        url = body["@odata.nextLink"]
        if between:
            between()


def test_first_read_gives_all_rows_and_one_delta_link(api: httpx.Client, organisation: Organisation) -> None:
    rows, link = follow(api, "accounts?$select=name", page_rows=9)

    assert [row["accountid"] for row in rows] == organisation.keys("account")
    assert "$select=name&$deltatoken=" in link
    assert follow(api, link)[0] == []


def test_delta_gives_changes_by_version_and_then_tombstones(api: httpx.Client, organisation: Organisation) -> None:
    link = follow(api, "accounts?$select=name")[1]
    keys = organisation.keys("account")
    organisation.delete("account", keys[7])
    organisation.update("account", keys[5], {"name": "once"})
    organisation.update("account", keys[2], {"name": "first"})
    organisation.update("account", keys[5], {"name": "twice"})
    new = organisation.insert("account", {"name": "new"})

    rows, _ = follow(api, link, page_rows=2)

    assert [row.get("name") for row in rows] == ["first", "twice", "new", None]
    assert [row.get("accountid") for row in rows] == [keys[2], keys[5], new, None]
    root = "https://org.crm.dynamics.com/api/data/v9.2/$metadata#accounts"
    assert rows[3] == {"@odata.context": f"{root}/$deletedEntity", "id": keys[7], "reason": "deleted"}


def test_row_created_and_deleted_leaves_a_tombstone_alone(api: httpx.Client, organisation: Organisation) -> None:
    link = follow(api, "contacts")[1]
    key = organisation.insert("contact", {"fullname": "Nobody"})
    organisation.delete("contact", key)

    rows, _ = follow(api, link)

    assert [(row["id"], row["reason"]) for row in rows] == [(key, "deleted")]


def test_restored_row_is_a_change_and_no_deletion(api: httpx.Client, organisation: Organisation) -> None:
    link = follow(api, "contacts")[1]
    key = organisation.keys("contact")[0]
    name = organisation.record("contact", key)["fullname"]
    organisation.delete("contact", key)
    organisation.restore("contact", key)

    rows, _ = follow(api, link)

    assert [(row["contactid"], row["fullname"]) for row in rows] == [(key, name)]


def test_change_during_the_first_read_to_a_row_already_given_is_missed(
    api: httpx.Client, organisation: Organisation
) -> None:
    """The token is stamped with the last page: the documented risk that clients have to cover."""
    key = organisation.keys("account")[0]

    _, link = follow(
        api, "accounts", page_rows=9, between=lambda: organisation.update("account", key, {"name": "missed"})
    )

    assert follow(api, link)[0] == []


def test_change_between_pages_of_a_delta_is_not_missed(api: httpx.Client, organisation: Organisation) -> None:
    link = follow(api, "accounts")[1]
    keys = organisation.keys("account")
    for key in keys[:6]:
        organisation.update("account", key, {"name": "a"})

    def again() -> None:
        organisation.update("account", keys[0], {"name": "b"})

    rows, after = follow(api, link, page_rows=4, between=again)

    assert [row["name"] for row in rows if row["accountid"] == keys[0]] == ["a", "b"]
    assert follow(api, after)[0] == []


def test_rollup_moves_the_version_alone(api: httpx.Client, organisation: Organisation) -> None:
    link = follow(api, "accounts")[1]
    key = organisation.keys("account")[3]
    before = organisation.record("account", key)

    organisation.update("account", key, {"numberofemployees": 3}, touch=False)

    rows, _ = follow(api, link)
    assert [row["accountid"] for row in rows] == [key]
    assert rows[0]["modifiedon"] == before["modifiedon"]
    assert rows[0]["versionnumber"] > before["versionnumber"]


def test_count_of_changes(api: httpx.Client, organisation: Organisation) -> None:
    link = follow(api, "accounts")[1]
    organisation.update("account", organisation.keys("account")[0], {"name": "x"})
    organisation.delete("account", organisation.keys("account")[1])

    assert api.get(link.replace("accounts?", "accounts/$count?")).text.lstrip("\ufeff") == "2"


@pytest.mark.parametrize("option", ["$filter=statecode eq 0", "$orderby=name", "$top=3"])
def test_options_that_do_not_go_with_tracking(api: httpx.Client, option: str) -> None:
    reply = api.get(f"accounts?{option}", headers={"Prefer": TRACK})

    name = option.partition("=")[0]
    assert reply.status_code == 400
    assert (
        reply.json()["error"]["message"]
        == f'The "{name}" query parameter isn\'t supported when Change Tracking is enabled.'
    )


@pytest.mark.parametrize(
    ("entity_set", "code"), [("vin_regions", "0x80072491"), ("vin_vin_candidate_vin_regionset", "0x80072492")]
)
def test_untracked_tables_refuse(api: httpx.Client, entity_set: str, code: str) -> None:
    reply = api.get(entity_set, headers={"Prefer": TRACK})

    assert (reply.status_code, reply.json()["error"]["code"]) == (400, code)


def test_many_to_many_tables_are_tracked_where_both_ends_are(api: httpx.Client, organisation: Organisation) -> None:
    link = follow(api, "vin_vin_candidate_accountset")[1]
    key = organisation.keys("vin_vin_candidate_account")[0]

    organisation.delete("vin_vin_candidate_account", key)

    assert [row["id"] for row in follow(api, link)[0]] == [key]


def test_expired_token_is_an_error_or_returns_everything(api: httpx.Client, organisation: Organisation) -> None:
    link = follow(api, "accounts")[1]
    other = follow(api, "contacts")[1]
    organisation.expire_delta_tokens("account")

    reply = api.get(link)

    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "0x80044352")
    assert follow(api, other)[0] == []
    organisation.expired_token_returns_everything = True
    assert len(follow(api, link)[0]) == organisation.count("account")


def test_tokens_expire_with_age(api: httpx.Client, organisation: Organisation) -> None:
    organisation.clock.set(datetime(2026, 1, 1, 12, tzinfo=UTC))
    link = follow(api, "accounts")[1]
    assert link.endswith("%2101%2f01%2f2026%2012%3a00%3a00")

    organisation.clock.advance(7 * 86_400)
    assert api.get(link).status_code == 200
    organisation.clock.advance(1)
    assert api.get(link).status_code == 400


def test_malformed_token_is_refused(api: httpx.Client) -> None:
    assert api.get("accounts?$deltatoken=abc").status_code == 400
