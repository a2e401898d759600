"""Option sets: real replies, and the odd shapes the vendor documents."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from igh_sync_core.errors import ProtocolViolation
from igh_sync_core.metadata import OptionSet, options_url, parse_options
from igh_sync_core.model import LogicalName, Option, OptionKind

CONTACT = LogicalName("contact")


def label(*texts: tuple[int, str | None], own: tuple[int, str] | None = None) -> dict[str, object]:
    localized = [{"Label": text, "LanguageCode": language, "IsManaged": True} for language, text in texts]
    mine = None if own is None else {"Label": own[1], "LanguageCode": own[0]}
    return {"LocalizedLabels": localized, "UserLocalizedLabel": mine}


def parse_one(attribute: dict[str, object], kind: OptionKind = OptionKind.PICKLIST) -> OptionSet:
    body = json.dumps({"value": [{"LogicalName": "field", **attribute}]}).encode()
    (found,) = parse_options(body, entity=CONTACT, kind=kind)
    return found


def texts(found: OptionSet) -> list[tuple[int, int, str]]:
    return [(option.code, option.language, option.label) for option in found.options]


def codes_of(found: OptionSet) -> tuple[int, ...]:
    return tuple(dict.fromkeys(option.code for option in found.options))


@pytest.fixture(scope="module", name="captures")
def captures_folder() -> Path:
    folder = os.environ.get("DATAVERSE_CAPTURES")
    if not folder:
        pytest.skip("DATAVERSE_CAPTURES names no folder")
    return Path(folder) / "options"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            OptionKind.PICKLIST,
            (
                "PicklistAttributeMetadata?$select=LogicalName"
                "&$expand=OptionSet($select=Options,IsGlobal,Name),GlobalOptionSet($select=Options,Name)"
            ),
        ),
        (
            OptionKind.MULTISELECT,
            (
                "MultiSelectPicklistAttributeMetadata?$select=LogicalName"
                "&$expand=OptionSet($select=Options),GlobalOptionSet($select=Options)"
            ),
        ),
        (OptionKind.STATE, "StateAttributeMetadata?$select=LogicalName&$expand=OptionSet($select=Options)"),
        (OptionKind.STATUS, "StatusAttributeMetadata?$select=LogicalName&$expand=OptionSet($select=Options)"),
        (
            OptionKind.BOOLEAN,
            "BooleanAttributeMetadata?$select=LogicalName&$expand=OptionSet($select=TrueOption,FalseOption)",
        ),
    ],
)
def test_addresses_are_exactly_those_of_the_vendor(kind: OptionKind, expected: str) -> None:
    prefix = "EntityDefinitions(LogicalName='contact')/Attributes/Microsoft.Dynamics.CRM."

    assert options_url(CONTACT, kind) == prefix + expected


def test_real_picklists_are_read(captures: Path) -> None:
    body = (captures / "amp_options-picklists.json").read_bytes()

    education, family, gender = parse_options(body, entity=CONTACT, kind=OptionKind.PICKLIST)

    assert (education.field, codes_of(education)) == ("educationcode", (1,))
    assert texts(family) == [(1, 1033, "Single"), (2, 1033, "Married"), (3, 1033, "Divorced"), (4, 1033, "Widowed")]
    assert gender.options[0] == Option(CONTACT, "gendercode", 1, 1033, "Male")


@pytest.mark.parametrize(
    ("file", "kind", "field", "codes"),
    [
        ("amp_options-states.json", OptionKind.STATE, "statecode", (0, 1)),
        ("amp_options-statuses.json", OptionKind.STATUS, "statuscode", (1, 2)),
    ],
)
def test_real_states_are_read(captures: Path, file: str, kind: OptionKind, field: str, codes: tuple[int, ...]) -> None:
    (found,) = parse_options((captures / file).read_bytes(), entity=CONTACT, kind=kind)

    assert (found.field, found.kind, codes_of(found)) == (field, kind, codes)
    assert [option.label for option in found.options] == ["Active", "Inactive"]


def test_every_language_of_every_option_is_kept() -> None:
    options = [{"Value": 7, "Label": label((1033, "Yes"), (1036, "Oui"), own=(1033, "Yes"))}]

    assert texts(parse_one({"OptionSet": {"Options": options}})) == [(7, 1033, "Yes"), (7, 1036, "Oui")]


def test_the_callers_own_label_counts_where_its_language_is_not_listed() -> None:
    options = [{"Value": 7, "Label": label((1036, "Oui"), own=(1033, "Yes"))}]

    assert texts(parse_one({"OptionSet": {"Options": options}})) == [(7, 1036, "Oui"), (7, 1033, "Yes")]


@pytest.mark.parametrize("empty", [None, label(), {"LocalizedLabels": None, "UserLocalizedLabel": None}])
def test_an_option_without_a_label_keeps_its_code(empty: dict[str, object] | None) -> None:
    found = parse_one({"OptionSet": {"Options": [{"Value": 9, "Label": empty}]}})

    assert texts(found) == [(9, 0, "")]


def test_a_null_text_in_a_known_language_is_empty() -> None:
    assert texts(parse_one({"OptionSet": {"Options": [{"Value": 9, "Label": label((1033, None))}]}})) == [(9, 1033, "")]


@pytest.mark.parametrize("local", [None, {"Options": None}, {"Options": []}])
def test_a_global_set_stands_in_for_a_missing_local_one(local: dict[str, object] | None) -> None:
    shared = {"Options": [{"Value": 1, "Label": label((1033, "One"))}], "Name": "vin_shared"}
    found = parse_one({"OptionSet": local, "GlobalOptionSet": shared}, OptionKind.MULTISELECT)

    assert texts(found) == [(1, 1033, "One")]


def test_a_local_set_wins_over_the_global_one() -> None:
    local, shared = ({"Options": [{"Value": code, "Label": label((1033, "x"))}]} for code in (1, 2))

    assert codes_of(parse_one({"OptionSet": local, "GlobalOptionSet": shared})) == (1,)


def test_a_column_without_any_set_is_still_named() -> None:
    assert parse_one({"OptionSet": None, "GlobalOptionSet": None}) == OptionSet(CONTACT, "field", OptionKind.PICKLIST)


def test_yes_and_no_have_their_two_codes() -> None:
    two = {
        "TrueOption": {"Value": 1, "Label": label((1033, "Do Not Allow"))},
        "FalseOption": {"Value": 0, "Label": label((1033, "Allow"))},
    }

    assert texts(parse_one({"OptionSet": two}, OptionKind.BOOLEAN)) == [(0, 1033, "Allow"), (1, 1033, "Do Not Allow")]


def test_a_code_that_is_listed_twice_counts_once() -> None:
    options = [{"Value": 1, "Label": label((1033, text))} for text in ("first", "second")]

    assert texts(parse_one({"OptionSet": {"Options": options}})) == [(1, 1033, "first")]


@pytest.mark.parametrize("option", [{"Label": None}, {"Value": None}, {"Value": "1"}, {"Value": 1.5}])
def test_an_option_without_a_whole_code_is_refused(option: dict[str, object]) -> None:
    with pytest.raises(ProtocolViolation, match="PicklistAttributeMetadata"):
        parse_one({"OptionSet": {"Options": [option]}})


FIRST_AT_ONCE = """
import importlib, sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from igh_sync_core.metadata import definitions, options

sys.setswitchinterval(1e-6)
choices = b'{"value": [{"LogicalName": "a", "OptionSet": {"Options": [{"Value": 1, "Label": null}]}}]}'
tables = b'{"value": [{"LogicalName": "a"}]}'
start = Barrier(6)

def first(_):
    start.wait()
    options.parse_options(choices, entity="contact", kind=options.OptionKind.PICKLIST)
    definitions.parse_definitions(tables)

with ThreadPoolExecutor(6) as pool:
    for _ in range(200):
        importlib.reload(options)
        importlib.reload(definitions)
        list(pool.map(first, range(6)))
"""


def test_replies_that_are_the_first_of_their_kind_may_be_decoded_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", FIRST_AT_ONCE], capture_output=True, text=True, check=False)  # noqa: S603 - ours

    assert done.returncode == 0, done.stderr
