"""Metadata is cheap: asked once, several questions at a time, and not at all until it moves; on both engines."""

from collections import Counter
from pathlib import Path

import pytest
from copies import Copy, at_noon, entities
from guards import Guard
from shaping import NOON

from igh_sync_core.metadata import catalog, discovery
from igh_sync_core.metadata.catalog import Catalog, Entry
from igh_sync_core.model import Column, EntitySet, Kind, LogicalName, OptionKind, TableSpec
from igh_sync_core.preparation.validation import version_of
from igh_sync_core.sandbox import Fault, Organisation, Sandbox
from igh_sync_core.schema.ddl import create_control_tables
from igh_sync_core.store.database import Database

NAMES = ("vin_candidate", "vin_disease", "systemuser")
DEFINITIONS = "^(EntityDefinitions|RelationshipDefinitions)"
AREAS = {
    "definitions": "^EntityDefinitions",
    "relationships": "^RelationshipDefinitions",
    "columns": r"^EntityDefinitions\(",
}


@pytest.fixture
def organisation() -> Organisation:
    return at_noon(300)


@pytest.fixture
def copy(organisation: Organisation, database_settings: dict[str, str]) -> Copy:
    return Copy(organisation, database_settings, entities(*NAMES))


def paths(copy: Copy) -> Counter[str]:
    return Counter(entry.path.rpartition("/api/data/v9.2/")[2].partition("(")[0] for entry in copy.asked)


# Once, and not until it moves


def test_the_document_is_read_once_and_again_only_when_the_version_moves(copy: Copy) -> None:
    asked = []
    for move in (None, None, "vin_disease"):
        if move:
            copy.organisation.rename_option(move, "statecode", 0, "Live")
        copy.sync()
        asked.append(paths(copy)["$metadata"])

    assert asked == [1, 0, 1]


def test_a_document_that_is_cut_on_its_way_is_asked_for_again(copy: Copy) -> None:
    copy.sandbox.faults.add(Fault(kind="cut", match="$metadata"))

    assert copy.sync().success
    assert paths(copy)["$metadata"] == 2


def test_a_run_without_news_asks_nothing_but_the_version_and_the_changes(copy: Copy) -> None:
    copy.sync()
    copy.sync()

    assert set(paths(copy)) == {"organizations", "vin_candidates", "vin_diseases", "systemusers"}


def test_another_entity_asks_anew(copy: Copy) -> None:
    copy.sync()
    copy.selection = entities(*NAMES, "vin_product")
    copy.sync()

    assert paths(copy)["$metadata"] == 1


def test_what_is_known_of_tables_left_out_for_a_while_stays_known(copy: Copy) -> None:
    asked = []
    for names in (NAMES, NAMES[:1], NAMES[1:], NAMES, ["vin_product"], NAMES, [*NAMES, "vin_product"], NAMES[:1]):
        copy.selection = entities(*names)
        assert copy.sync().success
        asked.append(sum(paths(copy)[path] for path in ("$metadata", *DEFINITIONS)))

    assert [count > 0 for count in asked] == [True, False, False, False, True, False, False, False]


def test_what_moved_while_a_table_was_left_out_is_learnt_when_it_is_back(copy: Copy) -> None:
    copy.sync()
    copy.organisation.add_column("vin_disease", "vin_weight", "Edm.Int32", fixed=3)
    copy.selection = entities("vin_candidate")
    copy.sync()
    copy.selection = entities(*NAMES)
    copy.sync()

    assert paths(copy)["$metadata"] == 1
    assert set(copy.open_rows("vin_diseases", "vin_weight")) == {(3,)}
    copy.sync()
    assert paths(copy)["$metadata"] == 0


def test_options_are_asked_in_five_requests_per_entity(copy: Copy) -> None:
    copy.selection = entities("vin_candidate")
    copy.sync()

    casts = [entry.path.rpartition(".")[2] for entry in copy.asked if "AttributeMetadata" in entry.path]
    assert {cast for cast in casts if cast in set(OptionKind)} == set(OptionKind)
    assert sum(cast in set(OptionKind) for cast in casts) == 5


def test_those_requests_are_under_way_at_once(copy: Copy) -> None:
    """As many as the server's hint allows wait for each other, so one after the other they would never end."""
    copy.selection = entities("vin_candidate")

    report = Guard(copy.sandbox, meet=4).run(copy)

    assert report.success


# What is kept


