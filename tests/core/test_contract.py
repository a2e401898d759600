"""The table contract: what other programs may rely on when they read the copy, as a specification, on both engines.

One copy is made and lived with: first read, then a change, a deletion, a return and a disappearance. Each test is one
sentence of the contract; it looks at the copy as any SQL reader does.
"""

# ruff: noqa: S608 - readers write plain SQL

import json
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest
from copies import IMPATIENT, Copy, entities
from sqlalchemy import inspect
from sqlalchemy.exc import IntegrityError

from igh_sync_core.sandbox import health_organisation
from igh_sync_core.sandbox.data.schema import CODED, Kind, Shape
from igh_sync_core.webapi.client import Client

PAIRS, WHOLE = "vin_vin_candidate_vin_regionset", "vin_clinicalusestatuses"
SELECTION = (
    "vin_candidate",
    "vin_disease",
    "vin_source",
    "vin_clinicalusestatus",
    "vin_vin_candidate_vin_region",
    "account",
    "systemuser",
)
START = datetime(2026, 1, 10, 12, 0, 0, tzinfo=UTC)
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
OURS = ["json_response", "sync_time", "valid_from", "valid_to", "closed_reason"]

SQLITE = {
    "Edm.String": "TEXT",
    "Edm.Guid": "TEXT",
    "Edm.Date": "TEXT",
    "Edm.DateTimeOffset": "TEXT",
    "mscrm.BooleanManagedProperty": "TEXT",
    "Edm.Int32": "INTEGER",
    "Edm.Int64": "INTEGER",
    "Edm.Boolean": "INTEGER",
    "Edm.Decimal": "REAL",
    "Edm.Double": "REAL",
    "Edm.Binary": "BLOB",
}
POSTGRES = {
    "Edm.String": "TEXT",
    "Edm.Guid": "UUID",
    "Edm.Date": "DATE",
    "Edm.DateTimeOffset": "TIMESTAMP",
    "mscrm.BooleanManagedProperty": "JSONB",
    "Edm.Int32": "INTEGER",
    "Edm.Int64": "BIGINT",
    "Edm.Boolean": "BOOLEAN",
    "Edm.Decimal": "NUMERIC",
    "Edm.Double": "DOUBLE PRECISION",
    "Edm.Binary": "BYTEA",
}


@dataclass(frozen=True)
class Keys:
    """Records and what became of them."""

    changed: str
    deleted: str
    returned: str
    vanished: str
    quiet: str


class Reader:
    """Looks at one copy by plain SQL."""

    def __init__(self, copy: Copy, keys: Keys) -> None:
        self.copy, self.keys = copy, keys
        self.organisation = copy.organisation
        self.is_postgres = copy.database.is_postgres

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with self.copy.database.connection() as conn:
            return [tuple(row) for row in conn.exec_driver_sql(query)]

    def columns(self, table: str) -> dict[str, dict[str, Any]]:
        with self.copy.database.connection() as conn:
            return {column["name"]: dict(column) for column in inspect(conn).get_columns(table)}

    def tables(self) -> set[str]:
        with self.copy.database.connection() as conn:
            return set(inspect(conn).get_table_names())

    def type_of(self, table: str, column: str) -> str:
        name = str(self.columns(table)[column]["type"]).partition("(")[0]
        return "TEXT" if name == "VARCHAR" else name

    def versions(self, key: str, *columns: str) -> list[tuple[Any, ...]]:
        shown = ", ".join(columns)
        return self.ask(f"SELECT {shown} FROM vin_diseases WHERE vin_diseaseid = '{key}' ORDER BY row_id")

    def shape(self, entity: str) -> Shape:
        return self.organisation.tables[entity].shape

    def shapes(self) -> list[Shape]:
        return [self.shape(entity) for entity in SELECTION]


def spelled(record: Any) -> str:
    return json.dumps(record, sort_keys=True)


