"""CSDL and definitions → TableSpec: columns, keys, lookups, tracking, and what is refused."""

import pytest

from igh_sync_core.errors import ProtocolViolation, SchemaError
from igh_sync_core.metadata import (
    Attributes,
    Csdl,
    Definition,
    EntityType,
    ManyToMany,
    Navigation,
    OptionSet,
    build_spec,
    definition_from_csdl,
)
from igh_sync_core.model import Column, EntitySet, Kind, LogicalName, Lookup, OptionKind, TableSpec

THING = LogicalName("vin_thing")
LINK = LogicalName("vin_thing_vin_disease")
THING_DEFINITION = Definition(THING, entity_set_name=EntitySet("vin_things"), primary_id_attribute="vin_thingid")
RELATIONSHIP = ManyToMany(LINK, THING, "vin_thingid", LogicalName("vin_disease"), "vin_diseaseid")
OTHER_RELATIONSHIP = ManyToMany(LogicalName("other"), THING, "vin_thingid", LogicalName("team"), "vin_diseaseid")


def define(logical_name: str, entity_set: str, key: str) -> Definition:
    return Definition(
        LogicalName(logical_name),
        entity_set_name=EntitySet(entity_set),
        primary_id_attribute=key,
        change_tracking_enabled=True,
        is_intersect=False,
    )


def model(*properties: tuple[str, str], navigations: tuple[Navigation, ...] = ()) -> Csdl:
    """One table ``vin_thing`` with its key, the given members, and the owner types of every organisation."""
    owner = EntityType("principal", None, is_abstract=True, key=("ownerid",), properties=(("ownerid", "Edm.Guid"),))
    thing = EntityType(
        THING,
        None,
        is_abstract=False,
        key=("vin_thingid",),
        properties=(("vin_thingid", "Edm.Guid"), *properties),
        navigations=navigations,
    )
    people = [EntityType(name, "principal", is_abstract=False, key=("ownerid",)) for name in ("team", "systemuser")]
    types = {one.name: one for one in (owner, thing, *people)}
    return Csdl(types=types, sets={EntitySet("vin_things"): THING})


def lookups_of(spec: TableSpec) -> dict[str, Lookup]:
    return {lookup.column: lookup for lookup in spec.lookups}


@pytest.mark.parametrize(
    ("edm_type", "kind"),
    [
        ("Edm.String", Kind.STRING),
        ("Edm.Guid", Kind.GUID),
        ("Edm.Int16", Kind.INT16),
        ("Edm.Int32", Kind.INT32),
        ("Edm.Int64", Kind.INT64),
        ("Edm.Boolean", Kind.BOOLEAN),
        ("Edm.Decimal", Kind.DECIMAL),
        ("Edm.Double", Kind.DOUBLE),
        ("Edm.Single", Kind.DOUBLE),
        ("Edm.DateTimeOffset", Kind.DATETIME),
        ("Edm.Date", Kind.DATE),
        ("Edm.Binary", Kind.BINARY),
        ("mscrm.BooleanManagedProperty", Kind.COMPLEX),
        ("Collection(Edm.String)", Kind.COMPLEX),
        ("Edm.Duration", Kind.COMPLEX),
    ],
)
def test_each_edm_type_has_its_kind(edm_type: str, kind: Kind) -> None:
    spec = build_spec(model(("vin_field", edm_type)), THING_DEFINITION)

    assert spec.columns == (Column("vin_thingid", Kind.GUID), Column("vin_field", kind))


def test_lengths_go_to_texts_alone() -> None:
    attributes = Attributes(lengths={"vin_name": 100, "vin_number": 5})
    spec = build_spec(
        model(("vin_name", "Edm.String"), ("vin_number", "Edm.Int32")), THING_DEFINITION, attributes=attributes
    )

    assert [column.max_length for column in spec.columns] == [None, 100, None]


def test_option_sets_of_other_tables_are_passed_over() -> None:
    options = tuple(
        OptionSet(LogicalName(entity), "vin_status", kind)
        for entity, kind in ((THING, OptionKind.MULTISELECT), ("vin_other", OptionKind.PICKLIST))
    )
    spec = build_spec(model(("vin_status", "Edm.String")), THING_DEFINITION, attributes=Attributes(options=options))

    assert spec.multiselects == (Column("vin_status", Kind.STRING, option=OptionKind.MULTISELECT),)


