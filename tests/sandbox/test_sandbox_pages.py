"""Data queries: pages, projections, annotations, counts, single rows, refusals."""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import httpx
import msgspec
import pytest

from igh_sync_core.sandbox import Organisation, Sandbox, health_organisation

NUMBERS = msgspec.json.Encoder(decimal_format="number")
ALL = 'odata.include-annotations="*"'
FORMATTED = "@OData.Community.Display.V1.FormattedValue"
TARGET = "@Microsoft.Dynamics.CRM.lookuplogicalname"
NAVIGATION = "@Microsoft.Dynamics.CRM.associatednavigationproperty"


def read_all(api: httpx.Client, url: str, *, prefer: str = "", between: Callable[[], None] | None = None) -> list[Any]:
    rows: list[Any] = []
    while url:
        body = api.get(url, headers={"Prefer": prefer}).raise_for_status().json()
        rows += body["value"]
        url = body.get("@odata.nextLink", "")
        if between and url:
            between()
    return rows


@pytest.mark.parametrize("entity", ["vin_candidate", "systemuser", "vin_vin_candidate_account", "contact", "task"])
def test_pages_give_every_row_once_with_its_plain_values(
    api: httpx.Client, organisation: Organisation, entity: str
) -> None:
    table = organisation.tables[entity]

    rows = read_all(api, table.entity_set, prefer="odata.maxpagesize=7")

    assert [row[table.shape.key] for row in rows] == organisation.keys(entity)
    for row in rows[:5]:
        etag = row.pop("@odata.etag")
        expected = organisation.record(entity, row[table.shape.key])
        assert etag == f'W/"{expected["versionnumber"]}"'
        assert row == msgspec.json.decode(NUMBERS.encode(expected))


def test_keys_stay_distinct_past_the_last_whole_block_of_rows() -> None:
    large = health_organisation(20_000)
    sandbox = Sandbox(large)
    origin = "https://org.crm.dynamics.com"
    headers = {"Authorization": f"Bearer {sandbox.issue_token(origin)}"}
    with httpx.Client(
        transport=httpx.MockTransport(sandbox.handle), base_url=f"{origin}/api/data/v9.2/", headers=headers
    ) as api:
        rows = read_all(api, "vin_candidates")

    assert len(rows) > 256
    assert [row["vin_candidateid"] for row in rows] == large.keys("vin_candidate")


@pytest.mark.parametrize("entity", ["vin_candidate", "account", "vin_vin_candidate_account"])
def test_changed_rows_look_like_untouched_ones(api: httpx.Client, organisation: Organisation, entity: str) -> None:
    """The two ways to render, by template and column by column, agree on everything but the version."""
    table = organisation.tables[entity]
    key = organisation.keys(entity)[2]
    before = api.get(f"{table.entity_set}({key})", headers={"Prefer": ALL}).text

    organisation.update(entity, key, {}, touch=False)
    after = api.get(f"{table.entity_set}({key})", headers={"Prefer": ALL}).text

    versions = re.compile(r'"(?:@odata.etag|versionnumber[^"]*)":[^,}]*(?:,\d{3})*"?')
    assert before != after
    assert versions.sub("", before) == versions.sub("", after)


def test_page_size_is_that_of_the_current_request(api: httpx.Client) -> None:
    first = api.get("contacts", headers={"Prefer": "odata.maxpagesize=3"})
    second = api.get(first.json()["@odata.nextLink"], headers={"Prefer": "odata.maxpagesize=11"})

    assert first.headers["Preference-Applied"] == "odata.maxpagesize=3"
    assert [len(first.json()["value"]), len(second.json()["value"])] == [3, 11]


def test_cookie_survives_deletions_and_insertions_between_pages(api: httpx.Client, organisation: Organisation) -> None:
    keys = organisation.keys("contact")
    inserted: list[str] = []

    def disturb() -> None:
        if not inserted:
            organisation.delete("contact", keys[0])
            organisation.delete("contact", keys[4])
            inserted.append(organisation.insert("contact", {"fullname": "New"}))

    rows = read_all(api, "contacts?$select=fullname", prefer="odata.maxpagesize=5", between=disturb)

    assert [row["contactid"] for row in rows] == [*keys, *inserted]


def test_link_that_was_encoded_again_is_refused(api: httpx.Client) -> None:
    link = api.get("contacts", headers={"Prefer": "odata.maxpagesize=3"}).json()["@odata.nextLink"]

    reply = api.get(link.replace("%", "%25"))

    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "0x80040201")