def test_what_is_kept_is_what_was_learnt_and_only_of_its_version(database: Database) -> None:
    create_control_tables(database)
    name = LogicalName("thing")
    spec = TableSpec(name, EntitySet("things"), "thingid", (Column("thingid", Kind.GUID),))
    learnt = Catalog({name: Entry(spec, has_options=True)}, notes=("a note",))
    with database.writing() as conn:
        catalog.keep(conn, learnt, "7")

        assert catalog.kept(conn, [name], "7") == learnt
        assert catalog.kept(conn, [name], "8") is None
        assert catalog.kept(conn, [name, LogicalName("other")], "7") is None
        assert catalog.kept(conn, [name], "") is None, "a server that tells no version is asked each time"


def test_an_entity_set_aside_has_no_table_until_the_next_check(database: Database) -> None:
    create_control_tables(database)
    name = LogicalName("thing")
    spec = TableSpec(name, EntitySet("things"), "thingid", (Column("thingid", Kind.GUID),))
    with database.writing() as conn:
        catalog.keep(conn, Catalog({name: Entry(spec)}), "7")
        catalog.set_aside(conn, {name: "its key changed"})
        [aside] = catalog.kept_entries(conn, [name])
        catalog.set_aside(conn, {})

        assert aside == Entry(None, "its key changed")
        assert catalog.kept_entries(conn, [name]) == [Entry(spec)]
        assert catalog.kept(conn, [name], "7") is not None


# Where definitions may not be read


def test_without_definitions_choices_come_from_types_and_annotations_and_the_report_says_so(copy: Copy) -> None:
    with_rights = Copy(copy.organisation, {"sqlite_db_path": "other.db"}, copy.selection)
    with_rights.sync()

    report = Guard(copy.sandbox, refused=DEFINITIONS).run(copy)

    assert report.success
    assert [note for note in report.notes if note.startswith("metadata of columns may not be read")]
    wanted = "SELECT code, label FROM _optionset_vin_producttype ORDER BY code"
    assert copy.rows_of(wanted) == with_rights.rows_of(wanted)
    multi = "SELECT code, label FROM _optionset_vin_agegroups ORDER BY code"
    assert copy.rows_of(multi) == with_rights.rows_of(multi)
    shown = "SELECT vin_agegroups, vin_agegroups_label FROM vin_candidates_current ORDER BY vin_candidateid"
    assert copy.rows_of(shown) == with_rights.rows_of(shown)


def test_without_definitions_no_number_becomes_a_choice(copy: Copy) -> None:
    numbers = {
        column.name
        for table in NAMES
        for column in copy.organisation.tables[table].shape.columns
        if column.kind.name in {"INTEGER", "DECIMAL", "MONEY", "DOUBLE", "BIGINT"}
    }

    Guard(copy.sandbox, refused=DEFINITIONS).run(copy)

    [(texts,)] = copy.rows_of(
        "SELECT count(*) FROM _optionset WHERE field IN ('versionnumber', 'importsequencenumber')"
    )
    fields = {field for (field,) in copy.rows_of("SELECT DISTINCT field FROM _optionset")}
    assert (texts, fields & numbers) == (0, set())
    assert numbers


def test_a_refused_right_is_asked_for_once(copy: Copy) -> None:
    Guard(copy.sandbox, refused=DEFINITIONS).run(copy)
    before = len(copy.sandbox.log)
    guard = Guard(copy.sandbox, refused=DEFINITIONS)
    report = guard.run(copy)

    documents = [entry for entry in copy.sandbox.log[before:] if entry.path.endswith("$metadata")]
    assert (report.success, documents) == (True, [])


def test_without_any_right_each_kind_is_asked_for_a_few_tables_only(organisation: Organisation) -> None:
    config = Copy(organisation, {"sqlite_db_path": "x.db"}, []).config
    names = [LogicalName(name) for name, table in organisation.tables.items() if table.entity_set]
    guard = Guard(Sandbox(organisation), refused=DEFINITIONS)
    with guard.connect(config) as client:
        discovery.fetch(client, names, with_lengths=True)

    assert guard.refusals < 2 * len(names), "some are under way by the time the first one is refused"


def test_one_tables_options_that_are_missing_hide_no_right_given_later(organisation: Organisation) -> None:
    config = Copy(organisation, {"sqlite_db_path": "x.db"}, []).config
    names = [LogicalName("vin_candidate"), LogicalName("vin_product")]
    missing = Guard(Sandbox(organisation), refused="vin_candidate'.*Attributes/", status=404)
    guard = Guard(missing, refused="vin_product'.*Attributes/")
    with guard.connect(config) as client:
        known = discovery.fetch(client, names, with_lengths=False)[0]

    assert ["vin_product" in address for address in known.refused] == [True]