def test_targets_of_model_and_definition_are_united() -> None:
    bound = Navigation("vin_who_team", "team", is_collection=False, column="_vin_who_value", referenced="teamid")
    csdl = model(("_vin_who_value", "Edm.Guid"), navigations=(bound,))
    attributes = Attributes(lookup_targets={"vin_who": (LogicalName("contact"),)})

    assert lookups_of(build_spec(csdl, THING_DEFINITION))["_vin_who_value"] == Lookup(
        "_vin_who_value", (LogicalName("team"),)
    )
    assert lookups_of(build_spec(csdl, THING_DEFINITION, attributes=attributes))["_vin_who_value"] == Lookup(
        "_vin_who_value", (LogicalName("contact"), LogicalName("team")), is_polymorphic=True
    )


def test_an_abstract_owner_is_a_user_or_a_team() -> None:
    bound = Navigation("ownerid", "principal", is_collection=False, column="_ownerid_value", referenced="ownerid")
    spec = build_spec(model(("_ownerid_value", "Edm.Guid"), navigations=(bound,)), THING_DEFINITION)

    assert spec.lookups == (
        Lookup("_ownerid_value", (LogicalName("systemuser"), LogicalName("team")), is_polymorphic=True),
    )


def test_a_lookup_that_metadata_cannot_explain_keeps_the_type_beside_it() -> None:
    spec = build_spec(model(("_vin_mystery_value", "Edm.Guid")), THING_DEFINITION)

    assert spec.lookups == (Lookup("_vin_mystery_value", (), is_polymorphic=True),)


def test_constraints_say_nothing_on_collections_other_columns_or_texts() -> None:
    navigations = (
        Navigation("many", "team", is_collection=True, column="vin_a", referenced="teamid"),
        Navigation("gone", "team", is_collection=False, column="vin_gone", referenced="teamid"),
        Navigation("text", "team", is_collection=False, column="vin_b", referenced="teamid"),
        Navigation("regardingobjectid_team_vin_thing", "team", is_collection=False),
    )
    spec = build_spec(model(("vin_a", "Edm.Guid"), ("vin_b", "Edm.String"), navigations=navigations), THING_DEFINITION)

    assert spec.lookups == ()


def intersect() -> Csdl:
    link = EntityType(
        LINK,
        None,
        is_abstract=False,
        key=(f"{LINK}id",),
        properties=tuple((name, "Edm.Guid") for name in (f"{LINK}id", "vin_thingid", "vin_diseaseid")),
    )
    return Csdl(types={LINK: link}, sets={EntitySet(f"{LINK}set"): LINK})


@pytest.mark.parametrize(
    ("tracked", "expected"),
    [
        ({THING: True, "vin_disease": True}, True),
        ({THING: True, "vin_disease": False}, False),
        ({THING: True, "vin_disease": None}, False),
        ({THING: True}, False),
    ],
)
def test_an_intersect_table_is_tracked_exactly_if_both_ends_are(
    tracked: dict[str, bool | None],
    expected: bool,
) -> None:
    definition = Definition(
        LINK,
        entity_set_name=EntitySet(f"{LINK}set"),
        primary_id_attribute=f"{LINK}id",
        change_tracking_enabled=not expected,
        is_intersect=True,
    )
    ends = {
        LogicalName(name): Definition(LogicalName(name), change_tracking_enabled=on) for name, on in tracked.items()
    }

    spec = build_spec(intersect(), definition, many_to_many=(OTHER_RELATIONSHIP, RELATIONSHIP), definitions=ends)

    assert spec.is_intersect
    assert spec.is_tracked is expected
    assert spec.lookups == (
        Lookup("vin_thingid", (THING,)),
        Lookup("vin_diseaseid", (LogicalName("vin_disease"),)),
    )


def test_an_intersect_table_of_unknown_ends_is_not_tracked() -> None:
    definition = Definition(LINK, primary_id_attribute=f"{LINK}id", change_tracking_enabled=True, is_intersect=True)
    spec = build_spec(intersect(), definition)

    assert (spec.entity_set, spec.is_tracked, spec.lookups) == (f"{LINK}set", False, ())


def test_the_set_says_the_type_where_the_names_differ() -> None:
    odd = EntityType("adminsettingsentity", None, is_abstract=False, key=("id",), properties=(("id", "Edm.Guid"),))
    csdl = Csdl(types={odd.name: odd}, sets={EntitySet("new_admin_settings_entities"): odd.name})

    spec = build_spec(csdl, define("new_admin_settings", "new_admin_settings_entities", "id"))

    assert (spec.logical_name, spec.key) == ("new_admin_settings", "id")


