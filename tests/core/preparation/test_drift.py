"""What the schema check finds, rule by rule, on both engines."""

import json

import pytest
from shaping import Store, key, spec_of, text_column

from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.metadata.catalog import Catalog, Entry
from igh_sync_core.model import Column, Kind, LogicalName, Lookup
from igh_sync_core.preparation import drift
from igh_sync_core.preparation.drift import Severity, Verdict
from igh_sync_core.schema import shapes
from igh_sync_core.store.database import Database

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO
SAMPLE = LogicalName("sample")
DRIFTED = {
    "isactive": (Kind.INT32, Kind.BOOLEAN),
    "startdate": (Kind.DATETIME, Kind.DATE),
    "enddate": (Kind.STRING, Kind.DATETIME),
    "amount": (Kind.DECIMAL, Kind.DOUBLE),
    "owner": (Kind.GUID, Kind.STRING),
    "size": (Kind.DOUBLE, Kind.INT32),
    "picture": (Kind.BINARY, Kind.STRING),
}

UNKNOWN = {"sqlite": "", "postgresql": "point"}


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)


def described(verdict: Verdict) -> list[tuple[str, str]]:
    return [(finding.severity.value, finding.description) for finding in verdict.findings]


def test_an_empty_database_without_control_tables_can_be_judged(database: Database) -> None:
    store = Store.__new__(Store)
    store.database = database

    verdict = store.judge(spec_of())

    assert described(verdict) == [("info", "new table samples")]
    assert verdict.passed


def test_what_was_just_made_fits(store: Store) -> None:
    spec = spec_of(
        *(Column(f"c_{kind}", kind) for kind in Kind),
        text_column("short", 10),
        Column("_ownerid_value", Kind.GUID),
        lookups=[Lookup("_ownerid_value", (), is_polymorphic=True)],
    )
    store.become(spec)

    assert described(store.judge(spec)) == []


@pytest.mark.parametrize(("before", "after"), DRIFTED.values(), ids=list(DRIFTED))
def test_an_incompatible_type_is_an_error_today_and_tomorrow(store: Store, before: Kind, after: Kind) -> None:
    """SQLite keeps some of these pairs alike, and the metadata cache knows only the new one by then."""
    store.become(spec_of(Column("c", before)))
    for _run in range(2):
        verdict = store.judge(spec_of(Column("c", after)))
        store.become(spec_of(Column("c", after)))

        assert described(verdict) == [
            (
                "error",
                f"column c was {before} and is now {after}; rename the stored column, such as to c_old, or the table",
            )
        ]
        assert not verdict.passed
        assert verdict.broken == {SAMPLE}


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (Kind.INT32, Kind.INT64, ["column c was int32 and is now int64; it is widened"]),
        (Kind.INT16, Kind.INT32, ["column c was int16 and is now int32; it is widened"]),
        (Kind.INT32, Kind.DECIMAL, ["column c was int32 and is now decimal; it is widened"]),
        (Kind.INT64, Kind.INT32, []),
    ],
)
def test_a_wider_number_is_told_and_a_narrower_one_is_nothing(
    store: Store, before: Kind, after: Kind, found: list[str]
) -> None:
    store.become(spec_of(Column("c", before)))

    verdict = store.judge(spec_of(Column("c", after)))

    assert described(verdict) == [("info", text) for text in found]
    store.become(spec_of(Column("c", after)))
    assert described(store.judge(spec_of(Column("c", after)))) == []


@pytest.mark.filterwarnings("ignore:Did not recognize type")
def test_a_column_of_the_users_own_and_of_no_known_type_disturbs_nobody(store: Store) -> None:
    """SQLite allows a column without a type; PostgreSQL has types that SQLAlchemy does not know."""
    spec = spec_of(Column("c", Kind.INT32))
    store.become(spec)
    store.run(f'ALTER TABLE samples ADD COLUMN "mine" {UNKNOWN[store.database.kind]}')

    assert described(store.judge(spec)) == []
    grown = spec_of(Column("c", Kind.INT64), text_column("name"))
    assert store.become(grown).failed == ()
    assert store.write(grown, {"sampleid": key(1), "c": 2**40, "name": "x"}).added == 1
    assert store.rows("SELECT c, name, mine FROM samples") == [(2**40, "x", None)]


@pytest.mark.filterwarnings("ignore:Did not recognize type")
@pytest.mark.parametrize("kind", [Kind.INT32, Kind.STRING, Kind.DATETIME])
def test_a_column_of_no_known_type_that_metadata_wants_is_an_error_in_words(store: Store, kind: Kind) -> None:
    store.become(spec_of())
    store.run(f'ALTER TABLE samples ADD COLUMN "c" {UNKNOWN[store.database.kind]}')

    remedies = "rename the stored column, such as to c_old, or the table"
    assert described(store.judge(spec_of(Column("c", kind)))) == [
        ("error", f"column c was of a type unknown here and is now {kind}; {remedies}")
    ]


def test_seven_columns_at_once_are_seven_errors_of_one_entity(store: Store) -> None:
    store.become(spec_of(*(Column(name, before) for name, (before, _after) in DRIFTED.items())))

    verdict = store.judge(spec_of(*(Column(name, after) for name, (_before, after) in DRIFTED.items())))

    assert [finding.details["column"] for finding in verdict.errors] == list(DRIFTED)
    assert {(f.details["stored"], f.details["wanted"]) for f in verdict.errors} == set(DRIFTED.values())
    assert verdict.broken == {SAMPLE}


@pytest.mark.parametrize("remembers", [True, False], ids=["remembered", "from the index"])
def test_another_key_is_an_error(store: Store, *, remembers: bool) -> None:
    before = spec_of(Column("otherid", Kind.GUID))
    store.become(before)
    if not remembers:
        store.run("DELETE FROM _sync_shape")

    verdict = store.judge(type(before)(before.logical_name, before.entity_set, "otherid", before.columns))

    assert described(verdict) == [
        ("error", "the key was sampleid and is now otherid; start a new database, this one keeps the history")
    ]