def test_cookie_of_another_order_is_refused(api: httpx.Client) -> None:
    link = api.get("contacts", headers={"Prefer": "odata.maxpagesize=3"}).json()["@odata.nextLink"]

    reply = api.get(link.replace("contacts?", "contacts?$orderby=fullname&"))

    assert reply.json()["error"]["code"] == "0x80041129"


@pytest.mark.parametrize(
    ("order", "key"),
    [
        ("fullname", lambda row: (row["fullname"].casefold(), row["contactid"])),
        ("modifiedon", lambda row: (row["modifiedon"], row["contactid"])),
        ("versionnumber asc", lambda row: row["versionnumber"]),
        ("birthdate", lambda row: (row["birthdate"] or "", row["contactid"])),
    ],
)
def test_order_holds_over_pages(api: httpx.Client, organisation: Organisation, order: str, key: Any) -> None:
    for contact in organisation.keys("contact")[::9]:
        organisation.update("contact", contact, {"fullname": "Zoë"})

    rows = read_all(api, f"contacts?$orderby={order}", prefer="odata.maxpagesize=8")

    assert len(rows) == organisation.count("contact")
    assert rows == sorted(rows, key=key)


def test_descending_order_is_the_reverse(api: httpx.Client) -> None:
    rows = read_all(api, "contacts?$orderby=versionnumber desc", prefer="odata.maxpagesize=9")

    versions = [row["versionnumber"] for row in rows]
    assert versions == sorted(versions, reverse=True)


def test_selection_adds_keys_and_the_currency_of_amounts(api: httpx.Client) -> None:
    account = api.get("accounts?$select=revenue&$top=1").json()["value"][0]
    user = api.get("systemusers?$select=fullname&$top=1").json()["value"][0]

    assert list(account) == ["@odata.etag", "revenue", "_transactioncurrencyid_value", "accountid"]
    assert list(user) == ["@odata.etag", "fullname", "systemuserid", "ownerid"]
    assert user["systemuserid"] == user["ownerid"]


def test_annotations_come_before_their_property_and_not_with_nulls(api: httpx.Client) -> None:
    for row in api.get("vin_candidates", headers={"Prefer": ALL}).json()["value"]:
        names = list(row)
        for place, name in enumerate(names):
            prop = name.partition("@")[0]
            if prop and prop != name:
                assert row[prop] is not None
                assert names[place + 1].partition("@")[0] == prop


def test_lookups_say_their_target_and_writable_ones_their_navigation(
    api: httpx.Client, organisation: Organisation
) -> None:
    rows = api.get("vin_candidates", headers={"Prefer": ALL}).json()["value"]
    seen = set()

    for row in rows:
        target = row.get(f"_vin_sponsor_value{TARGET}")
        if target:
            seen.add(target)
            assert row[f"_vin_sponsor_value{NAVIGATION}"] == f"vin_Sponsor_{target}"
            named = organisation.record(target, row["_vin_sponsor_value"])
            assert row[f"_vin_sponsor_value{FORMATTED}"] == named["name" if target == "account" else "fullname"]
        assert row[f"_createdby_value{TARGET}"] == "systemuser"
        assert f"_createdby_value{NAVIGATION}" not in row
    assert seen == {"account", "contact"}


def test_wanted_annotations_can_be_listed(api: httpx.Client) -> None:
    prefer = 'odata.include-annotations="Microsoft.Dynamics.CRM.lookuplogicalname"'

    body = api.get("accounts", headers={"Prefer": prefer}).json()

    kinds = {name.partition("@")[2] for row in body["value"] for name in row} - {"", "odata.etag"}
    assert kinds == {"Microsoft.Dynamics.CRM.lookuplogicalname"}
    assert "@Microsoft.Dynamics.CRM.globalmetadataversion" not in body


def test_new_name_of_a_target_shows_without_a_new_version(api: httpx.Client, organisation: Organisation) -> None:
    url = "vin_candidates?$select=_vin_disease_value&$top=1&$filter=_vin_disease_value ne null"
    before = api.get(url, headers={"Prefer": ALL}).json()["value"][0]

    organisation.update("vin_disease", before["_vin_disease_value"], {"vin_name": "Renamed"})
    after = api.get(url, headers={"Prefer": ALL}).json()["value"][0]

    assert after == before | {f"_vin_disease_value{FORMATTED}": "Renamed"}


