"""Definitions and ``$metadata``: they agree with each other and with the rows."""

from typing import Any
from xml.etree import ElementTree as ET

import httpx
import pytest

from igh_sync_core.sandbox import Organisation, Sandbox

EDM = "{http://docs.oasis-open.org/odata/ns/edm}"
CRM = "Microsoft.Dynamics.CRM."


def read_csdl(api: httpx.Client) -> ET.Element:
    return ET.fromstring(api.get("$metadata").content)  # noqa: S314 - the sandbox's own


@pytest.fixture
def csdl(api: httpx.Client) -> ET.Element:
    return read_csdl(api)


def a_type(csdl: ET.Element, name: str) -> ET.Element:
    return next(each for each in csdl.iter(f"{EDM}EntityType") if each.get("Name") == name)


def names(element: ET.Element, tag: str) -> list[str]:
    return [each.get("Name", "") for each in element.iter(f"{EDM}{tag}")]


def options_of(api: httpx.Client, entity: str, cast: str, inner: str = "Options") -> dict[str, Any]:
    url = f"EntityDefinitions(LogicalName='{entity}')/Attributes/{CRM}{cast}AttributeMetadata"
    body = api.get(f"{url}?$select=LogicalName&$expand=OptionSet($select={inner})").raise_for_status().json()
    return {each["LogicalName"]: each["OptionSet"] for each in body["value"]}


def test_metadata_has_the_oddities_of_the_real_one(api: httpx.Client, csdl: ET.Element) -> None:
    assert api.get("$metadata").content.startswith(b"\xef\xbb\xbf<?xml")
    assert not [
        each for each in csdl.iter(f"{EDM}EntityType") for p in each.iter(f"{EDM}Property") if p.get("Nullable")
    ]
    assert not [p for p in csdl.iter(f"{EDM}Property") if p.get("MaxLength")]
    user = a_type(csdl, "systemuser")
    assert user.get("BaseType") == "mscrm.principal"
    assert [ref.get("Name") for ref in user.iter(f"{EDM}PropertyRef")] == ["ownerid"]
    assert "ownerid" not in names(user, "Property")
    assert "systemuserid" in names(user, "Property")
    assert a_type(csdl, "activitypointer").get("Abstract") == "true"
    assert "activityid" not in names(a_type(csdl, "task"), "Property")
    sets = {each.get("Name"): each.get("EntityType") for each in csdl.iter(f"{EDM}EntitySet")}
    assert sets["activitypointers"] == f"{CRM}activitypointer"
    assert sets["vin_vin_candidate_accountset"] == f"{CRM}vin_vin_candidate_account"
    assert "owners" not in sets


def test_metadata_and_rows_have_the_same_columns(
    api: httpx.Client, csdl: ET.Element, organisation: Organisation
) -> None:
    for entity, base in [("vin_candidate", None), ("task", "activitypointer"), ("team", "principal")]:
        declared = names(a_type(csdl, base), "Property") if base else []
        declared += names(a_type(csdl, entity), "Property")
        row = api.get(f"{organisation.tables[entity].entity_set}?$top=1").json()["value"][0]
        assert list(row) == ["@odata.etag", *declared]


def test_candidates_have_every_kind_of_column(csdl: ET.Element) -> None:
    types = {each.get("Type") for each in a_type(csdl, "vin_candidate").iter(f"{EDM}Property")}

    kinds = "String Int32 Int64 Boolean Decimal Double DateTimeOffset Date Guid Binary"
    assert types == {f"Edm.{kind}" for kind in kinds.split()}
    source = a_type(csdl, "vin_source")
    assert "mscrm.BooleanManagedProperty" in {each.get("Type") for each in source.iter(f"{EDM}Property")}


def test_polymorphic_lookups_share_a_column_and_some_have_no_navigation(csdl: ET.Element) -> None:
    candidate = a_type(csdl, "vin_candidate")
    bound = {
        (each.get("Name"), each.get("Type"), constraint.get("Property"), constraint.get("ReferencedProperty"))
        for each in candidate.iter(f"{EDM}NavigationProperty")
        for constraint in each.iter(f"{EDM}ReferentialConstraint")
    }

    assert ("vin_Sponsor_account", "mscrm.account", "_vin_sponsor_value", "accountid") in bound
    assert ("vin_Sponsor_contact", "mscrm.contact", "_vin_sponsor_value", "contactid") in bound
    assert ("ownerid", "mscrm.principal", "_ownerid_value", "ownerid") in bound
    assert "_vin_legacyrecord_value" in names(candidate, "Property")
    assert "_vin_legacyrecord_value" not in {column for _, _, column, _ in bound}


