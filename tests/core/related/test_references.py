"""Verification and explanation over small stores whose rows a test chooses one by one, on both engines."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from copies import Copy
from loads import create_tables
from msgspec import Raw
from shaping import NOON
from sqlalchemy import event

from igh_sync_core.config.entities import load_entity_configs
from igh_sync_core.errors import ConfigError
from igh_sync_core.history.rows import RowCodec
from igh_sync_core.history.versions import History
from igh_sync_core.inspection.explanation import Explanation, Standing, Step, explain
from igh_sync_core.model import Column, EntitySet, Kind, LogicalName, Lookup, TableSpec
from igh_sync_core.related.references import SAMPLES, Finding, Findings, Unchecked, verify, with_findings
from igh_sync_core.related.relations import relations_of
from igh_sync_core.report import RunReport
from igh_sync_core.sandbox import health_organisation
from igh_sync_core.schema.tables import entity_tables
from igh_sync_core.store.database import Database

TYPE = "@Microsoft.Dynamics.CRM.lookuplogicalname"


def table(name: str, *lookups: Lookup, is_intersect: bool = False) -> TableSpec:
    return TableSpec(
        logical_name=LogicalName(name),
        entity_set=EntitySet(f"{name}s"),
        key=f"{name}id",
        columns=(Column(f"{name}id", Kind.GUID), *(Column(one.column, Kind.GUID) for one in lookups)),
        lookups=lookups,
        is_intersect=is_intersect,
    )


def pointing(column: str, *targets: str) -> Lookup:
    return Lookup(column, tuple(LogicalName(target) for target in targets), is_polymorphic=len(targets) != 1)


ACCOUNT = table("account", pointing("_parent_value", "account"), pointing("_contact_value", "contact"))
CONTACT = table("contact", pointing("_customer_value", "account", "contact"), pointing("_owner_value", "team", "user"))
USER = table("user", pointing("_unit_value", "businessunit"))
STUDY = table("study", pointing("_sponsor_value", "account", "contact"), pointing("_regarding_value"))
MEMBER = table("member", pointing("studyid", "study"), pointing("userid", "user"), is_intersect=True)
SPECS = (STUDY, MEMBER, ACCOUNT, CONTACT, USER)
FILTERED = {"account", "contact", "user"}


def key(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012x}"


def record(spec: TableSpec, number: int, **points: Any) -> Raw:
    """A record; a column points at ``(type, number)``, or at ``number`` where no type comes along."""
    values: dict[str, Any] = {spec.key: key(number)}
    for column, target in points.items():
        kind, at = target if isinstance(target, tuple) else (None, target)
        values[column] = key(at)
        if kind:
            values[column + TYPE] = kind
    return Raw(json.dumps(values).encode())


class Store:
    """Tables of every spec, over one connection."""

    def __init__(self, database: Database, conn: Any) -> None:
        self.database, self.conn = database, conn

    def write(self, spec: TableSpec, *records: Raw) -> None:
        batch = RowCodec(spec, self.database.kind).decode(records)
        with self._history(spec) as history:
            history.write(batch, NOON)

    def delete(self, spec: TableSpec, *numbers: int) -> None:
        with self._history(spec) as history:
            history.close_deleted([key(number) for number in numbers], NOON)

    @contextmanager
    def _history(self, spec: TableSpec) -> Iterator[History]:
        with self.database.connection() as conn, self.database.transaction(conn):
            yield History(self.database, SimpleNamespace(conn=conn), entity_tables(spec))

    def verify(self, *specs: TableSpec) -> Findings:
        with self.database.transaction(self.conn):
            return verify(self.conn, specs or SPECS)

    def explain(self, spec: TableSpec, number: int) -> Explanation:
        with self.database.transaction(self.conn):
            return explain(self.conn, SPECS, FILTERED, table=spec.logical_name, key=key(number))


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    with database.writing() as conn:
        create_tables(conn, SPECS)
    with database.connection() as conn:
        yield Store(database, conn)


def test_polymorphic_values_are_checked_against_their_own_type_alone(store: Store) -> None:
    store.write(ACCOUNT, record(ACCOUNT, 1))
    store.write(
        CONTACT, record(CONTACT, 2, _customer_value=("account", 1)), record(CONTACT, 3, _customer_value=("contact", 2))
    )
    store.write(STUDY, record(STUDY, 4, _sponsor_value=("contact", 2)), record(STUDY, 5, _sponsor_value=("account", 1)))

    findings = store.verify()

    assert findings.dangling == ()
    assert findings.references == 4


def test_an_id_that_exists_under_another_type_is_dangling(store: Store) -> None:
    store.write(CONTACT, record(CONTACT, 1))
    store.write(STUDY, record(STUDY, 2, _sponsor_value=("account", 1)), record(STUDY, 3, _sponsor_value=("contact", 1)))

    assert store.verify().dangling == (
        Finding(
            table="studys",
            fk_column="_sponsor_value",
            referenced_table="accounts",
            dangling_count=1,
            total_checked=1,
            sample_ids=(key(1),),
        ),
    )


def test_only_current_rows_point_and_only_current_rows_are_pointed_at(store: Store) -> None:
    store.write(ACCOUNT, record(ACCOUNT, 1), record(ACCOUNT, 2, _parent_value=1), record(ACCOUNT, 3, _parent_value=9))
    store.delete(ACCOUNT, 1, 3)

    [finding] = store.verify().dangling

    assert (finding.dangling_count, finding.total_checked, finding.sample_ids) == (1, 1, (key(1),))


def test_columns_of_intersect_tables_are_checked(store: Store) -> None:
    store.write(STUDY, record(STUDY, 1))
    store.write(MEMBER, record(MEMBER, 1, studyid=1, userid=7), record(MEMBER, 2, studyid=8, userid=7))

    found = {(one.fk_column, one.referenced_table): one.dangling_count for one in store.verify().dangling}

    assert found == {("studyid", "studys"): 1, ("userid", "users"): 2}


def test_samples_are_few_and_distinct(store: Store) -> None:
    store.write(ACCOUNT, *(record(ACCOUNT, at, _parent_value=100 + at % 8) for at in range(50)))

    [finding] = store.verify().dangling

    assert (finding.dangling_count, finding.total_checked) == (50, 50)
    assert len(set(finding.sample_ids)) == len(finding.sample_ids) == SAMPLES
    assert set(finding.sample_ids) <= {key(100 + at) for at in range(8)}


def test_what_leads_out_of_the_synced_tables_is_listed_with_its_count(store: Store) -> None:
    store.write(USER, record(USER, 1, _unit_value=5), record(USER, 2))
    store.write(CONTACT, record(CONTACT, 1, _owner_value=("user", 1)), record(CONTACT, 2, _owner_value=("team", 1)))
    store.write(
        STUDY, record(STUDY, 1, _regarding_value=("task", 1)), record(STUDY, 2, _regarding_value=("account", 1))
    )

    findings = store.verify()

    assert set(findings.unchecked) == {
        Unchecked(table="users", fk_column="_unit_value", targets=("businessunit",), count=1),
        Unchecked(table="contacts", fk_column="_owner_value", targets=("team",), count=1),
        Unchecked(table="studys", fk_column="_regarding_value", targets=(), count=1),
    }
    assert [(one.fk_column, one.referenced_table) for one in findings.dangling] == [("_regarding_value", "accounts")]


def test_a_polymorphic_value_without_a_type_is_unchecked_and_not_dangling(store: Store) -> None:
    store.write(STUDY, record(STUDY, 1, _sponsor_value=1))

    findings = store.verify()

    assert findings.dangling == ()
    assert Unchecked(table="studys", fk_column="_sponsor_value", targets=(), count=1) in findings.unchecked


def test_statements_grow_with_tables_and_findings_and_never_with_rows(store: Store) -> None:
    store.write(ACCOUNT, *(record(ACCOUNT, at, _parent_value=at + 1) for at in range(200)))
    statements: list[str] = []
    event.listen(store.conn, "before_cursor_execute", lambda *given: statements.append(given[2]))

    findings = store.verify()

    assert len(findings.dangling) == 1
    assert len(statements) <= 2 * len(SPECS) + len(findings.dangling)
    assert len(relations_of(SPECS)) > len(SPECS)


@pytest.mark.parametrize(("tolerance", "is_success"), [(0, False), (2, False), (3, True)])
def test_a_tolerance_turns_findings_into_notes(tolerance: int, *, is_success: bool) -> None:
    one = Finding(table="a", fk_column="_x_value", referenced_table="b", dangling_count=3, total_checked=9)

    report = with_findings(RunReport(run_id="1"), Findings(dangling=(one,)), tolerance=tolerance)

    assert report.success is is_success
    assert report.notes == (("tolerated: a._x_value → b: 3 of 9 dangling",) if is_success else ())
    assert [error["dangling_count"] for error in report.reference_errors] == ([] if is_success else [3])


def test_the_model_organisation_verifies_clean_and_lists_what_is_not_synced(tmp_path: Path) -> None:
    copy = Copy(health_organisation(600), {"sqlite_db_path": str(tmp_path / "copy.db")}, load_entity_configs())

    report = copy.sync(verify_references=True)

    assert report.success
    unchecked = {(one["table"], one["fk_column"]): one["targets"] for one in report.unchecked_references}
    assert unchecked["accounts", "_owningbusinessunit_value"] == ("businessunit",)
    assert unchecked["accounts", "_ownerid_value"] == ("team",)
    assert ("vin_candidates", "_vin_sponsor_value") not in unchecked


def test_a_chain_leads_from_a_row_copied_for_its_own_sake(store: Store) -> None:
    store.write(STUDY, record(STUDY, 1, _sponsor_value=("account", 1)))
    store.write(ACCOUNT, record(ACCOUNT, 1, _parent_value=2), record(ACCOUNT, 2, _parent_value=1, _contact_value=3))
    store.write(CONTACT, record(CONTACT, 3, _owner_value=("user", 4)))
    store.write(USER, record(USER, 4))

    for _ in range(2):
        explanation = store.explain(USER, 4)

    assert explanation == Explanation(
        Standing.REFERENCED,
        (
            Step("studys", key(1), "_sponsor_value"),
            Step("accounts", key(1), "_parent_value"),
            Step("accounts", key(2), "_contact_value"),
            Step("contacts", key(3), "_owner_value"),
            Step("users", key(4)),
        ),
    )
    assert str(explanation).splitlines()[1] == f"studys {key(1)}  _sponsor_value →"


def test_the_shortest_chain_wins(store: Store) -> None:
    store.write(STUDY, record(STUDY, 1, _sponsor_value=("account", 1)), record(STUDY, 2))
    store.write(ACCOUNT, record(ACCOUNT, 1, _contact_value=3))
    store.write(CONTACT, record(CONTACT, 3, _owner_value=("user", 4)))
    store.write(USER, record(USER, 4))
    store.write(MEMBER, record(MEMBER, 1, studyid=2, userid=4))

    assert store.explain(USER, 4).steps == (Step("members", key(1), "userid"), Step("users", key(4)))


def test_a_cycle_that_nothing_leads_to_is_kept_for_no_present_reason(store: Store) -> None:
    store.write(ACCOUNT, record(ACCOUNT, 1, _parent_value=2), record(ACCOUNT, 2, _parent_value=1))

    assert store.explain(ACCOUNT, 1) == Explanation(Standing.KEPT, (Step("accounts", key(1)),))


def test_closed_rows_explain_nothing(store: Store) -> None:
    store.write(STUDY, record(STUDY, 1, _sponsor_value=("account", 1)))
    store.write(ACCOUNT, record(ACCOUNT, 1))
    store.delete(STUDY, 1)

    assert store.explain(ACCOUNT, 1).standing is Standing.KEPT
    assert store.explain(STUDY, 1).standing is Standing.ABSENT


def test_a_whole_table_needs_no_reason(store: Store) -> None:
    store.write(STUDY, record(STUDY, 1))

    assert store.explain(STUDY, 1).standing is Standing.WHOLE_TABLE


def test_tables_are_found_under_both_names_and_ids_in_any_dress(store: Store) -> None:
    store.write(STUDY, record(STUDY, 0xABC))

    with store.database.transaction(store.conn):
        found = explain(store.conn, SPECS, FILTERED, table="studys", key=f"{{{key(0xABC).upper()}}}")
        with pytest.raises(ConfigError, match="no such table"):
            explain(store.conn, SPECS, FILTERED, table="nothing", key=key(1))

    assert found.standing is Standing.WHOLE_TABLE
