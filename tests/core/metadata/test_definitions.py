"""Definitions, lookups, lengths and N:N relationships: their addresses and the parsers of their replies."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from igh_sync_core.errors import ProtocolViolation, SchemaError
from igh_sync_core.metadata import (
    DEFINITIONS_URL,
    MANY_TO_MANY_URL,
    Definition,
    lookup_targets_url,
    memo_lengths_url,
    options_url,
    parse_csdl,
    parse_definitions,
    parse_lengths,
    parse_lookup_targets,
    parse_many_to_many,
    string_lengths_url,
)
from igh_sync_core.model import EntitySet, LogicalName, OptionKind

ACCOUNT = LogicalName("account")
CONTEXT = "https://org.crm.dynamics.com/api/data/v9.2/$metadata#EntityDefinitions"
COLLECTION_PARSERS = [parse_definitions, parse_lookup_targets, parse_lengths, parse_many_to_many]


def reply(*items: dict[str, object], **members: object) -> bytes:
    return json.dumps({"@odata.context": CONTEXT, "value": items, **members}).encode()


@pytest.fixture(scope="module", name="captures")
def captures_folder() -> Path:
    folder = os.environ.get("DATAVERSE_CAPTURES")
    if not folder:
        pytest.skip("DATAVERSE_CAPTURES names no folder")
    return Path(folder)


def test_addresses_are_exactly_those_of_the_vendor() -> None:
    attributes = "EntityDefinitions(LogicalName='account')/Attributes/Microsoft.Dynamics.CRM."
    selected = (
        "$select=LogicalName,SchemaName,EntitySetName,PrimaryIdAttribute,PrimaryNameAttribute,ChangeTrackingEnabled,"
        "IsIntersect,TableType,DataProviderId,ObjectTypeCode,IsPrivate,IsLogicalEntity"
    )

    assert f"EntityDefinitions?{selected}" == DEFINITIONS_URL
    assert lookup_targets_url(ACCOUNT) == f"{attributes}LookupAttributeMetadata?$select=LogicalName,Targets"
    assert string_lengths_url(ACCOUNT) == f"{attributes}StringAttributeMetadata?$select=LogicalName,MaxLength"
    assert memo_lengths_url(ACCOUNT) == f"{attributes}MemoAttributeMetadata?$select=LogicalName,MaxLength"
    assert MANY_TO_MANY_URL == (
        "RelationshipDefinitions/Microsoft.Dynamics.CRM.ManyToManyRelationshipMetadata?$select=IntersectEntityName,"
        "Entity1LogicalName,Entity1IntersectAttribute,Entity2LogicalName,Entity2IntersectAttribute"
    )


@pytest.mark.parametrize("address", [lookup_targets_url, string_lengths_url, memo_lengths_url])
@pytest.mark.parametrize("name", ["", "x')/Attributes", "tab le", "1st", "é", "account\n"])
def test_nothing_but_an_identifier_gets_into_an_address(address: Callable[[LogicalName], str], name: str) -> None:
    with pytest.raises(SchemaError, match="not a table's logical name"):
        address(LogicalName(name))


def test_an_option_address_is_checked_too() -> None:
    with pytest.raises(SchemaError):
        options_url(LogicalName("a'b"), OptionKind.STATE)


@pytest.mark.parametrize(
    ("type_name", "url"),
    [
        ("EntityMetadata", DEFINITIONS_URL.replace("TableType,", "")),  # newer than the captured organisation
        ("ManyToManyRelationshipMetadata", MANY_TO_MANY_URL),
        ("LookupAttributeMetadata", lookup_targets_url(ACCOUNT)),
        ("StringAttributeMetadata", string_lengths_url(ACCOUNT)),
        ("MemoAttributeMetadata", memo_lengths_url(ACCOUNT)),
    ],
)
def test_a_real_organisation_declares_all_that_is_selected(captures: Path, type_name: str, url: str) -> None:
    csdl = parse_csdl([(captures / "csdl" / "online_crm4_v9.1_2020-09.xml").read_bytes()])
    declared = {name for name, _ in csdl.all_properties(type_name)}

    assert set(url.partition("$select=")[2].split(",")) <= declared


@pytest.mark.parametrize(("file", "key"), [("tf_account.json", "accountid"), ("tf_contact.json", "contactid")])
def test_real_definitions_are_read(captures: Path, file: str, key: str) -> None:
    item = json.loads((captures / "definitions" / file).read_bytes())

    (one,) = parse_definitions(reply(item)).values()

    assert one.primary_id_attribute == key
    assert one.entity_set_name == f"{one.logical_name}s"
    assert one.change_tracking_enabled is True
    assert one.is_intersect is False
    assert one.table_type == "Standard"
    assert one.data_provider_id is None


def test_real_attribute_lists_without_the_asked_member_give_nothing(captures: Path) -> None:
    body = (captures / "definitions" / "tf_mailbox_attributes.json").read_bytes()

    assert parse_lengths(body) == {}
    assert len(parse_lookup_targets(body)) == 140


def test_missing_and_null_members_of_a_definition_are_tolerated() -> None:
    body = reply(
        {"LogicalName": "vin_candidate", "EntitySetName": "vin_candidates", "PrimaryIdAttribute": "vin_candidateid"},
        {"LogicalName": "hidden", "EntitySetName": None, "ChangeTrackingEnabled": None, "MetadataId": "x"},
    )

    assert parse_definitions(body) == {
        "vin_candidate": Definition(
            LogicalName("vin_candidate"),
            entity_set_name=EntitySet("vin_candidates"),
            primary_id_attribute="vin_candidateid",
        ),
        "hidden": Definition(LogicalName("hidden")),
    }


def test_lookup_targets_are_kept_by_column() -> None:
    body = reply(
        {"LogicalName": "customerid", "Targets": ["account", "contact"]},
        {"LogicalName": "to", "Targets": []},
        {"LogicalName": "odd", "Targets": None},
    )

    assert parse_lookup_targets(body) == {"customerid": ("account", "contact"), "to": (), "odd": ()}


def test_a_column_without_a_length_is_left_out() -> None:
    body = reply({"LogicalName": "name", "MaxLength": 160}, {"LogicalName": "calculated", "MaxLength": None})

    assert parse_lengths(body) == {"name": 160}


def test_both_ends_of_a_relationship_are_kept_even_where_they_are_the_same_table() -> None:
    item: dict[str, object] = {
        "IntersectEntityName": "vin_vin_candidate_vin_candidate",
        "Entity1LogicalName": "vin_candidate",
        "Entity1IntersectAttribute": "vin_candidateidone",
        "Entity2LogicalName": "vin_candidate",
        "Entity2IntersectAttribute": "vin_candidateidtwo",
    }

    (relationship,) = parse_many_to_many(reply(item))

    assert relationship.intersect_entity_name == "vin_vin_candidate_vin_candidate"
    assert relationship.ends == (("vin_candidateidone", "vin_candidate"), ("vin_candidateidtwo", "vin_candidate"))


@pytest.mark.parametrize("parse", COLLECTION_PARSERS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html></html>",
        b'{"value":[',
        b'{"values":[]}',
        b"[]",
        b'{"value":[{"LogicalName":null,"Targets":1}]}',
        b'{"value":[{"LogicalName":"\xff\xfe"}]}',
        b'{"value":[{}]}',
    ],
)
def test_malformed_replies_are_refused(parse: Callable[[bytes], object], body: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        parse(body)


@pytest.mark.parametrize("parse", COLLECTION_PARSERS)
def test_a_paged_reply_is_refused_because_it_would_not_be_whole(parse: Callable[[bytes], object]) -> None:
    with pytest.raises(ProtocolViolation, match="paged"):
        parse(reply(**{"@odata.nextLink": "https://org.crm.dynamics.com/api/data/v9.2/next"}))


def test_the_error_names_the_reply_and_the_member() -> None:
    with pytest.raises(ProtocolViolation, match=r"EntityDefinitions: .*ChangeTrackingEnabled"):
        parse_definitions(reply({"LogicalName": "account", "ChangeTrackingEnabled": "yes"}))