def test_renamed_option_shows_and_moves_the_metadata_version(api: httpx.Client, organisation: Organisation) -> None:
    url = "vin_candidates?$select=vin_status&$filter=vin_status eq 100000001"
    before = api.get(url, headers={"Prefer": ALL}).json()

    organisation.rename_option("vin_candidate", "vin_status", 100_000_001, "Before the clinic")
    after = api.get(url, headers={"Prefer": ALL}).json()

    assert {row[f"vin_status{FORMATTED}"] for row in after["value"]} == {"Before the clinic"}
    assert [row["@odata.etag"] for row in after["value"]] == [row["@odata.etag"] for row in before["value"]]
    version = "@Microsoft.Dynamics.CRM.globalmetadataversion"
    assert int(after[version]) == int(before[version]) + 1


def test_decimals_keep_their_trailing_zeros(api: httpx.Client, organisation: Organisation) -> None:
    key = organisation.keys("account")[0]
    organisation.update("account", key, {"revenue": Decimal("20000.0000"), "exchangerate": Decimal("1.000000000000")})

    text = api.get(f"accounts({key})?$select=revenue,exchangerate").text

    assert '"revenue":20000.0000' in text
    assert '"exchangerate":1.000000000000' in text


def test_counts(api: httpx.Client, organisation: Organisation) -> None:
    key = organisation.keys("contact")[0]
    total = organisation.count("contact")

    assert api.get("contacts?$count=true&$top=1").json()["@odata.count"] == total
    assert api.get("contacts/$count").content == b"\xef\xbb\xbf" + str(total).encode()
    assert api.get(f"contacts/$count?$filter=contactid ne {key}").text.lstrip("\ufeff") == str(total - 1)
    assert api.get("contacts?$apply=aggregate($count as n)").json()["value"] == [{"n": total}]
    totals = api.get("RetrieveTotalRecordCount(EntityNames=@p1)?@p1=['contact','account']").json()
    assert totals["EntityRecordCountCollection"]["Values"] == [total, organisation.count("account")]


def test_single_row_answers_304_while_unchanged(api: httpx.Client, organisation: Organisation) -> None:
    key = organisation.keys("account")[0]
    etag = api.get(f"accounts({key})").json()["@odata.etag"]

    assert api.get(f"accounts({key})", headers={"If-None-Match": etag}).status_code == 304
    organisation.update("account", key, {"name": "Other"})
    assert api.get(f"accounts({key})", headers={"If-None-Match": etag}).json()["name"] == "Other"


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        ("accounts?$select=nothing", 400, "0x80060888"),
        ("accounts?$select=primarycontactid", 400, "0x80060888"),
        ("accounts?$filter=nothing eq 1", 400, "0x80060888"),
        ("accounts?$filter=name eq 1", 400, "0x80060888"),
        ("accounts?$filter=name xx 'a'", 400, "0x80060888"),
        ("accounts?$orderby=nothing", 400, "0x80060888"),
        ("systemusers?$orderby=ownerid", 400, "0x80060888"),
        ("accounts?$skip=5", 400, "0x80060888"),
        ("accounts?$unheard=5", 400, "0x80060888"),
        ("accountz", 404, "0x80060888"),
        ("accounts(00000000-0000-0000-0000-000000000001)", 404, "0x80040217"),
        ("owners", 404, "0x80060888"),
    ],
)
def test_refusals(api: httpx.Client, url: str, status: int, code: str) -> None:
    reply = api.get(url)

    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


def test_addresses_that_are_too_long_are_refused(api: httpx.Client) -> None:
    assert api.get(f"accounts?$filter=name eq '{'x' * 33_000}'").status_code == 414


def test_page_size_is_clamped_and_elastic_tables_have_small_pages(
    api: httpx.Client, organisation: Organisation
) -> None:
    organisation.tables["contact"].shape.is_elastic = True
    for number in range(600):
        organisation.insert("contact", {"fullname": f"Person {number}"})

    assert len(api.get("contacts", headers={"Prefer": "odata.maxpagesize=9000"}).json()["value"]) == 500


def test_hidden_rows_are_silently_absent_and_secured_columns_null(api: httpx.Client, sandbox: Sandbox) -> None:
    keys = sandbox.organisation.keys("account")
    sandbox.hide("account", keys[1])
    sandbox.secure("account", "name")

    rows = read_all(api, "accounts", prefer=f"odata.maxpagesize=4,{ALL}")

    assert [row["accountid"] for row in rows] == [keys[0], *keys[2:]]
    assert {row["name"] for row in rows} == {None}
    assert api.get(f"accounts({keys[1]})").status_code == 404


def test_activitypointers_shows_tasks_with_the_inherited_columns(api: httpx.Client, organisation: Organisation) -> None:
    rows = read_all(api, "activitypointers")

    assert [row["activityid"] for row in rows] == organisation.keys("task")
    assert "percentcomplete" not in rows[0]
