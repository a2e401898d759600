"""The CSDL parser, against a real organisation's document and against hostile or broken ones."""

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igh_sync_core.errors import ProtocolViolation, SourceUnavailable
from igh_sync_core.metadata import Csdl, Navigation, parse_csdl
from igh_sync_core.model import EntitySet

HEAD = (
    '<?xml version="1.0" encoding="utf-8"?>'
    '<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>'
    '<Schema Namespace="Microsoft.Dynamics.CRM" Alias="mscrm" xmlns="http://docs.oasis-open.org/odata/ns/edm">'
)
TAIL = "</Schema></edmx:DataServices></edmx:Edmx>"
SMALL = (
    HEAD
    + (
        '<EntityType Name="crmbaseentity" Abstract="true"/>'
        '<EntityType Name="principal" BaseType="mscrm.crmbaseentity" Abstract="true">'
        '<Key><PropertyRef Name="ownerid"/></Key><Property Name="ownerid" Type="Edm.Guid"/></EntityType>'
        '<ComplexType Name="Label"><Property Name="Text" Type="Edm.String"/>'
        '<NavigationProperty Name="own" Type="mscrm.team"><ReferentialConstraint Property="a" ReferencedProperty="b"/>'
        "</NavigationProperty></ComplexType>"
        '<EntityType Name="team" BaseType="mscrm.principal"><Key><PropertyRef Name="ownerid"/></Key>'
        '<Property Name="näme" Type="Edm.String" Unicode="false">'
        '<Annotation Term="x"><Record><PropertyValue Property="Supported" Bool="true"/></Record></Annotation>'
        "</Property>"
        '<NavigationProperty Name="createdby" Type="mscrm.principal" Nullable="false">'
        '<ReferentialConstraint Property="_createdby_value" ReferencedProperty="ownerid"/></NavigationProperty>'
        '<NavigationProperty Name="team_tasks" Type="Collection(mscrm.task)" Partner="owningteam"/></EntityType>'
        '<EntityContainer Name="System"><EntitySet Name="teams" EntityType="Microsoft.Dynamics.CRM.team">'
        '<NavigationPropertyBinding Path="createdby" Target="owners"/></EntitySet></EntityContainer>'
    )
    + TAIL
)


@pytest.fixture(scope="module", name="captured")
def captured_csdl() -> bytes:
    folder = os.environ.get("DATAVERSE_CAPTURES")
    if not folder:
        pytest.skip("DATAVERSE_CAPTURES names no folder")
    return (Path(folder) / "csdl" / "online_crm4_v9.1_2020-09.xml").read_bytes()


@pytest.fixture(scope="module", name="organisation")
def parsed_organisation(captured: bytes) -> Csdl:
    return parse_csdl([captured])


def test_every_declaration_of_a_real_organisation_is_found(organisation: Csdl) -> None:
    types = organisation.types.values()

    assert len(types) == 300
    assert sum(len(one.properties) for one in types) == 7071
    assert sum(len(one.navigations) for one in types) == 4914
    assert len(organisation.sets) == 269


def test_no_type_of_a_real_organisation_repeats_an_inherited_property(organisation: Csdl) -> None:
    for type_name in organisation.types:
        names = [name for name, _ in organisation.all_properties(type_name)]

        assert len(names) == len(set(names)), type_name


def test_inherited_members_come_first_in_document_order(organisation: Csdl) -> None:
    inherited = organisation.types["activitypointer"].properties
    own = organisation.types["task"].properties

    assert len(inherited) + len(own) == 60
    assert organisation.all_properties("task") == inherited + own
    assert ("activityid", "Edm.Guid") in inherited
    assert organisation.all_navigations("task")[0] == organisation.types["activitypointer"].navigations[0]


def test_keys_and_sets_are_read_and_never_derived(organisation: Csdl) -> None:
    assert organisation.key("systemuser") == ("ownerid",)
    assert organisation.key("task") == ("activityid",)
    assert organisation.key("crmbaseentity") == ()
    assert organisation.key("PicklistAttributeMetadata") == ("MetadataId",)
    assert organisation.sets_by_type["usersettings"] == "usersettingscollection"
    assert organisation.sets[EntitySet("activitypointers")] == "activitypointer"


