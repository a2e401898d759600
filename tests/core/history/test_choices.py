"""Codes, labels and their dates, on both engines."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
from shaping import ENGLISH, FRENCH, MULTI, NOON, PICK, Store, key, spec_of, text_column
from sqlalchemy import inspect

from igh_sync_core.history import choices
from igh_sync_core.model import Column, Kind, LogicalName, Option, OptionKind, TableSpec
from igh_sync_core.store.database import Database
from igh_sync_core.store.dialect import given_instant

SAMPLE = LogicalName("sample")
FORMATTED = "@OData.Community.Display.V1.FormattedValue"
LATER = NOON + timedelta(hours=1)
GRADE, TAGS = Column("grade", Kind.INT32, option=PICK), Column("tags", Kind.STRING, option=MULTI)
SPEC = spec_of(text_column("name"), GRADE, TAGS)

Tell = Callable[..., None]


@pytest.fixture
def store(database: Database) -> Store:
    made = Store(database)
    made.become(SPEC)
    return made


@pytest.fixture
def tell(store: Store) -> Tell:
    """Metadata says: everything it knows of *entity*, in the order (field, code, label, language)."""

    def say(*options: tuple[object, ...], now: datetime = NOON, entity: str = "sample") -> None:
        name = LogicalName(entity)
        known = [Option(name, str(f), int(str(c)), int(str(lcid)), str(text)) for f, c, text, lcid in _whole(options)]
        with store.database.writing() as conn:
            choices.record(conn, [name], known, now=now, language=ENGLISH)

    return say


def _whole(options: tuple[tuple[object, ...], ...]) -> Iterator[tuple[object, ...]]:
    return ((*one, ENGLISH)[:4] for one in options)


def labels(store: Store) -> list[tuple[object, ...]]:
    """Every label by code, language and date: whether it holds, and its text."""
    query = "SELECT field, code, language, label, last_seen IS NULL FROM _optionset ORDER BY 1, 2, 3, first_seen"
    return [(*row[:-1], bool(row[-1])) for row in store.rows(query)]


def codes(store: Store, field: str = "grade") -> list[tuple[object, ...]]:
    return store.rows(f"SELECT code, label FROM _optionset_{field} ORDER BY code")  # noqa: S608 - a test's own names


# The codes that occur


@pytest.mark.parametrize(
    ("sent", "column", "picked"),
    [(None, None, []), ("7", "7", [7]), ("9,7,8", None, [7, 8, 9])],
    ids=["none", "one", "several"],
)
def test_a_multiselect_is_a_code_alone_and_every_choice_in_its_junction(
    store: Store, sent: str | None, column: str | None, picked: list[int]
) -> None:
    store.write(SPEC, {"sampleid": key(1), "tags": sent}, new=True)

    assert store.rows("SELECT tags FROM samples") == [(column,)]
    assert store.rows("SELECT option_code FROM _junction_samples_tags ORDER BY 1") == [(code,) for code in picked]
    assert [code for code, _label in codes(store, "tags")] == picked


def test_a_multiselect_that_is_cleared_closes_its_choices_with_the_version(store: Store) -> None:
    store.write(SPEC, {"sampleid": key(1), "tags": "7,8"})
    store.write(SPEC, {"sampleid": key(1), "tags": None}, now=LATER)

    held = store.rows("SELECT option_code, valid_to IS NULL FROM _junction_samples_tags ORDER BY 1")
    assert [(code, bool(is_open)) for code, is_open in held] == [(7, False), (8, False)]
    assert len(store.rows("SELECT 1 FROM samples")) == 2


def test_labels_may_hold_the_signs_that_lists_are_split_by(store: Store, tell: Tell) -> None:
    tell(("tags", 7, "One; or two"), ("tags", 8, "Three, four"))
    formatted = {f"tags{FORMATTED}": "One; or two; Three, four"}
    store.write(SPEC, {"sampleid": key(1), "tags": "7,8", **formatted})

    assert codes(store, "tags") == [(7, "One; or two"), (8, "Three, four")]


def test_a_code_without_a_label_shows_its_number_until_it_has_one(store: Store, tell: Tell) -> None:
    tell(("grade", 1, ""), ("grade", 2, "Good"))
    store.write(SPEC, *({"sampleid": key(code), "grade": code} for code in (1, 2, 3)))
    numbers = codes(store)

    tell(("grade", 1, "Bad"), ("grade", 2, "Good"), now=LATER)

    assert numbers == [(1, "1"), (2, "Good"), (3, "3")]
    assert codes(store) == [(1, "Bad"), (2, "Good"), (3, "3")]


def test_only_codes_that_occur_are_beside_the_rows_and_all_options_are_known(store: Store, tell: Tell) -> None:
    tell(("grade", 1, "Bad"), ("grade", 2, "Good"), ("grade", 2, "Bon", FRENCH))
    store.write(SPEC, {"sampleid": key(1), "grade": 2})

    assert codes(store) == [(2, "Good")]
    assert labels(store) == [
        ("grade", 1, ENGLISH, "Bad", True),
        ("grade", 2, ENGLISH, "Good", True),
        ("grade", 2, FRENCH, "Bon", True),
    ]


def test_numbers_and_money_are_never_option_sets(store: Store) -> None:
    spec = spec_of(Column("employees", Kind.INT32), Column("revenue", Kind.DECIMAL), entity="company")
    store.become(spec)
    formatted = {f"employees{FORMATTED}": "6,200", f"revenue{FORMATTED}": "$5,000.00"}
    store.write(spec, {"companyid": key(1), "employees": 6200, "revenue": 5000, **formatted})

    with store.database.writing() as conn:
        made = inspect(conn).get_table_names()
    assert {name for name in made if name.startswith("_optionset_")} == {"_optionset_grade", "_optionset_tags"}


def test_the_same_field_may_mean_different_things_in_two_entities(store: Store, tell: Tell) -> None:
    other = spec_of(GRADE, entity="other")
    store.become(SPEC, other)
    tell(("grade", 1, "Bad"))
    tell(("grade", 1, "Draft"), entity="other")
    store.write(SPEC, {"sampleid": key(1), "grade": 1})
    store.write(other, {"otherid": key(1), "grade": 1})

    tell(("grade", 1, "Sketch"), entity="other", now=LATER)

    assert codes(store) == [(1, "Bad")], "another entity's new word for the code is none of this one's"
    assert store.rows("SELECT grade_label FROM samples_current") == [("Bad",)]
    assert store.rows("SELECT grade_label FROM others_current") == [("Sketch",)]


# What becomes of options


def test_renaming_an_option_makes_no_version_and_keeps_the_old_label_dated(store: Store, tell: Tell) -> None:
    tell(("grade", 1, "Bad"), ("grade", 1, "Mal", FRENCH))
    store.write(SPEC, {"sampleid": key(1), "grade": 1, f"grade{FORMATTED}": "Bad"})

    tell(("grade", 1, "Poor"), ("grade", 1, "Mal", FRENCH), now=LATER)
    counts = store.write(SPEC, {"sampleid": key(1), "grade": 1, f"grade{FORMATTED}": "Poor"}, now=LATER)

    assert (counts.updated, counts.unchanged) == (0, 1)
    assert codes(store) == [(1, "Poor")]
    assert labels(store) == [
        ("grade", 1, ENGLISH, "Bad", False),
        ("grade", 1, ENGLISH, "Poor", True),
        ("grade", 1, FRENCH, "Mal", True),
    ]


def test_a_label_in_another_language_changes_nothing_beside_the_rows(store: Store, tell: Tell) -> None:
    tell(("grade", 1, "Bad"), ("grade", 1, "Mal", FRENCH))
    store.write(SPEC, {"sampleid": key(1), "grade": 1})

    tell(("grade", 1, "Bad"), ("grade", 1, "Mauvais", FRENCH), now=LATER)

    assert codes(store) == [(1, "Bad")]


def test_a_removed_option_is_dated_and_its_code_keeps_its_label(store: Store, tell: Tell) -> None:
    tell(("grade", 1, "Bad"), ("grade", 2, "Good"))
    store.write(SPEC, {"sampleid": key(1), "grade": 1})

    tell(("grade", 2, "Good"), now=LATER)

    assert labels(store) == [("grade", 1, ENGLISH, "Bad", False), ("grade", 2, ENGLISH, "Good", True)]
    assert codes(store) == [(1, "Bad")]


def test_a_label_that_comes_and_goes_within_a_second_leaves_no_empty_interval(store: Store, tell: Tell) -> None:
    tell(("grade", 1, "Bad"))
    tell(("grade", 1, "Typo"), now=LATER)
    tell(("grade", 1, "Bad"), now=LATER)

    assert [row[3:] for row in labels(store)] == [("Bad", False), ("Bad", True)]
    assert store.rows("SELECT count(*) FROM _optionset WHERE last_seen <= first_seen") == [(0,)]


def dates(store: Store) -> list[tuple[object, float, float | None]]:
    """Every label in the order of its dates, in seconds after noon."""
    seen = store.rows("SELECT label, first_seen, last_seen FROM _optionset ORDER BY first_seen")
    times = [(label, *map(given_instant, interval)) for label, *interval in seen]
    return [(label, *(time and (time - NOON).total_seconds() for time in interval)) for label, *interval in times]


def test_labels_follow_each_other_though_the_clock_of_the_server_steps_back(store: Store, tell: Tell) -> None:
    for label, seconds in (("A", 0), ("B", 100), ("C", 95), ("D", 0), ("E", 101)):
        tell(("grade", 7, label), now=NOON + timedelta(seconds=seconds))

    assert dates(store) == [("A", 0, 100), ("B", 100, 101), ("C", 101, 102), ("D", 102, 103), ("E", 103, None)]


def test_a_clock_that_comes_back_to_the_second_of_an_older_label_deletes_none(store: Store, tell: Tell) -> None:
    tell(("grade", 7, "A"))
    tell(now=NOON + timedelta(seconds=5))
    tell(("grade", 7, "B"), now=NOON)
    tell(now=NOON)

    assert dates(store) == [("A", 0, 5), ("B", 5, 6)]


def test_saying_the_same_again_writes_nothing(store: Store, tell: Tell) -> None:
    said = (("grade", 1, "Bad"), ("grade", 1, "Mal", FRENCH))
    tell(*said)
    before = store.rows("SELECT * FROM _optionset ORDER BY code, language")
    tell(*said, now=LATER)

    assert store.rows("SELECT * FROM _optionset ORDER BY code, language") == before


# Labels without metadata


def test_annotations_label_what_metadata_does_not(store: Store) -> None:
    store.write(
        SPEC, {"sampleid": key(1), "grade": 1, f"grade{FORMATTED}": "Bad", "tags": "7,8", f"tags{FORMATTED}": "A; B"}
    )

    assert (codes(store), codes(store, "tags")) == ([(1, "Bad")], [(7, "A"), (8, "B")])
    assert store.rows("SELECT grade_label, tags_label FROM samples_current") == [("Bad", "A; B")]


def test_annotations_that_cannot_be_told_apart_are_not_used(store: Store) -> None:
    store.write(SPEC, {"sampleid": key(1), "tags": "7,8", f"tags{FORMATTED}": "A; or so; B"})
    store.write(SPEC, {"sampleid": key(2), "tags": "9", f"tags{FORMATTED}": "C; alone"})

    assert codes(store, "tags") == [(7, "7"), (8, "8"), (9, "C; alone")]


def test_a_rename_seen_in_annotations_is_dated_too(store: Store) -> None:
    store.write(SPEC, {"sampleid": key(1), "grade": 1, f"grade{FORMATTED}": "Bad"})

    counts = store.write(SPEC, {"sampleid": key(1), "grade": 1, f"grade{FORMATTED}": "Poor"}, now=LATER)

    assert counts.updated == 0
    assert codes(store) == [(1, "Poor")]
    assert labels(store) == [("grade", 1, 0, "Bad", False), ("grade", 1, 0, "Poor", True)]


def test_metadata_that_becomes_readable_takes_over(store: Store, tell: Tell) -> None:
    store.write(SPEC, {"sampleid": key(1), "grade": 1, f"grade{FORMATTED}": "Bad (user's words)"})

    tell(("grade", 1, "Bad"), now=LATER)
    store.write(SPEC, {"sampleid": key(1), "grade": 1, f"grade{FORMATTED}": "Bad (user's words)"}, now=LATER)

    assert codes(store) == [(1, "Bad")]
    assert labels(store) == [("grade", 1, 0, "Bad (user's words)", False), ("grade", 1, ENGLISH, "Bad", True)]


def test_yes_and_no_are_codes_one_and_zero(store: Store) -> None:
    spec: TableSpec = spec_of(Column("flag", Kind.BOOLEAN, option=OptionKind.BOOLEAN), entity="other")
    store.become(SPEC, spec)
    store.write(spec, *({"otherid": key(n), "flag": bool(n), f"flag{FORMATTED}": ("Do", "Don't")[n]} for n in (0, 1)))

    assert codes(store, "flag") == [(0, "Do"), (1, "Don't")]
