"""The sandbox beside real material: same names, same shapes, same order."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from igh_sync_core.sandbox import Organisation, Sandbox, organisation_from_metadata

GUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
CRM = "Microsoft.Dynamics.CRM."


def load(captures: Path, name: str) -> Any:
    return json.loads((captures / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def real(captures: Path) -> Iterator[httpx.Client]:
    csdl = (captures / "csdl" / "online_crm4_v9.1_2020-09.xml").read_bytes()
    sandbox = Sandbox(organisation_from_metadata(csdl, rows=5_000))
    token = sandbox.issue_token("https://org.crm4.dynamics.com")
    with httpx.Client(
        transport=httpx.MockTransport(sandbox.handle),
        base_url="https://org.crm4.dynamics.com/api/data/v9.2/",
        headers={"Authorization": f"Bearer {token}"},
    ) as client:
        yield client


def test_next_link_is_that_of_a_real_page_but_for_host_and_ids(captures: Path, api: httpx.Client) -> None:
    real_page = load(captures, "pages/amp_contacts-read.json")
    query = real_page["@odata.nextLink"].partition("?")[2].partition("&$skiptoken")[0]

    prefer = 'odata.maxpagesize=2,odata.include-annotations="*"'
    page = api.get(f"contacts?{query.replace(',fax', '')}", headers={"Prefer": prefer})

    def neutral(link: str) -> str:
        return GUID.sub("ID", link.partition("$skiptoken=")[2])

    assert neutral(page.json()["@odata.nextLink"]) == neutral(real_page["@odata.nextLink"])
    assert list(page.json()) == list(real_page)
    assert page.json()["@odata.nextLink"].partition("$skiptoken=")[2].count("-") == 8


def test_deltas_have_the_keys_of_the_documented_pair(
    captures: Path, api: httpx.Client, organisation: Organisation
) -> None:
    name = "delta/use-change-tracking-synchronize-data-external-systems"
    first, second = (load(captures, f"{name}_{number}.json") for number in (0, 1))

    mine = api.get("accounts?$select=name,accountnumber", headers={"Prefer": "odata.track-changes"}).json()
    organisation.update("account", organisation.keys("account")[0], {"name": "x"})
    organisation.delete("account", organisation.keys("account")[1])
    delta = api.get(mine["@odata.deltaLink"]).json()

    assert list(mine) == list(first)
    assert list(delta) == list(second)
    assert list(delta["value"][-1]) == list(second["value"][-1])
    assert delta["@odata.context"].endswith("#accounts(name,accountnumber)/$delta")
    form = re.compile(r"\$deltatoken=\d+%21\d\d%2f\d\d%2f\d{4}%20\d\d%3a\d\d%3a\d\d$")
    assert form.search(mine["@odata.deltaLink"])
    assert form.search(first["@odata.deltaLink"])


@pytest.mark.parametrize(("name", "cast"), [("picklists", "Picklist"), ("states", "State"), ("statuses", "Status")])
def test_options_have_the_keys_of_real_ones(captures: Path, api: httpx.Client, name: str, cast: str) -> None:
    real_body = load(captures, f"options/amp_options-{name}.json")
    url = f"EntityDefinitions(LogicalName='contact')/Attributes/{CRM}{cast}AttributeMetadata"

    mine = api.get(f"{url}?$select=LogicalName&$expand=OptionSet($select=Options)").json()

    def shape(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shape(each) for key, each in value.items() if key != "UserLocalizedLabel"}
        return shape(value[0]) if isinstance(value, list) and value else None

    assert shape(mine["value"][0]) == shape(real_body["value"][0])
    assert mine["@odata.context"].partition("$metadata")[2] == real_body["@odata.context"].partition("$metadata")[2]


def test_single_definition_is_that_of_a_real_one_but_for_ids(captures: Path, api: httpx.Client) -> None:
    real_body = load(captures, "definitions/amp_entity-definition.json")

    mine = api.get("EntityDefinitions(LogicalName='contact')?$select=DisplayCollectionName").json()

    def neutral(body: Any) -> Any:
        text = GUID.sub("ID", json.dumps(body).replace('"IsManaged": true', '"IsManaged": false'))
        return json.loads(re.sub(r"https://[^/]*", "", text))

    assert neutral(mine) == neutral(real_body)


def test_refusals_are_worded_like_recorded_ones(captures: Path, api: httpx.Client) -> None:
    recorded = {
        entry["body"]["error"]["message"] for entry in load(captures, "errors/dataverse_errors.json") if entry["body"]
    }

    for url, old, new in [
        ("xxxxxxx", "", ""),
        ("accounts?$select=fullname", "account", "campaign"),
        ("accounts?$skip=1", "", ""),
    ]:
        message = api.get(url).json()["error"]["message"]
        assert message.replace(f"CRM.{old}'", f"CRM.{new}'") in recorded


def test_real_metadata_is_served_as_it_is_and_its_rows_have_its_columns(captures: Path, real: httpx.Client) -> None:
    assert real.get("$metadata").content == (captures / "csdl" / "online_crm4_v9.1_2020-09.xml").read_bytes()
    row = real.get("accounts?$top=1").raise_for_status().json()["value"][0]

    recorded = load(captures, "pages/tf_get_account.json")
    known = {name for name in recorded if not name.startswith("@")}
    assert len(known & set(row)) >= 140
    assert real.get("systemusers?$top=1").json()["value"][0].keys() >= {"systemuserid", "ownerid"}


def test_every_set_of_real_metadata_can_be_read(real: httpx.Client) -> None:
    names = [each["name"] for each in real.get("").json()["value"]]

    rows = sum(len(real.get(name).raise_for_status().json()["value"]) for name in names)

    assert len(names) > 250
    assert rows == 5_001
    definitions = real.get("EntityDefinitions?$select=LogicalName,IsIntersect").json()["value"]
    assert {"teammembership", "systemuserroles"} <= {one["LogicalName"] for one in definitions if one["IsIntersect"]}