def test_an_abstract_type_means_its_concrete_ones_and_itself_only_with_a_set(organisation: Csdl) -> None:
    assert set(organisation.concrete("principal")) == {"systemuser", "team"}
    assert {"activitypointer", "task", "email"} <= set(organisation.concrete("activitypointer"))
    assert list(organisation.concrete("account")) == ["account"]
    assert list(organisation.concrete("nowhere_declared")) == ["nowhere_declared"]


def test_a_real_document_parses_the_same_in_small_chunks(captured: bytes, organisation: Csdl) -> None:
    chunks = (captured[start : start + 4093] for start in range(0, len(captured), 4093))

    assert parse_csdl(chunks) == organisation


@pytest.mark.parametrize("name", ["small_frodata_dynamics.xml", "small_v9.2_amplabs_a.xml"])
def test_trimmed_real_documents_parse(captured: bytes, name: str) -> None:
    assert captured
    document = (Path(os.environ["DATAVERSE_CAPTURES"]) / "csdl" / name).read_bytes()

    assert len(parse_csdl([document]).types) == 5


def test_members_of_complex_types_and_annotations_are_passed_over() -> None:
    team = parse_csdl([SMALL.encode()]).types["team"]

    assert team.properties == (("näme", "Edm.String"),)
    assert team.navigations == (
        Navigation("createdby", "principal", is_collection=False, column="_createdby_value", referenced="ownerid"),
        Navigation("team_tasks", "task", is_collection=True),
    )


def test_elements_of_other_vocabularies_are_passed_over() -> None:
    foreign = '<EntityType Name="a"><x:Property xmlns:x="urn:other" Name="b" Type="Edm.String"/></EntityType>'

    assert parse_csdl([(HEAD + foreign + TAIL).encode()]).types["a"].properties == ()


def test_the_first_of_several_sets_stands_for_the_type() -> None:
    sets = "".join(f'<EntitySet Name="{name}" EntityType="mscrm.a"/>' for name in ("first", "second"))
    container = f'<EntityContainer Name="System">{sets}</EntityContainer>'
    csdl = parse_csdl([(HEAD + '<EntityType Name="a"/>' + container + TAIL).encode()])

    assert csdl.sets_by_type == {"a": "first"}
    assert csdl.sets == {"first": "a", "second": "a"}


def test_the_nearest_declared_key_wins() -> None:
    types = "".join(
        f'<EntityType Name="{name}"{base}>{key}</EntityType>'
        for name, base, key in (
            ("a", "", '<Key><PropertyRef Name="aid"/></Key>'),
            ("b", ' BaseType="mscrm.a"', '<Key><PropertyRef Name="bid"/></Key>'),
            ("c", ' BaseType="mscrm.b"', ""),
        )
    )

    assert parse_csdl([(HEAD + types + TAIL).encode()]).key("c") == ("bid",)


@given(cuts=st.lists(st.integers(0, len(SMALL.encode())), max_size=6))
def test_the_cut_of_the_chunks_does_not_matter(cuts: list[int]) -> None:
    document = SMALL.encode()
    edges = [0, *sorted(cuts), len(document)]
    chunks = [document[start:end] for start, end in pairwise(edges)]

    assert parse_csdl(chunks) == parse_csdl([document])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_welcome(encoding: str) -> None:
    text = SMALL.replace('encoding="utf-8"', f'encoding="{encoding.removesuffix("-sig")}"')

    assert parse_csdl([text.encode(encoding)]) == parse_csdl([SMALL.encode()])


@given(length=st.integers(1, len(SMALL.encode()) - 1))
def test_a_document_cut_anywhere_is_refused_as_cut_short(length: int) -> None:
    with pytest.raises(SourceUnavailable, match="cut short"):
        parse_csdl([SMALL.encode()[:length]])