def live(copy: Copy) -> Keys:
    """First read, then everything that can become of a record."""
    organisation = copy.organisation
    multis = [
        column.name for column in organisation.tables["vin_candidate"].shape.columns if column.kind is Kind.MULTISELECT
    ]
    for key, picks in zip(organisation.keys("vin_candidate"), (None, "1", "1,2"), strict=False):
        codes = [str(code) for code in organisation.tables["vin_candidate"].shape.by_name[multis[0]].options.options]
        chosen = None if picks is None else ",".join(codes[: len(picks.split(","))])
        organisation.update("vin_candidate", key, {multis[0]: chosen})
    copy.sync()
    changed, deleted, returned, quiet, *_ = organisation.keys("vin_disease")
    vanished = organisation.keys("vin_clinicalusestatus")[0]
    organisation.clock.advance(3600)
    organisation.update("vin_disease", changed, {"vin_name": "renamed"})
    for key in (deleted, returned):
        organisation.delete("vin_disease", key)
    organisation.delete("vin_clinicalusestatus", vanished)
    copy.sync()
    organisation.clock.advance(3600)
    organisation.restore("vin_disease", returned)
    copy.sync()
    return Keys(changed, deleted, returned, vanished, quiet)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A copy with a past, once per engine."""
    organisation = health_organisation(400)
    organisation.clock.set(START)
    if request.param == "sqlite":
        settings = {"sqlite_db_path": str(tmp_path_factory.mktemp("contract") / "bronze.db")}
    else:
        server, name = request.getfixturevalue("postgres_server"), f"contract_{uuid.uuid4().hex[:8]}"
        with psycopg.connect(server, autocommit=True) as conn:
            conn.execute(f'CREATE DATABASE "{name}"')
        settings = {"postgres_connection_string": server.replace("/postgres?", f"/{name}?")}
    copy = Copy(organisation, settings, entities(*SELECTION))
    yield Reader(copy, live(copy))
    if request.param == "postgresql":
        with psycopg.connect(server, autocommit=True) as conn:
            conn.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


class TestEntityTable:
    def test_is_named_by_the_entity_set(self, reader: Reader) -> None:
        assert {shape.entity_set for shape in reader.shapes()} <= reader.tables()

    def test_has_row_id_then_every_property_in_document_order_then_what_the_history_needs(self, reader: Reader) -> None:
        for shape in reader.shapes():
            names = list(reader.columns(shape.entity_set))
            properties = [column.name for column in shape.columns]

            assert names[: len(properties) + 1] == ["row_id", *properties]
            assert names[-len(OURS) :] == OURS

    def test_has_one_more_column_for_each_polymorphic_lookup_and_no_other(self, reader: Reader) -> None:
        for shape in reader.shapes():
            names = list(reader.columns(shape.entity_set))
            between = names[len(shape.columns) + 1 : -len(OURS)]

            wanted = [f"_{column.attribute}_type" for column in shape.columns if len(column.targets) > 1]
            assert sorted(between) == sorted(wanted)

    def test_lets_every_property_be_null_and_always_holds_the_record(self, reader: Reader) -> None:
        for shape in reader.shapes():
            columns = reader.columns(shape.entity_set)

            assert all(columns[column.name]["nullable"] for column in shape.columns)
            assert not columns["json_response"]["nullable"]
            assert not columns["sync_time"]["nullable"]

    def test_types_follow_from_metadata(self, reader: Reader) -> None:
        types = POSTGRES if reader.is_postgres else SQLITE
        for shape in reader.shapes():
            for column in shape.columns:
                assert reader.type_of(shape.entity_set, column.name) == types[column.edm], column.name

    def test_times_of_the_history_are_whole_seconds_of_utc(self, reader: Reader) -> None:
        for name in ("sync_time", "valid_from", "valid_to"):
            values = [value for (value,) in reader.ask(f"SELECT {name} FROM vin_diseases") if value is not None]

            assert values
            if reader.is_postgres:
                assert {value.microsecond for value in values} == {0}
            else:
                assert all(STAMP.fullmatch(value) for value in values)

    def test_keeps_each_record_exactly_as_received_annotations_included(self, reader: Reader) -> None:
        config = reader.copy.config
        transport = httpx.MockTransport(reader.copy.sandbox.handle)
        with Client(config, transport=transport, pace=IMPATIENT) as client:
            pages = client.channel("check").pages(f"{config.api_root}vin_diseases")
            sent = {bytes(raw).decode() for fetched in pages for raw in fetched.page.value}
        kept = [record for (record,) in reader.ask("SELECT json_response FROM vin_diseases WHERE valid_to IS NULL")]

        if reader.is_postgres:  # JSONB keeps the content, not the spelling
            assert sorted(map(spelled, kept)) == sorted(spelled(json.loads(text)) for text in sent)
        else:
            assert set(kept) == sent
        assert all("@OData.Community.Display.V1.FormattedValue" in text for text in sent)

    def test_a_multi_select_column_holds_the_code_of_a_single_choice_and_else_nothing(self, reader: Reader) -> None:
        field = next(one.name for one in reader.shape("vin_candidate").columns if one.kind is Kind.MULTISELECT)
        stored = dict(reader.ask(f"SELECT vin_candidateid, {field} FROM vin_candidates WHERE valid_to IS NULL"))
        lengths = set()
        for key, value in stored.items():
            chosen = str(reader.organisation.record("vin_candidate", str(key))[field] or "").split(",")
            lengths.add(len([code for code in chosen if code]))

            assert value == (chosen[0] if len(chosen) == 1 and chosen[0] else None)
        assert {0, 1, 2} <= lengths

    def test_the_companion_of_a_polymorphic_lookup_names_its_target(self, reader: Reader) -> None:
        found = reader.ask(
            "SELECT DISTINCT _ownerid_type FROM vin_candidates WHERE _ownerid_value IS NOT NULL ORDER BY 1"
        )
        empty = reader.ask("SELECT count(*) FROM accounts WHERE _ownerid_value IS NULL AND _ownerid_type IS NOT NULL")

        assert {kind for (kind,) in found} <= {"systemuser", "team"}
        assert found
        assert empty == [(0,)]


class TestHistory:
    def test_a_change_closes_the_version_as_updated_and_opens_one_where_it_ended(self, reader: Reader) -> None:
        first, second = reader.versions(reader.keys.changed, "vin_name", "valid_from", "valid_to", "closed_reason")

        assert first[3] == "updated"
        assert first[2] == second[1]
        assert (second[0], second[2], second[3]) == ("renamed", None, None)

    def test_a_tombstone_closes_as_deleted_and_adds_no_row(self, reader: Reader) -> None:
        [(end, reason)] = reader.versions(reader.keys.deleted, "valid_to", "closed_reason")

        assert (end is None, reason) == (False, "deleted")

    def test_what_a_complete_read_misses_is_closed_as_absent_and_adds_no_row(self, reader: Reader) -> None:
        rows = reader.ask(f"SELECT closed_reason FROM {WHOLE} WHERE vin_clinicalusestatusid = '{reader.keys.vanished}'")

        assert rows == [("absent",)]

    def test_a_record_that_comes_back_opens_a_new_version(self, reader: Reader) -> None:
        first, second = reader.versions(reader.keys.returned, "closed_reason", "valid_to", "valid_from")

        assert (first[0], second[0]) == ("deleted", None)
        assert second[2] >= first[1]

    def test_an_unchanged_record_has_one_version(self, reader: Reader) -> None:
        assert reader.versions(reader.keys.quiet, "valid_to") == [(None,)]

    def test_a_newer_version_has_the_larger_row_id(self, reader: Reader) -> None:
        rows = reader.ask("SELECT vin_diseaseid, valid_from FROM vin_diseases ORDER BY row_id")
        for key in {key for key, _ in rows}:
            starts = [start for other, start in rows if other == key]
            assert starts == sorted(starts)

    def test_row_ids_are_never_given_twice(self, reader: Reader) -> None:
        if reader.is_postgres:
            assert reader.columns("vin_diseases")["row_id"]["identity"]
        else:
            [(ddl,)] = reader.ask("SELECT sql FROM sqlite_master WHERE name = 'vin_diseases'")
            assert "AUTOINCREMENT" in ddl

    def test_valid_from_is_modifiedon(self, reader: Reader) -> None:
        assert reader.versions(reader.keys.quiet, "valid_from") == reader.versions(reader.keys.quiet, "modifiedon")

    def test_valid_from_is_the_sync_time_where_there_is_no_modifiedon(self, reader: Reader) -> None:
        assert reader.ask(f"SELECT count(*) FROM {PAIRS} WHERE valid_from <> sync_time") == [(0,)]
        assert reader.ask(f"SELECT count(*) FROM {PAIRS}") != [(0,)]

    def test_no_interval_is_empty_or_runs_backwards(self, reader: Reader) -> None:
        for shape in reader.shapes():
            found = reader.ask(f"SELECT count(*) FROM {shape.entity_set} WHERE valid_to <= valid_from")
            assert found == [(0,)]

    def test_the_database_itself_refuses_a_second_current_version(self, reader: Reader) -> None:
        names = [name for name in reader.columns("vin_diseases") if name != "row_id"]
        columns = ", ".join(names)
        insert = f"INSERT INTO vin_diseases ({columns}) SELECT {columns} FROM vin_diseases"

        with reader.copy.database.engine.connect() as conn, pytest.raises(IntegrityError):
            conn.exec_driver_sql(f"{insert} WHERE vin_diseaseid = '{reader.keys.quiet}'")


class TestChoices:
    def test_codes_of_a_field_have_a_table_of_code_label_and_first_seen(self, reader: Reader) -> None:
        assert list(reader.columns("_optionset_statecode")) == ["code", "label", "first_seen"]
        assert reader.type_of("_optionset_statecode", "code") == "INTEGER"

    def test_every_choice_has_one_and_no_number_or_money_has(self, reader: Reader) -> None:
        columns = [column for shape in reader.shapes() for column in shape.columns]
        choices = {f"_optionset_{column.name}" for column in columns if column.kind in CODED}

        stored = {name for name in reader.tables() if name.startswith("_optionset_")}
        assert stored == choices

    def test_it_holds_exactly_the_codes_that_occurred(self, reader: Reader) -> None:
        holding = [
            shape for shape in reader.shapes() if "statuscode" in shape.by_name and reader.columns(shape.entity_set)
        ]
        occurred = {
            code
            for shape in holding
            for (code,) in reader.ask(f"SELECT DISTINCT statuscode FROM {shape.entity_set}")
            if code is not None
        }

        assert {code for (code,) in reader.ask("SELECT code FROM _optionset_statuscode")} == occurred

    def test_all_options_of_each_entity_with_all_their_labels_are_in_one_table(self, reader: Reader) -> None:
        names = ["entity", "field", "code", "label", "language", "first_seen"]
        assert set(names) <= set(reader.columns("_optionset"))

        stored = set(reader.ask("SELECT entity, field, code, language, label FROM _optionset WHERE last_seen IS NULL"))
        told = {
            (shape.logical_name, column.name, code, language, label)
            for shape in reader.shapes()
            for column in shape.columns
            if column.kind in CODED and column.options
            for code, option in column.options.options.items()
            for language, label in option.labels.items()
        }
        assert stored == told

    def test_every_choice_of_a_multi_select_is_a_row_tied_to_the_version(self, reader: Reader) -> None:
        field = next(one.name for one in reader.shape("vin_candidate").columns if one.kind is Kind.MULTISELECT)
        junction = f"_junction_vin_candidates_{field}"
        assert list(reader.columns(junction)) == ["junction_id", "entity_id", "option_code", "valid_from", "valid_to"]

        rows = reader.ask(
            f"SELECT v.vin_candidateid, j.option_code FROM vin_candidates v JOIN {junction} j ON "
            "j.entity_id = v.vin_candidateid AND j.valid_from = v.valid_from WHERE v.valid_to IS NULL AND "
            "j.valid_to IS NULL"
        )
        chosen = {
            (key, int(code))
            for key in reader.organisation.keys("vin_candidate")
            for code in str(reader.organisation.record("vin_candidate", key)[field] or "").split(",")
            if code
        }
        assert {(str(key), code) for key, code in rows} == chosen


class TestMemory:
    def columns_begin(self, reader: Reader, table: str, names: Sequence[str]) -> bool:
        return list(reader.columns(table))[: len(names)] == list(names)

    def test_sync_state_tells_how_far_each_entity_has_come(self, reader: Reader) -> None:
        names = ("entity_name", "state", "last_sync_time", "last_timestamp", "records_count")
        assert self.columns_begin(reader, "_sync_state", names)

        rows = {row[0]: row[1:] for row in reader.ask("SELECT entity_name, state, records_count FROM _sync_state")}
        assert rows.keys() == {shape.entity_set for shape in reader.shapes()}
        for table, (state, records) in rows.items():
            assert state == "completed"
            assert [(records,)] == reader.ask(f"SELECT count(*) FROM {table} WHERE valid_to IS NULL"), table

    def test_sync_log_tells_what_each_run_did(self, reader: Reader) -> None:
        names = (
            "id",
            "entity_name",
            "start_time",
            "end_time",
            "records_added",
            "records_updated",
            "status",
            "error_message",
        )
        assert self.columns_begin(reader, "_sync_log", names)

        lines = reader.ask(
            "SELECT records_added, records_updated, status, error_message FROM _sync_log "
            "WHERE entity_name = 'vin_diseases' ORDER BY id"
        )
        first = reader.organisation.count("vin_disease") + 1
        assert lines == [(first, 0, "completed", None), (0, 1, "completed", None), (1, 0, "completed", None)]
