"""The model organisation: sizes, sameness, references, and rows at scale."""

import json
from importlib.resources import files

import pytest

from igh_sync_core.sandbox import Change, Organisation, change_rows, health_organisation


def dangling(organisation: Organisation) -> list[tuple[str, str, object]]:
    """Lookups that lead nowhere."""
    found: list[tuple[str, str, object]] = []
    for name, table in organisation.tables.items():
        pointing = [column for column in table.shape.columns if column.targets]
        for key in organisation.keys(name):
            record = organisation.record(name, key)
            for column in pointing:
                value = record[column.name]
                tables = (organisation.tables[target].rows for target in column.targets)
                if value is not None and not any(rows.find(str(value)) is not None for rows in tables):
                    found.append((name, column.name, value))
    return found


@pytest.mark.parametrize("rows", [31, 60, 500, 30_000])
def test_rows_are_as_many_as_asked_with_one_in_each_table(rows: int) -> None:
    organisation = health_organisation(rows)

    counts = [organisation.count(name) for name, table in organisation.tables.items() if not table.shape.mirrors]
    assert sum(counts) == rows
    assert min(counts) >= 1


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="need at least"):
        health_organisation(10)


def test_seed_decides_everything() -> None:
    one, same, other = (health_organisation(300, seed=seed) for seed in (1, 1, 2))

    key = one.keys("vin_candidate")[3]
    assert one.record("vin_candidate", key) == same.record("vin_candidate", key)
    assert one.keys("vin_candidate") != other.keys("vin_candidate")


def test_every_entity_of_the_program_is_there() -> None:
    wanted = json.loads((files("igh_sync_core") / "entities.json").read_text())["entities"]
    tables = health_organisation(100).tables

    assert len(wanted) == 26
    assert all(tables[entity["name"]].entity_set == entity["api_name"] for entity in wanted)


@pytest.mark.parametrize("rows", [40, 3_000])
def test_no_reference_dangles_even_after_changes(rows: int) -> None:
    organisation = health_organisation(rows)
    assert dangling(organisation) == []

    done = change_rows(organisation, Change(changed=0.1, deleted=0.05, inserted=0.05))

    assert dangling(organisation) == []
    if rows > 1000:
        assert min(done["changed"], done["deleted"], done["inserted"]) > 0


def test_many_to_many_pairs_are_distinct_and_some_companies_unreferenced() -> None:
    organisation = health_organisation(20_000)
    rows = organisation.tables["vin_vin_candidate_account"].rows

    pairs = [(rows.value(row, "vin_candidateid"), rows.value(row, "accountid")) for row in rows.by_key()]

    assert len(set(pairs)) == len(pairs) > 500
    assert {account for _, account in pairs} < set(organisation.keys("account"))


def test_a_million_rows_keep_their_orders() -> None:
    organisation = health_organisation(1_000_000)
    rows = organisation.tables["contact"].rows
    changed = rows.key(77_000)
    organisation.update("contact", changed, {"fullname": "Changed", "modifiedon": "2024-09-09T09:09:09Z"})

    late = [(rows.modified(row), rows.key(row)) for row in rows.by_modified("2025-03-30T00:00:00Z", 1_743_292_800)]
    around = [rows.key(row) for row in rows.by_modified("2024-09-09T09:09:09Z", 1_725_872_949)]
    newest = [rows.version(row) for row in rows.by_version(organisation.version - 1)]

    assert late == sorted(late)
    assert late[0][0] >= "2025-03-30T00:00:00Z"
    assert around[0] == changed
    assert newest == [organisation.version]
    assert rows.find(rows.key(146_000)) == 146_000


def test_rows_change_and_come_back() -> None:
    organisation = health_organisation(100)
    key = organisation.keys("account")[0]
    before = organisation.record("account", key)

    organisation.update("account", key, {"name": "Other"})
    organisation.delete("account", key)
    assert key not in organisation.keys("account")
    with pytest.raises(KeyError):
        organisation.record("account", key)
    with pytest.raises(KeyError):
        organisation.update("account", key, {})
    organisation.restore("account", key)

    after = organisation.record("account", key)
    assert after["name"] == "Other"
    assert after["versionnumber"] > before["versionnumber"]
    with pytest.raises(ValueError, match="already"):
        organisation.insert("account", {"accountid": key})
    with pytest.raises(KeyError):
        organisation.update("account", key, {"no such column": 1})


def test_references_to_either_of_two_tables_find_theirs() -> None:
    organisation = health_organisation(100)
    candidate, contact = organisation.keys("vin_candidate")[0], organisation.keys("contact")[0]

    organisation.update("vin_candidate", candidate, {"_vin_sponsor_value": contact})

    pointer = organisation.tables["vin_candidate"].rows.take(candidate).values["_vin_sponsor_value"]
    assert pointer == ("contact", contact)