def test_tables_are_listed_whole_with_what_was_selected(api: httpx.Client, organisation: Organisation) -> None:
    url = "EntityDefinitions?$select=LogicalName,EntitySetName,PrimaryIdAttribute,ChangeTrackingEnabled"
    listed = api.get(url, headers={"Prefer": "odata.maxpagesize=2"}).json()

    assert {each["LogicalName"] for each in listed["value"]} == set(organisation.tables)
    user = next(each for each in listed["value"] if each["LogicalName"] == "systemuser")
    assert set(user) == {"MetadataId", "LogicalName", "EntitySetName", "PrimaryIdAttribute", "ChangeTrackingEnabled"}
    assert user["PrimaryIdAttribute"] == "systemuserid"
    filtered = api.get(f"{url}&$filter=IsIntersect eq true and ChangeTrackingEnabled eq false").json()["value"]
    assert {each["LogicalName"] for each in filtered} == {
        "vin_vin_candidate_vin_region",
        "vin_vin_candidate_vin_rdpriority",
    }
    owned = f"OwnershipType eq {CRM}OwnershipTypes'UserOwned' and CanChangeTrackingBeEnabled/Value eq true"
    assert "account" in str(api.get("EntityDefinitions", params={"$select": "LogicalName", "$filter": owned}).json())


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("$top=1", "0x80060888"),
        ("$orderby=LogicalName", "0x80060888"),
        ("LabelLanguages=1033", "0x80060888"),
        ("$filter=startswith(LogicalName,'a')", "0x8006088a"),
        ("$select=Nothing", "0x80060888"),
    ],
)
def test_definitions_refuse_most_options(api: httpx.Client, query: str, code: str) -> None:
    reply = api.get(f"EntityDefinitions?{query}")

    assert (reply.status_code, reply.json()["error"]["code"]) == (400, code)


def test_options_have_labels_in_two_languages_and_one_only_in_french(api: httpx.Client) -> None:
    options = options_of(api, "vin_candidate", "Picklist")["vin_status"]["Options"]

    labels = [
        {each["LanguageCode"]: each["Label"] for each in option["Label"]["LocalizedLabels"]} for option in options
    ]
    assert labels[0] == {1033: "Discovery", 1036: "Discovery (fr)"}
    assert labels[-1] == {1036: "Abandonné"}
    assert options[-1]["Label"]["UserLocalizedLabel"] is None
    assert options[0]["Label"]["UserLocalizedLabel"]["Label"] == "Discovery"


def test_each_cast_gives_its_own_columns(api: httpx.Client) -> None:
    states = options_of(api, "account", "State")
    statuses = options_of(api, "account", "Status")
    flags = options_of(api, "account", "Boolean", "TrueOption,FalseOption")
    several = options_of(api, "vin_candidate", "MultiSelectPicklist")

    assert [option["InvariantName"] for option in states["statecode"]["Options"]] == ["Active", "Inactive"]
    assert [option["State"] for option in statuses["statuscode"]["Options"]] == [0, 1]
    assert set(flags["donotemail"]) == {"MetadataId", "TrueOption", "FalseOption"}
    assert flags["donotemail"]["FalseOption"]["Label"]["UserLocalizedLabel"]["Label"] == "Allow"
    assert set(several) == {"vin_indications", "vin_agegroups", "vin_platforms"}


def test_casts_give_facets_that_the_plain_list_refuses(api: httpx.Client) -> None:
    base = "EntityDefinitions(LogicalName='vin_candidate')/Attributes"
    lookups = api.get(f"{base}/{CRM}LookupAttributeMetadata?$select=LogicalName,Targets").json()["value"]
    texts = api.get(f"{base}/{CRM}StringAttributeMetadata?$select=LogicalName,MaxLength").json()["value"]
    memos = api.get(f"{base}/{CRM}MemoAttributeMetadata?$select=LogicalName,MaxLength").json()["value"]
    times = api.get(f"{base}/{CRM}DateTimeAttributeMetadata?$select=LogicalName,DateTimeBehavior").json()["value"]

    targets = {each["LogicalName"]: each["Targets"] for each in lookups}
    assert targets["vin_sponsor"] == ["account", "contact"]
    assert targets["ownerid"] == ["systemuser", "team"]
    assert targets["vin_legacyrecord"] == ["contact"]
    assert {each["LogicalName"]: each["MaxLength"] for each in texts}["vin_name"] == 200
    assert {each["MaxLength"] for each in memos} == {4000}
    behaviors = {each["LogicalName"]: each["DateTimeBehavior"]["Value"] for each in times}
    assert behaviors["vin_startdate"] == "DateOnly"
    assert behaviors["vin_dataextractedon"] == "TimeZoneIndependent"
    assert api.get(f"{base}?$select=MaxLength").status_code == 400
    assert api.get(f"{base}?$expand=OptionSet").status_code == 400