def test_three_tables_and_36_columns_that_vanish_cost_nothing(store: Store) -> None:
    wide = spec_of(*(text_column(f"c{number:02}") for number in range(40)))
    store.become(wide, *(spec_of(entity=name) for name in ("one", "two", "three")))

    verdict = store.judge(spec_of(*wide.columns[1:5]), missing=("one", "two", "three"))

    assert verdict.passed
    assert verdict.counts() == {"error": 0, "warning": 3, "info": 1}
    assert {finding.entity for finding in verdict.findings if finding.severity is WARNING} == {"one", "two", "three"}
    assert verdict.findings[-1].details["columns"] == [f"c{number:02}" for number in range(4, 40)]


def test_new_columns_and_new_companions_are_told(store: Store) -> None:
    owner = Column("_ownerid_value", Kind.GUID)
    store.become(spec_of(owner, lookups=[Lookup("_ownerid_value", (LogicalName("systemuser"),))]))

    verdict = store.judge(
        spec_of(owner, text_column("note"), lookups=[Lookup("_ownerid_value", (), is_polymorphic=True)])
    )

    assert described(verdict) == [("info", "2 columns new: note, _ownerid_type; added, and filled in by a full read")]


def test_a_column_that_comes_back_is_told_and_must_be_of_its_old_type(store: Store) -> None:
    store.become(spec_of(Column("c", Kind.INT32)))
    store.become(spec_of())

    same, other = store.judge(spec_of(Column("c", Kind.INT32))), store.judge(spec_of(Column("c", Kind.BOOLEAN)))

    assert described(same) == [("info", "1 column back: c; filled in by a full read")]
    assert other.broken == {SAMPLE}


def test_text_lengths_grow_on_postgresql_and_never_shrink(store: Store) -> None:
    store.become(spec_of(text_column("c", 100)))

    longer, shorter = store.judge(spec_of(text_column("c", 200))), store.judge(spec_of(text_column("c", 50)))

    widened = ("info", "column c is widened from VARCHAR(100) to VARCHAR(200)")
    assert described(longer) == ([widened] if store.database.is_postgres else [])
    assert described(shorter) == []


def test_a_fault_of_metadata_is_an_error_and_an_unknown_entity_a_warning(store: Store) -> None:
    verdict = store.judge(faults={"odd": "odd: has no key"}, missing=["gone"])

    assert [(one.severity, one.entity) for one in verdict.findings] == [(ERROR, "odd"), (WARNING, "gone")]
    assert verdict.faults_of(LogicalName("odd")) == "odd: has no key"
    assert verdict.broken == {"odd"}


def test_columns_named_like_ours_break_their_entity_alone(store: Store) -> None:
    verdict = store.judge(spec_of(text_column("Valid_From")), spec_of(entity="other"))

    assert verdict.broken == {SAMPLE}
    assert "valid_from" in verdict.faults_of(SAMPLE)


def test_the_entity_set_in_metadata_wins_over_the_one_configured(store: Store) -> None:
    spec = spec_of(entity_set="samplecollection")
    with store.database.writing() as conn:
        stored = shapes.read(conn, [spec])
    verdict = drift.judge(stored, [EntityConfig("sample", "samples")], Catalog({SAMPLE: Entry(spec)}))

    assert [finding.severity for finding in verdict.findings] == [WARNING, INFO]
    assert verdict.findings[0].details == {"configured": "samples", "table": "samplecollection"}


@pytest.mark.parametrize(
    ("obstacle", "text"),
    [
        ("CREATE VIEW samples AS SELECT 1 AS one", "a view named samples is in the way"),
        ("CREATE TABLE samples (sampleid TEXT)", "another program made it"),
    ],
)
def test_what_somebody_else_put_there_is_not_written_to(store: Store, obstacle: str, text: str) -> None:
    store.run(obstacle)

    verdict = store.judge(spec_of())

    assert text in verdict.faults_of(SAMPLE)


def test_a_type_changed_by_hand_is_seen(store: Store) -> None:
    if not store.database.is_postgres:
        pytest.skip("SQLite changes no type")
    store.become(spec_of(Column("c", Kind.INT32)))
    store.run("DROP VIEW samples_current, samples_history")
    store.run("ALTER TABLE samples ALTER COLUMN c TYPE text")

    assert store.judge(spec_of(Column("c", Kind.INT32))).broken == {SAMPLE}


def test_names_that_differ_by_case_alone_are_one_column_in_sqlite(store: Store) -> None:
    store.become(spec_of(text_column("Name")))

    verdict = store.judge(spec_of(text_column("name")))
    store.become(spec_of(text_column("name")))

    assert verdict.passed
    assert any("new" in finding.description for finding in verdict.findings) == store.database.is_postgres


def test_the_verdict_reads_well_in_json_and_markdown(store: Store) -> None:
    store.become(spec_of(Column("c", Kind.INT32)))
    verdict = store.judge(spec_of(Column("c", Kind.BOOLEAN)), missing=["gone"])

    assert json.loads(json.dumps(verdict.as_dict()))["counts"] == {"error": 1, "warning": 1, "info": 0}
    assert verdict.as_markdown().splitlines()[0] == "# Schema check: failed"
    assert "| error | sample | column c was int32 and is now boolean" in verdict.as_markdown()
    assert "fit the metadata" in Verdict().as_markdown()
    told = Verdict((drift.Finding(ERROR, SAMPLE, "a|b\nc"),)).as_markdown()
    assert "| error | sample | a\\|b c |" in told