def test_rights_given_later_are_used_and_make_no_versions(copy: Copy) -> None:
    """They do not move the metadata version, so each run looks, with one small request."""
    Guard(copy.sandbox, refused=DEFINITIONS).run(copy)
    versions = copy.rows_of("SELECT count(*) FROM vin_candidates")

    report = copy.sync()

    assert report.success
    assert report.total("updated") == 0
    assert copy.rows_of("SELECT count(*) FROM vin_candidates") == versions
    assert copy.rows_of("SELECT count(*) FROM _optionset WHERE language = 0 AND last_seen IS NULL") == [(0,)]
    assert copy.rows_of("SELECT count(*) FROM _sync_state WHERE fresh_columns <> ''") == [(0,)]


@pytest.mark.parametrize(("area", "path"), AREAS.items())
def test_a_right_given_later_is_used(organisation: Organisation, tmp_path: Path, area: str, path: str) -> None:
    """Some areas are readable, so that nothing else tells that more may be by now."""
    everything = entities(*NAMES, "vin_vin_candidate_account")
    copy = Copy(organisation, {"sqlite_db_path": str(tmp_path / "copy.db")}, everything)
    guard = Guard(copy.sandbox, refused=path)
    first = guard.run(copy)
    assert [note for note in first.notes if note.startswith(f"metadata of {area} may not be read")]
    before = len(copy.sandbox.log)
    assert guard.run(copy).notes == first.notes
    assert not [entry for entry in copy.sandbox.log[before:] if entry.path.endswith("$metadata")]

    copy.selection = entities(NAMES[0])  # what a run over some tables learns is nothing learnt of the others
    copy.sync()
    copy.selection = everything
    report = copy.sync()

    fresh = Copy(organisation, {"sqlite_db_path": str(tmp_path / "fresh.db")}, copy.selection)
    assert [one.strategy for one in report.entities] == [one.strategy for one in fresh.sync().entities]
    assert report.notes == ()
    learnt = "SELECT value FROM _sync_metadata WHERE name LIKE 'entity:%' ORDER BY name"
    assert copy.rows_of(learnt) == fresh.rows_of(learnt)
    copy.sync()
    assert not {name for name in paths(copy) if name.startswith(("EntityDef", "Relationship", "$meta"))}


def test_the_hint_file_names_choices_that_annotations_do_not_show(copy: Copy) -> None:
    organisation = copy.organisation
    organisation.add_column("vin_disease", "vin_rank", "Edm.Int32", fixed=3)
    hints = {"vin_disease": ["vin_rank", "vin_name", "nonsense"]}

    report = Guard(copy.sandbox, refused=DEFINITIONS).run(copy, optionsets=hints)

    assert copy.rows_of("SELECT code FROM _optionset_vin_rank") == [(3,)]
    assert "vin_disease: hinted columns that cannot be choices: nonsense, vin_name" in report.notes


# The version


@pytest.mark.parametrize(("hints", "is_same"), [({}, True), ({"a": ["b"]}, False)])
def test_hints_belong_to_what_knowledge_is_filed_under(hints: dict[str, list[str]], *, is_same: bool) -> None:
    assert (version_of("7", hints) == "7") is is_same
    assert version_of("", hints) == ""


def test_a_server_that_hides_its_organisation_is_asked_who_we_are(organisation: Organisation) -> None:
    sandbox = Sandbox(organisation)
    sandbox.deny("organization")
    config = Copy(organisation, {"sqlite_db_path": "x.db"}, []).config
    with Guard(sandbox).connect(config) as client:
        found = catalog.ask_organisation(client.channel("login"), config.api_root)

    assert (found.metadata_version, found.server_time, found.token_days) == ("", NOON, catalog.TOKEN_DAYS)


def test_the_probe_tells_whether_definitions_may_be_read(organisation: Organisation) -> None:
    sandbox = Sandbox(organisation)
    config = Copy(organisation, {"sqlite_db_path": "x.db"}, []).config
    names = [LogicalName("vin_disease")]
    with Guard(sandbox, refused=DEFINITIONS).connect(config) as client:
        refused = discovery.fetch(client, names, with_lengths=False)[0].refused
        answers = [discovery.is_readable(client, address) for address in refused]
    with Guard(sandbox).connect(config) as client:
        answers += [discovery.is_readable(client, address) for address in (*refused, "columns")]

    assert answers == [False] * 3 + [True] * 4
    assert all("vin_disease" in address for address in refused), "nothing is asked for that is long"