def test_a_table_of_448_columns_keeps_them_all_in_order() -> None:
    names = [f"vin_column{number}" for number in range(447)]
    spec = build_spec(model(*((name, "Edm.String") for name in names)), THING_DEFINITION)

    assert [column.name for column in spec.columns] == ["vin_thingid", *names]


def test_mixed_case_is_kept_as_it_is() -> None:
    spec = build_spec(
        model(("vin_LanguageLocaleName", "Edm.String"), ("_vin_Resource_value", "Edm.Guid")), THING_DEFINITION
    )

    assert [column.name for column in spec.columns[1:]] == ["vin_LanguageLocaleName", "_vin_Resource_value"]
    assert spec.lookups[0].type_column == "_vin_Resource_type"


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ([("vin_Name", "Edm.String"), ("vin_name", "Edm.String")], r"vin_thing: .*'vin_Name', 'vin_name'"),
        ([("vin_name", "Edm.String"), ("vin_name", "Edm.String")], r"vin_thing: .*'vin_name', 'vin_name'"),
        ([("_vin_who_value", "Edm.Guid"), ("_vin_who_type", "Edm.String")], r"vin_thing: .*_vin_who_type"),
        ([("vin-name", "Edm.String")], r"vin_thing: .*no identifiers.*vin-name"),
        ([('a"; drop table x', "Edm.String")], r"vin_thing: .*no identifiers"),
        ([("vin_näme", "Edm.String")], r"vin_thing: .*no identifiers"),
    ],
)
def test_names_that_a_database_cannot_keep_are_refused(properties: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        build_spec(model(*properties), THING_DEFINITION)


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        (define("vin_thing", "vin_things", "vin_otherid"), "vin_thing: PrimaryIdAttribute 'vin_otherid'"),
        (Definition(THING, entity_set_name=EntitySet("vin_things")), "vin_thing: .*names no PrimaryIdAttribute"),
        (define("vin_gone", "vin_gones", "vin_goneid"), "vin_gone: not declared"),
        (define("team", "", "ownerid"), "team: has no entity set"),
        (define("vin thing", "vin_things", "vin_thingid"), "no identifiers"),
        (define("vin_thing", "vin things", "vin_thingid"), "no identifiers"),
    ],
)
def test_a_definition_that_does_not_fit_is_refused(definition: Definition, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        build_spec(model(), definition)


@pytest.mark.parametrize(("key", "message"), [((), r"key \[\]"), (("a", "b"), "'a', 'b'")])
def test_a_declared_key_is_never_guessed(key: tuple[str, ...], message: str) -> None:
    odd = EntityType("odd", None, is_abstract=False, key=key)

    with pytest.raises(SchemaError, match=message):
        definition_from_csdl(Csdl(types={"odd": odd}, sets={}), LogicalName("odd"))


@pytest.mark.parametrize(
    ("own", "expected"),
    [((("systemuserid", "Edm.Guid"),), "systemuserid"), ((("subject", "Edm.String"),), "ownerid")],
)
def test_an_id_of_its_own_wins_over_an_inherited_key(own: tuple[tuple[str, str], ...], expected: str) -> None:
    """The same key as with definitions, so that rights given later change nothing."""
    principal = EntityType("principal", None, is_abstract=True, key=("ownerid",), properties=(("ownerid", "Edm.Guid"),))
    user = EntityType("systemuser", "principal", is_abstract=False, key=("ownerid",), properties=own)
    csdl = Csdl(types={"principal": principal, "systemuser": user}, sets={EntitySet("systemusers"): "systemuser"})

    assert definition_from_csdl(csdl, LogicalName("systemuser")).primary_id_attribute == expected


def test_a_table_unknown_to_the_model_is_refused() -> None:
    with pytest.raises(SchemaError, match="vin_gone: not declared"):
        definition_from_csdl(model(), LogicalName("vin_gone"))


def test_a_missing_base_is_an_error_because_its_columns_would_be_missed() -> None:
    orphan = EntityType(THING, "gone", is_abstract=False, properties=(("vin_thingid", "Edm.Guid"),))

    with pytest.raises(ProtocolViolation, match="'gone' is not declared"):
        build_spec(Csdl(types={THING: orphan}, sets={EntitySet("vin_things"): THING}), THING_DEFINITION)