def test_attribute_list_shows_subtypes_and_shadows(api: httpx.Client) -> None:
    url = "EntityDefinitions(LogicalName='vin_candidate')?$select=LogicalName&$expand=Attributes($select=LogicalName)"
    listed = {each["LogicalName"]: each.get("@odata.type", "") for each in api.get(url).json()["Attributes"]}

    assert listed["ownerid"] == f"#{CRM}LookupAttributeMetadata"
    assert listed["vin_image"] == f"#{CRM}ImageAttributeMetadata"
    assert listed["vin_candidateid"] == ""
    assert listed["statuscodename"] == ""


def test_relationships_name_intersect_tables_and_lookups(api: httpx.Client) -> None:
    pairs = api.get(f"RelationshipDefinitions/{CRM}ManyToManyRelationshipMetadata").json()["value"]
    own = api.get("EntityDefinitions(LogicalName='vin_region')/ManyToManyRelationships").json()["value"]
    many = api.get(
        f"RelationshipDefinitions/{CRM}OneToManyRelationshipMetadata?$filter=ReferencingEntity eq 'contact'"
    ).json()["value"]

    assert len(pairs) == 8
    assert [each["IntersectEntityName"] for each in own] == ["vin_vin_candidate_vin_region"]
    assert {each["Entity1IntersectAttribute"] for each in own} == {"vin_candidateid"}
    parents = {each["ReferencedEntity"] for each in many if each["ReferencingAttribute"] == "parentcustomerid"}
    assert parents == {"account", "contact"}


def test_schema_edits_show_everywhere(api: httpx.Client, organisation: Organisation) -> None:
    key = organisation.keys("vin_disease")[0]
    version = organisation.record("vin_disease", key)["versionnumber"]
    organisation.add_column("vin_disease", "vin_new", "Edm.Int32", fixed=5)
    organisation.remove_column("vin_disease", "vin_icdcode")
    organisation.change_type("vin_disease", "vin_new", "Edm.String")
    row = api.get(f"vin_diseases({key})").json()
    csdl = read_csdl(api)

    assert (row["vin_new"], row["versionnumber"]) == ("5", version)
    assert "vin_icdcode" not in row
    declared = {each.get("Name"): each.get("Type") for each in a_type(csdl, "vin_disease").iter(f"{EDM}Property")}
    assert declared["vin_new"] == "Edm.String"
    assert "vin_icdcode" not in declared
    assert api.get("vin_diseases?$select=vin_icdcode").status_code == 400


def test_options_come_and_go(api: httpx.Client, organisation: Organisation) -> None:
    organisation.add_option("vin_product", "vin_status", 7, "Seventh")
    organisation.remove_option("vin_product", "vin_status", 100_000_000)

    codes = [option["Value"] for option in options_of(api, "vin_product", "Picklist")["vin_status"]["Options"]]

    assert codes == [100_000_001, 100_000_002, 7]


def test_global_choices_are_shared(api: httpx.Client) -> None:
    url = f"EntityDefinitions(LogicalName='vin_country')/Attributes(LogicalName='vin_whoregion')/{CRM}Picklist"
    one = api.get(f"{url}AttributeMetadata?$select=LogicalName&$expand=OptionSet,GlobalOptionSet").json()

    shared = api.get("GlobalOptionSetDefinitions(Name='vin_whoregion')").json()
    assert one["GlobalOptionSet"]["Name"] == one["OptionSet"]["Name"] == shared["Name"]
    assert len(shared["Options"]) == 5


def test_reading_definitions_can_be_denied(api: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.deny_metadata()

    assert [api.get(url).status_code for url in ("EntityDefinitions", "$metadata", "accounts")] == [403, 403, 200]


def test_rights_are_told_as_in_captures_and_of_the_user_only_those_it_holds(
    sandbox: Sandbox, api: httpx.Client
) -> None:
    user = api.get("WhoAmI").json()["UserId"]
    read = {
        name: next(
            one["PrivilegeId"]
            for one in api.get(f"EntityDefinitions(LogicalName='{name}')?$select=Privileges").json()["Privileges"]
            if one["PrivilegeType"] == "Read"
        )
        for name in ("account", "contact", "task")
    }
    sandbox.deny("contact")
    sandbox.limit("task", "Deep")
    held = api.get(f"systemusers({user})/Microsoft.Dynamics.CRM.RetrieveUserPrivileges()").json()["RolePrivileges"]
    depths = {one["PrivilegeId"]: one["Depth"] for one in held}

    assert {name: depths.get(one) for name, one in read.items()} == {
        "account": "Global",
        "contact": None,
        "task": "Deep",
    }
    nobody = api.get(f"systemusers({read['account']})/Microsoft.Dynamics.CRM.RetrieveUserPrivileges()")
    assert nobody.status_code == 404
