"""Specs of a real organisation's tables: keys, columns, lookups and options as Dataverse has them."""

import os
from collections import Counter
from pathlib import Path

import pytest

from igh_sync_core.metadata import (
    Attributes,
    Csdl,
    Definition,
    build_spec,
    definition_from_csdl,
    parse_csdl,
    parse_definitions,
    parse_options,
)
from igh_sync_core.model import Column, EntitySet, Kind, LogicalName, Lookup, OptionKind, TableSpec


def define(logical_name: str, entity_set: str, key: str) -> Definition:
    return Definition(
        LogicalName(logical_name),
        entity_set_name=EntitySet(entity_set),
        primary_id_attribute=key,
        change_tracking_enabled=True,
        is_intersect=False,
    )


def lookups_of(spec: TableSpec) -> dict[str, Lookup]:
    return {lookup.column: lookup for lookup in spec.lookups}


@pytest.fixture(scope="module", name="captures")
def captures_folder() -> Path:
    folder = os.environ.get("DATAVERSE_CAPTURES")
    if not folder:
        pytest.skip("DATAVERSE_CAPTURES names no folder")
    return Path(folder)


@pytest.fixture(scope="module", name="organisation")
def parsed_organisation(captures: Path) -> Csdl:
    return parse_csdl([(captures / "csdl" / "online_crm4_v9.1_2020-09.xml").read_bytes()])


def test_every_table_of_a_real_organisation_gets_a_spec(organisation: Csdl) -> None:
    specs = [
        build_spec(organisation, definition_from_csdl(organisation, LogicalName(t)))
        for t in organisation.types
        if t in organisation.sets_by_type
    ]

    assert len(specs) == 269
    for spec in specs:
        declared = organisation.all_properties(spec.logical_name)
        assert [column.name for column in spec.columns] == [name for name, _ in declared]
        assert {lookup.column for lookup in spec.lookups} <= spec.names


@pytest.mark.parametrize(
    ("logical_name", "entity_set", "key", "columns"),
    [
        ("systemuser", "systemusers", "systemuserid", 128),
        ("team", "teams", "teamid", 31),
        ("task", "tasks", "activityid", 60),
        ("contact", "contacts", "contactid", 191),
        ("organization", "organizations", "organizationid", 345),
        ("usersettings", "usersettingscollection", "systemuserid", 95),
    ],
)
def test_the_key_is_the_primary_id_attribute(
    organisation: Csdl, logical_name: str, entity_set: str, key: str, columns: int
) -> None:
    spec = build_spec(organisation, define(logical_name, entity_set, key))

    assert (spec.entity_set, spec.key, len(spec.columns)) == (entity_set, key, columns)


def test_without_a_definition_systemuser_keeps_its_own_id(organisation: Csdl) -> None:
    spec = build_spec(organisation, definition_from_csdl(organisation, LogicalName("systemuser")))

    assert (spec.key, spec.entity_set, spec.is_tracked) == ("systemuserid", "systemusers", False)


def test_real_definition_and_real_options_meet_the_real_model(captures: Path, organisation: Csdl) -> None:
    [definition] = parse_definitions(
        b'{"value":[' + (captures / "definitions" / "tf_contact.json").read_bytes() + b"]}"
    ).values()
    kinds = {"picklists": OptionKind.PICKLIST, "states": OptionKind.STATE, "statuses": OptionKind.STATUS}
    options = tuple(
        one
        for name, kind in kinds.items()
        for one in parse_options(
            (captures / "options" / f"amp_options-{name}.json").read_bytes(), entity=definition.logical_name, kind=kind
        )
    )

    spec = build_spec(organisation, definition, attributes=Attributes(options=options))

    assert spec.is_tracked
    assert {column.name: column.option for column in spec.choices} == {
        "educationcode": OptionKind.PICKLIST,
        "familystatuscode": OptionKind.PICKLIST,
        "gendercode": OptionKind.PICKLIST,
        "statecode": OptionKind.STATE,
        "statuscode": OptionKind.STATUS,
    }


def test_columns_of_real_rows_are_declared(captures: Path, organisation: Csdl) -> None:
    page = (captures / "pages" / "tf_roles.json").read_text(encoding="utf-8")
    spec = build_spec(organisation, define("role", "roles", "roleid"))

    assert all(f'"{name}"' in page for name in spec.names)
    assert {column.name for column in spec.columns if column.kind is Kind.COMPLEX} == {
        "iscustomizable",
        "canbedeleted",
    }


def test_managed_properties_of_real_business_tables_are_complex(organisation: Csdl) -> None:
    keyed = [one for one in organisation.types if organisation.key(one) not in {(), ("MetadataId",)}]
    specs = [
        build_spec(organisation, definition_from_csdl(organisation, LogicalName(one)))
        for one in keyed
        if one in organisation.sets_by_type
    ]
    found = Counter(
        edm
        for spec in specs
        for name, edm in organisation.all_properties(spec.logical_name)
        if Column(name, Kind.COMPLEX) in spec.columns
    )

    assert set(found) == {"mscrm.BooleanManagedProperty"}
    assert found.total() == 49


def test_real_polymorphic_columns_name_all_their_targets(organisation: Csdl) -> None:
    task = lookups_of(build_spec(organisation, define("task", "tasks", "activityid")))
    contact = lookups_of(build_spec(organisation, define("contact", "contacts", "contactid")))

    assert task["_ownerid_value"] == Lookup(
        "_ownerid_value", (LogicalName("systemuser"), LogicalName("team")), is_polymorphic=True
    )
    assert {"account", "contact"} <= set(task["_regardingobjectid_value"].targets)
    assert task["_createdby_value"] == Lookup("_createdby_value", (LogicalName("systemuser"),))
    assert contact["_parentcustomerid_value"].targets == ("account", "contact")
    assert contact["_parentcustomerid_value"].type_column == "_parentcustomerid_type"


def test_a_real_plain_guid_with_a_constraint_is_a_lookup(organisation: Csdl) -> None:
    settings = lookups_of(build_spec(organisation, define("usersettings", "usersettingscollection", "systemuserid")))

    assert settings["systemuserid"] == Lookup("systemuserid", (LogicalName("systemuser"),))


def test_an_activity_may_be_the_target_as_itself_or_as_its_kind(organisation: Csdl) -> None:
    spec = build_spec(organisation, define("activityparty", "activityparties", "activitypartyid"))

    assert {"activitypointer", "email", "task"} <= set(lookups_of(spec)["_activityid_value"].targets)
