"""Filters: compared with the same question asked of the records."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from igh_sync_core.sandbox import Organisation

Record = dict[str, Any]

QUESTIONS: list[tuple[str, Callable[[Record], bool]]] = [
    ("statecode eq 0", lambda r: r["statecode"] == 0),
    ("gendercode ne 100000001", lambda r: r["gendercode"] != 100_000_001),
    ("birthdate eq null", lambda r: r["birthdate"] is None),
    ("birthdate ge 2015-01-01", lambda r: r["birthdate"] is not None and r["birthdate"] >= "2015-01-01"),
    ("not (donotemail eq true)", lambda r: r["donotemail"] is not True),
    ("contains(fullname,'AR')", lambda r: "ar" in r["fullname"].casefold()),
    (
        "startswith(fullname,'m') or endswith(fullname,'1')",
        lambda r: r["fullname"].casefold().startswith("m") or r["fullname"].endswith("1"),
    ),
    (
        "statecode eq 0 and (gendercode eq 100000000 or gendercode eq null)",
        lambda r: r["statecode"] == 0 and r["gendercode"] in {100_000_000, None},
    ),
    ("modifiedon ge 2024-05-01T00:00:00Z", lambda r: r["modifiedon"] >= "2024-05-01T00:00:00Z"),
    ("modifiedon lt 2024-05-01T02:00:00%2B02:00", lambda r: r["modifiedon"] < "2024-05-01T00:00:00Z"),
    ("modifiedon gt 2024-05-01T00:00:00.5Z", lambda r: r["modifiedon"] > "2024-05-01T00:00:00Z"),
    ("versionnumber gt 1000700", lambda r: r["versionnumber"] > 1_000_700),
    ("fullname eq 'PRESENT'", lambda r: r["fullname"] == "present"),
    (
        "Microsoft.Dynamics.CRM.In(PropertyName='gendercode',PropertyValues=['100000000','100000002'])",
        lambda r: r["gendercode"] in {100_000_000, 100_000_002},
    ),
]


@pytest.mark.parametrize(("text", "test"), QUESTIONS, ids=[text for text, _ in QUESTIONS])
def test_filter_finds_what_the_records_say(
    api: httpx.Client, organisation: Organisation, text: str, test: Callable[[Record], bool]
) -> None:
    keys = organisation.keys("contact")
    organisation.update("contact", keys[3], {"fullname": "present"})
    organisation.delete("contact", keys[5])
    records = (organisation.record("contact", key) for key in organisation.keys("contact"))

    found = api.get(f"contacts?$select=contactid&$filter={text}").raise_for_status().json()["value"]

    assert 0 < len(found) < len(keys)
    assert [row["contactid"] for row in found] == [record["contactid"] for record in records if test(record)]


def test_strings_compare_without_case_and_quotes_are_doubled(api: httpx.Client, organisation: Organisation) -> None:
    key = organisation.insert("contact", {"fullname": "Anne O'Brien"})

    found = api.get("contacts", params={"$filter": "fullname eq 'ANNE O''BRIEN'"}).json()["value"]

    assert [row["contactid"] for row in found] == [key]


def test_ids_come_quoted_or_not_and_in_lists(api: httpx.Client, organisation: Organisation) -> None:
    one, two = organisation.keys("contact")[2:4]
    both = [
        f"contactid eq {one} or contactid eq '{two.upper()}'",
        f"Microsoft.Dynamics.CRM.In(PropertyName='contactid',PropertyValues=['{one}','{two}'])",
        f'Microsoft.Dynamics.CRM.In(PropertyName=@p1,PropertyValues=@p2)&@p1=\'contactid\'&@p2=["{one}","{two}"]',
    ]

    for text in both:
        found = api.get(f"contacts?$select=fullname&$filter={text}").json()["value"]
        assert [row["contactid"] for row in found] == [one, two]


@pytest.mark.parametrize("name", ["vin_disease", "_vin_disease_value"])
def test_lists_of_lookups_take_both_names(api: httpx.Client, organisation: Organisation, name: str) -> None:
    first = api.get("vin_candidates?$top=1&$filter=_vin_disease_value ne null").json()["value"][0]
    wanted = first["_vin_disease_value"]
    text = f"Microsoft.Dynamics.CRM.In(PropertyName='{name}',PropertyValues=['{wanted}'])"

    found = api.get(f"vin_candidates?$filter={text}").json()["value"]

    records = (organisation.record("vin_candidate", key) for key in organisation.keys("vin_candidate"))
    assert len(found) == sum(record["_vin_disease_value"] == wanted for record in records) > 0


def test_multi_selects_are_asked_by_value(api: httpx.Client, organisation: Organisation) -> None:
    keys = organisation.keys("vin_candidate")
    organisation.update("vin_candidate", keys[0], {"vin_platforms": "100000001,100000003"})
    text = "Microsoft.Dynamics.CRM.ContainValues(PropertyName='vin_platforms',PropertyValues=['100000003'])"

    found = api.get(f"vin_candidates?$filter={text}").json()["value"]
    others = api.get(f"vin_candidates?$filter={text.replace('.Contain', '.DoesNotContain')}").json()["value"]

    assert keys[0] in {row["vin_candidateid"] for row in found}
    assert all("100000003" in row["vin_platforms"].split(",") for row in found)
    assert len(found) + len(others) == len(keys)


def test_too_many_values_are_refused(api: httpx.Client) -> None:
    values = ",".join(f"'{number}'" for number in range(501))
    text = f"Microsoft.Dynamics.CRM.In(PropertyName='gendercode',PropertyValues=[{values}])"

    assert api.get(f"contacts?$filter={text}").json()["error"]["code"] == "0x8004430C"


def test_apostrophe_in_a_single_quoted_list_is_refused(api: httpx.Client) -> None:
    text = "Microsoft.Dynamics.CRM.In(PropertyName='fullname',PropertyValues=['O'Brien'])"

    assert "Invalid JSON" in api.get(f"contacts?$filter={text}").json()["error"]["message"]
