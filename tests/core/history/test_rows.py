"""Records → rows: types from metadata, exact values, and errors that name without showing."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from msgspec import Raw

from igh_sync_core.errors import DataError
from igh_sync_core.history.batch import starts_of
from igh_sync_core.history.rows import Engine, RowCodec
from igh_sync_core.model import Column, EntitySet, Kind, LogicalName, Lookup, OptionKind, TableSpec
from igh_sync_core.store.dialect import given_instant

KEY = "aaaaaaaa-0000-0000-0000-000000000001"
KINDS = {
    "text": Kind.STRING,
    "flag": Kind.BOOLEAN,
    "whole": Kind.INT32,
    "long": Kind.INT64,
    "exact": Kind.DECIMAL,
    "real": Kind.DOUBLE,
    "day": Kind.DATE,
    "modifiedon": Kind.DATETIME,
    "blob": Kind.BINARY,
    "managed": Kind.COMPLEX,
    "_owner_value": Kind.GUID,
}
SPEC = TableSpec(
    LogicalName("sample"),
    EntitySet("samples"),
    "sampleid",
    (
        Column("sampleid", Kind.GUID),
        *(Column(name, kind) for name, kind in KINDS.items()),
        Column("mood", Kind.INT32, option=OptionKind.PICKLIST),
        Column("tags", Kind.STRING, option=OptionKind.MULTISELECT),
    ),
    (Lookup("_owner_value", (LogicalName("systemuser"), LogicalName("team")), is_polymorphic=True),),
)
SECRET = "what-a-patient-said"
ENGINES: tuple[Engine, ...] = ("sqlite", "postgresql")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.param
    return found


def decode(engine: Engine, *texts: str) -> Any:
    return RowCodec(SPEC, engine).decode([Raw(text.encode()) for text in texts])


def sent(**values: Any) -> str:
    return json.dumps({"sampleid": KEY, **values})


RECEIVED = (
    f'{{"sampleid": "{KEY.upper()}", "text": "a\\u0301", "flag": true, "whole": 7, "long": 9007199254740993, '
    '"exact": 20000.0000000001, "real": 0.1, "day": "2024-03-15", "modifiedon": "2024-05-01T12:00:00Z", '
    '"blob": "AQI=", "managed": {"Value": true}, "mood": 3, "tags": "2,3", '
    '"_owner_value@Microsoft.Dynamics.CRM.lookuplogicalname": "team", '
    f'"_owner_value": "{KEY.upper()}", "unknown": [1]}}'
)


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        ("sqlite", {"exact": 20000.0000000001, "day": "2024-03-15", "modifiedon": "2024-05-01T12:00:00Z"}),
        (
            "postgresql",
            {
                "exact": Decimal("20000.0000000001"),
                "day": date(2024, 3, 15),
                "modifiedon": datetime(2024, 5, 1, 12, tzinfo=UTC),
            },
        ),
    ],
)
def test_every_kind_becomes_the_engines_own_value(engine: Engine, expected: dict[str, Any]) -> None:
    batch = decode(engine, RECEIVED)

    row = {name: batch.column(name)[0] for name in batch.names}
    assert (
        row
        == {
            "sampleid": KEY,
            "text": "a\u0301",
            "flag": True,
            "whole": 7,
            "long": 9_007_199_254_740_993,
            "real": 0.1,
            "blob": b"\x01\x02",
            "managed": '{"Value": true}',
            "_owner_value": KEY,
            "_owner_type": "team",
            "mood": 3,
            "tags": None,
            "json_response": Raw(RECEIVED.encode()),
        }
        | expected
    )


def test_null_and_absent_are_both_null(engine: Engine) -> None:
    batch = decode(engine, sent(**dict.fromkeys([*KINDS, "mood", "tags"])), json.dumps({"sampleid": KEY[:-1] + "2"}))

    for name in [*KINDS, "mood", "tags"]:
        assert list(batch.column(name)) == [None, None], name


def test_choices_are_listed_whether_one_or_many_and_the_column_keeps_a_single_one(engine: Engine) -> None:
    batch = decode(
        engine, *(sent(sampleid=f"{KEY[:-1]}{at}", tags=tags) for at, tags in enumerate(["2", "2,3", None, ""]))
    )

    assert list(batch.column("tags")) == ["2", None, None, None]
    assert [(str(key)[-1], code) for key, _, code in batch.picks()] == [("0", 2), ("1", 2), ("1", 3)]
    assert batch.codes == {"mood": set(), "tags": {2, 3}}


def test_an_option_that_is_listed_twice_is_chosen_once(engine: Engine) -> None:
    batch = decode(engine, sent(tags="2,2"), sent(sampleid=KEY[:-1] + "2", tags="3,2,3"))

    assert list(batch.column("tags")) == ["2", None]
    assert [code for _key, _field, code in batch.picks()] == [2, 3, 2]
    assert [code for _key, code, _start in batch.picks_from("tags", [None, None])] == [2, 3, 2]
    assert batch.codes["tags"] == {2, 3}


def test_times_without_a_zone_are_utc_whatever_stands_beside_them(engine: Engine) -> None:
    times = ["2024-05-01T12:00:00"] * 5 + ["2024-05-01T12:00:00+02:00"]  # as long as six that end in "Z"
    batch = decode(engine, *(sent(sampleid=f"{KEY[:-1]}{at}", modifiedon=time) for at, time in enumerate(times)))

    assert given_instant(starts_of(batch.column("modifiedon"), engine)[0]) == datetime(2024, 5, 1, 12, tzinfo=UTC)
    assert batch.latest == datetime(2024, 5, 1, 12, tzinfo=UTC)
    if engine == "sqlite":
        assert list(batch.column("modifiedon")) == ["2024-05-01T12:00:00Z"] * 5 + ["2024-05-01T10:00:00Z"]


def test_of_equal_keys_the_last_stays(engine: Engine) -> None:
    batch = decode(engine, sent(text="one"), sent(text="two"))

    assert (list(batch.keys), list(batch.column("text"))) == ([KEY], ["two"])


def test_the_latest_modifiedon_of_a_page_is_known(engine: Engine) -> None:
    batch = decode(
        engine,
        sent(modifiedon="2024-05-01T12:00:00Z"),
        sent(sampleid=KEY[:-1] + "2", modifiedon="2024-05-01T14:00:00+01:00"),
        sent(sampleid=KEY[:-1] + "3", modifiedon=None),
    )

    assert batch.latest == datetime(2024, 5, 1, 13, tzinfo=UTC)


def test_times_before_all_of_dataverse_are_kept_in_the_column_and_moved_in_the_history(engine: Engine) -> None:
    batch = decode(engine, sent(modifiedon="0001-01-01T00:00:00Z"))

    assert str(batch.column("modifiedon")[0]).startswith("0001-01-01")
    assert str(starts_of(batch.column("modifiedon"), engine)[0]).startswith("1753-01-01")
    assert batch.latest is None


def test_fractions_of_a_second_are_kept_in_the_column_and_cut_for_the_history(engine: Engine) -> None:
    column = decode(engine, sent(modifiedon="2024-05-01T12:00:00.987Z")).column("modifiedon")

    assert "987" in str(column[0])
    assert "987" not in str(starts_of(column, engine)[0])


def test_a_nul_never_reaches_postgresql() -> None:
    batch = decode("postgresql", sent(text="a\0b", unknown="\\u0000"))

    assert batch.column("text") == ["ab"]
    assert json.loads(bytes(batch.column("json_response")[0])) == {"sampleid": KEY, "text": "ab", "unknown": "\\u0000"}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("text", 5),
        ("flag", SECRET),
        ("whole", 2**31),
        ("long", 2**63),
        ("exact", SECRET),
        ("real", SECRET),
        ("day", SECRET),
        ("modifiedon", SECRET),
        ("blob", "*" * 5),
        ("_owner_value", SECRET),
        ("mood", SECRET),
        ("tags", f"1,{SECRET}"),
        ("tags", "1,99999999999"),
        ("tags", "1,,2"),
        ("tags", "1_0"),
        ("tags", "\u0663"),
        ("tags", "1, 2,"),
        ("exact", "NaN"),
        ("exact", "-Infinity"),
        ("modifiedon", "9999-12-31T23:59:59-05:00"),
    ],
)
def test_a_value_its_type_cannot_hold_is_named_by_record_and_column_and_not_shown(
    engine: Engine, column: str, value: Any
) -> None:
    with pytest.raises(DataError) as refused:
        decode(engine, sent(sampleid=KEY[:-1] + "2"), sent(**{column: value}))

    assert str(refused.value).startswith(f"sample {KEY}: ")
    assert f"`{column}`" in str(refused.value)
    assert str(value) not in str(refused.value)


@pytest.mark.parametrize("text", ['{"text": "no key"}', '{"sampleid": null}'])
def test_a_record_without_a_key_is_an_error(engine: Engine, text: str) -> None:
    with pytest.raises(DataError, match="sample: a record has no sampleid"):
        decode(engine, text)


def test_malformed_text_names_the_record(engine: Engine) -> None:
    """Half a surrogate pair, as a text cut in the middle of an emoji holds."""
    with pytest.raises(DataError, match=f"sample {KEY}: "):
        decode(engine, sent(text="\ud83d"))


@pytest.mark.parametrize("member", ["text", "unknown"])
def test_what_is_not_utf_8_names_the_record(engine: Engine, member: str) -> None:
    record = sent(**{member: "Zurich"}).replace("u", "\u00fc").encode("latin-1")

    with pytest.raises(DataError, match=f"sample {KEY}: it is not UTF-8"):
        RowCodec(SPEC, engine).decode([Raw(sent(sampleid=KEY[:-1] + "2").encode()), Raw(record)])


@pytest.mark.parametrize("text", ["[1]", "5"])
def test_what_is_no_record_is_an_error(engine: Engine, text: str) -> None:
    with pytest.raises(DataError, match="no object"):
        decode(engine, text)