def test_an_empty_document_is_refused_as_cut_short() -> None:
    with pytest.raises(SourceUnavailable, match="cut short"):
        parse_csdl([])


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE Edmx [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><Edmx>&c;</Edmx>'
)
EXTERNAL = '<?xml version="1.0"?><!DOCTYPE Edmx [<!ENTITY f SYSTEM "file:///etc/hostname">]><Edmx>&f;</Edmx>'
OUTER_DTD = '<?xml version="1.0"?><!DOCTYPE Edmx SYSTEM "https://elsewhere.example/a.dtd"><Edmx/>'


@pytest.mark.parametrize("document", [LAUGHS, EXTERNAL, OUTER_DTD])
def test_dtds_and_entities_are_refused(document: str) -> None:
    with pytest.raises(ProtocolViolation, match="declares a DTD"):
        parse_csdl([document.encode()])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("<!DOCTYPE html><html><body>Sign in</body></html>", "is an HTML page"),
        ("<html><body>Sign in<br></body></html>", "root element is 'html'"),
        ('{"error":{"code":"","message":"no"}}', "not well-formed"),
        ("HTTP Error 401 - Unauthorized: Access is denied", "not well-formed"),
        ("<Edmx/>", "root element is 'Edmx', not OData's"),
        (HEAD + TAIL, "no entity type"),
        (HEAD + "<EntityType/>" + TAIL, "lacks its 'Name'"),
        (HEAD + '<EntityType Name="a"><Property Name="b"/></EntityType>' + TAIL, "lacks its 'Type'"),
        (HEAD + '<EntityType Name="a"/><EntityType Name="a"/>' + TAIL, "'a' twice"),
        (HEAD + "&undeclared;" + TAIL, "not well-formed"),
    ],
)
def test_what_is_no_csdl_is_refused_with_a_clear_text(document: str, message: str) -> None:
    with pytest.raises(ProtocolViolation, match=message):
        parse_csdl([document.encode()])


@pytest.mark.parametrize(
    ("bases", "message"),
    [(("mscrm.b", "mscrm.a"), "inherits from itself"), (("mscrm.gone", "mscrm.a"), "'gone' is not declared")],
)
def test_bases_that_lead_nowhere_are_refused_when_walked(bases: tuple[str, str], message: str) -> None:
    types = f'<EntityType Name="a" BaseType="{bases[0]}"/><EntityType Name="b" BaseType="{bases[1]}"/>'
    csdl = parse_csdl([(HEAD + types + TAIL).encode()])

    with pytest.raises(ProtocolViolation, match=message):
        csdl.all_properties("b")


def test_an_error_of_the_sender_passes_through_unchanged() -> None:
    def broken() -> Iterator[bytes]:
        yield HEAD.encode()
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        parse_csdl(broken())


def _large(total_bytes: int) -> Iterator[bytes]:
    """A document mostly of what is not kept: functions, annotations, property bindings, as real ones are."""
    yield HEAD.encode()
    members = "".join(f'<Property Name="new_column{n}" Type="Edm.String" Unicode="false"/>' for n in range(40))
    function = '<Function Name="f"><Parameter Name="p" Type="Edm.String" Nullable="false"/></Function>' * 100
    sent = 0
    for number in range(total_bytes):
        block = f'<EntityType Name="new_table{number}">{members}</EntityType>{function}'.encode()
        yield block
        sent += len(block)
        if sent >= total_bytes:
            break
    yield TAIL.encode()


def tell_memory() -> None:
    """Print how many types a large document has, and the bytes that are kept of it and at most taken."""
    tracemalloc.start()
    csdl = parse_csdl(_large(20_000_000))
    print(len(csdl.types), *tracemalloc.get_traced_memory())  # noqa: T201 - to the process that asked


def test_a_document_of_20_mb_is_read_in_a_fraction_of_its_size() -> None:
    # In a process of its own: threads that earlier tests left behind allocate, too.
    command = [sys.executable, "-c", f"from {Path(__file__).stem} import tell_memory; tell_memory()"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)  # noqa: S603 - ours
    types, kept_bytes, peak_bytes = map(int, done.stdout.split())

    assert types > 1500
    assert kept_bytes < 8_000_000
    assert peak_bytes - kept_bytes < 1_000_000
