"""Related tables against a local Dataverse: closure, keeping up, and how many requests both take."""

import contextlib
import itertools
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from copies import Copy, taking_ids
from graphs import FILTERED, SELECTION, Graph, Node, from_picks, key_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event, text
from sqlalchemy.pool import Pool

from igh_sync_core.errors import ConfigError, StoreError
from igh_sync_core.history import checkpoint
from igh_sync_core.inspection.explanation import explain_record
from igh_sync_core.model import Column, EntitySet, Kind, LogicalName, TableSpec
from igh_sync_core.report import EntityReport, RunReport
from igh_sync_core.sandbox import Fault
from igh_sync_core.sandbox.http.service import sent_address
from igh_sync_core.store.control import SyncState
from igh_sync_core.sync.run import Progress

SPEC = TableSpec(LogicalName("any"), EntitySet("any"), "anyid", (Column("anyid", Kind.GUID),))
SETS = {"account": "accounts", "contact": "contacts", "systemuser": "systemusers", "vin_study": "vin_studies"}


def copy_of(graph: Graph, where: dict[str, str]) -> Copy:
    return Copy(graph.organisation(), where, SELECTION)


def members(copy: Copy) -> dict[str, set[str]]:
    return {table: {str(key) for (key,) in copy.open_rows(SETS[table], f"{table}id")} for table in FILTERED}


def synced(copy: Copy, **options: Any) -> RunReport:
    report = copy.sync(**options)
    assert report.failed_entities == []
    return report


def of(report: RunReport, table: str) -> EntityReport:
    return next(one for one in report.entities if one.entity == table)


def asked(copy: Copy, table: str) -> list[str]:
    """Queries of one table in the last run."""
    return [entry.query for entry in copy.asked if entry.path.endswith(f"/{SETS[table]}")]


@given(
    sizes=st.fixed_dictionaries({table: st.integers(0, 5) for table in ("vin_study", *FILTERED, "team")}),
    picks=st.lists(st.integers(0, 1000), min_size=80, max_size=80),
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_closure_equals_a_search_by_hand_on_any_graph(sizes: dict[str, int], picks: list[int]) -> None:
    graph = from_picks(sizes | {"vin_study_systemuser": sizes["vin_study"]}, itertools.cycle(picks))
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_of(graph, {"sqlite_db_path": str(Path(folder) / "copy.db")})
        report = synced(copy, verify_references=True)

        assert members(copy) == graph.closure()
        found = {
            (e["table"], e["fk_column"], e["referenced_table"]): e["dangling_count"] for e in report.reference_errors
        }
        sets = SETS | {"vin_study_systemuser": "vin_study_systemuserset"}
        expected = graph.dangling(graph.closure())
        assert found == {
            (sets[table], column, sets[target]): count for (table, column, target), count in expected.items()
        }


def picks_of(seed: int) -> Iterator[int]:
    generator = random.Random(seed)  # noqa: S311 - makes data, not secrets
    return iter(lambda: generator.randrange(100_000), None)


def test_a_larger_graph_closes_on_both_engines(database_settings: dict[str, str]) -> None:
    sizes = {"vin_study": 30, "vin_study_systemuser": 20, "account": 60, "contact": 60, "systemuser": 20, "team": 3}
    graph = from_picks(sizes, picks_of(5))
    copy = copy_of(graph, database_settings)
    synced(copy)

    assert members(copy) == graph.closure()
    assert 0 < len(members(copy)["account"]) < 60


def chain(length: int) -> tuple[Graph, list[Node]]:
    """A study → account → contact → account → …, ending in a cycle."""
    graph = Graph()
    nodes = [(("account", "contact")[at % 2], key_of(("account", "contact")[at % 2], at)) for at in range(length)]
    for at, (table, _key) in enumerate(nodes):
        column = "_primarycontactid_value" if table == "account" else "_parentcustomerid_value"
        graph.add(table, at, **{column: nodes[at + 1 if at + 1 < length else length - 2]})
    graph.add("vin_study", 1, _vin_site_value=nodes[0])
    return graph, nodes


def test_no_number_of_rounds_cuts_a_chain_off(tmp_path: Path) -> None:
    graph, nodes = chain(14)
    copy = copy_of(graph, {"sqlite_db_path": str(tmp_path / "copy.db")})
    synced(copy)

    assert {(table, key) for table, keys in members(copy).items() for key in keys} == set(nodes)


def test_no_connection_is_held_while_the_source_is_asked(
    database_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("igh_sync_core.related.tier.TABLES_AT_ONCE", 1)  # or one table writes while another asks
    graph, nodes = chain(6)
    copy = copy_of(graph, database_settings)
    held: set[object] = set()
    at_requests: list[int] = []
    answer = copy.sandbox.handle

    def watched(request: httpx.Request) -> httpx.Response:
        at_requests.append(len(held))
        return answer(request)

    monkeypatch.setattr(copy.sandbox, "handle", watched)
    watches = {"checkout": lambda _, record, __: held.add(record), "checkin": lambda _, record: held.discard(record)}
    for name, watch in watches.items():
        event.listen(Pool, name, watch)
    try:
        synced(copy, concurrency=1)
        synced(copy, concurrency=1)
    finally:
        for name, watch in watches.items():
            event.remove(Pool, name, watch)

    assert {(table, key) for table, keys in members(copy).items() for key in keys} == set(nodes)
    assert len(at_requests) > 30
    assert set(at_requests) == {0}


def small() -> Graph:
    """One study of account 1, whose contact is 1; user 1 owns the study; further records are pointed at by nothing."""
    graph = Graph()
    for number in (1, 2, 3):
        graph.add("systemuser", number)
        graph.add("contact", number, _ownerid_value=("systemuser", key_of("systemuser", number)))
        graph.add("account", number, _primarycontactid_value=("contact", key_of("contact", number)))
    site, owner = ("account", key_of("account", 1)), ("systemuser", key_of("systemuser", 1))
    graph.add("vin_study", 1, _vin_site_value=site, _ownerid_value=owner)
    return graph


@pytest.fixture
def copy(database_settings: dict[str, str]) -> Copy:
    """The small graph, once per engine."""
    return copy_of(small(), database_settings)


@pytest.fixture
def light(tmp_path: Path) -> Copy:
    """The same on SQLite alone, for what does not depend on the engine."""
    return copy_of(small(), {"sqlite_db_path": str(tmp_path / "copy.db")})


ACCOUNT, CONTACT, USER, STUDY = (key_of(table, 1) for table in ("account", "contact", "systemuser", "vin_study"))
OTHER = ("account", key_of("account", 2))


def test_a_run_with_nothing_new_asks_each_related_table_once(copy: Copy) -> None:
    copy.organisation.update("contact", CONTACT, {"_parentcustomerid_value": ("account", key_of("account", 9))})
    first = synced(copy)
    second = synced(copy)

    assert [of(first, table).added for table in FILTERED] == [1, 1, 1]
    assert [of(second, table).requests for table in FILTERED] == [1, 1, 1]
    assert all("deltatoken" in query for table in FILTERED for query in asked(copy, table))


def test_changes_of_members_arrive_and_those_of_others_do_not(copy: Copy) -> None:
    synced(copy)
    copy.organisation.update("account", ACCOUNT, {"name": "renamed"})
    copy.organisation.update(*OTHER, {"name": "nobody asks"})
    report = synced(copy)

    assert (of(report, "account").updated, of(report, "account").requests) == (1, 2)
    assert copy.open_rows("accounts", "name") == [("renamed",)]


def test_new_references_bring_new_members_and_what_those_point_at(light: Copy) -> None:
    synced(light)
    light.organisation.update("vin_study", STUDY, {"_vin_sponsor_value": OTHER})
    report = synced(light)

    assert [of(report, table).added for table in FILTERED] == [1, 1, 1]
    assert members(light)["contact"] == {CONTACT, key_of("contact", 2)}


def test_no_row_is_left_to_be_scanned_by_the_next_run(copy: Copy) -> None:
    synced(copy)

    for table in SETS.values():
        assert copy.state(table).scanned_row_id == max(row for (row,) in copy.rows(table, "row_id"))


def test_the_rows_of_a_table_made_anew_are_scanned_anew(light: Copy) -> None:
    synced(light)
    light.organisation.update("vin_study", STUDY, {"_vin_sponsor_value": OTHER})
    with light.database.writing() as conn:
        conn.execute(text("DROP TABLE vin_studies"))
    synced(light)

    assert len(light.rows("vin_studies", "row_id")) == 1
    assert members(light)["account"] == {ACCOUNT, OTHER[1]}


@pytest.mark.parametrize("reconcile", [False, True])
def test_a_related_table_made_anew_is_filled_again(light: Copy, *, reconcile: bool) -> None:
    synced(light)
    before = members(light)
    with light.database.writing() as conn:
        conn.execute(text("DROP TABLE accounts"))
    report = synced(light, reconcile=reconcile)

    assert (of(report, "account").added, of(report, "account").requests) == (1, 2)
    assert members(light) == before
    assert [of(synced(light), table).requests for table in FILTERED] == [1, 1, 1]


def test_a_related_table_made_anew_by_a_run_over_some_tables_is_filled_by_the_next_over_all(copy: Copy) -> None:
    synced(copy)
    before = members(copy)
    with copy.database.writing() as conn:
        conn.execute(text("DROP VIEW contacts_current"))
        conn.execute(text("DROP VIEW contacts_history"))
        conn.execute(text("ALTER TABLE contacts RENAME TO contacts_before"))
    copy.selection = [entity for entity in SELECTION if entity.name == "contact"]
    synced(copy)
    copy.selection = SELECTION
    synced(copy)

    assert members(copy) == before
    assert [of(synced(copy), table).requests for table in FILTERED] == [1, 1, 1]


def test_a_related_table_made_anew_while_one_that_points_at_it_is_set_aside_is_filled_later(light: Copy) -> None:
    light.organisation.add_column("account", "vin_flag", "Edm.Int32", fixed=1)
    synced(light)
    before = members(light)
    with light.database.writing() as conn:
        conn.execute(text("DROP TABLE contacts"))
    light.organisation.change_type("account", "vin_flag", "Edm.Boolean")
    assert [name for name, _error in light.sync().failed_entities] == ["account"]
    light.organisation.change_type("account", "vin_flag", "Edm.Int32")
    synced(light)

    assert members(light) == before


def test_a_related_table_made_anew_is_filled_again_after_a_run_that_failed(light: Copy) -> None:
    synced(light)
    with light.database.writing() as conn:
        conn.execute(text("DROP TABLE accounts"))
    light.sandbox.deny("account")
    assert light.sync().failed_entities
    light.sandbox.allow("account")
    synced(light)

    assert members(light)["account"] == {ACCOUNT}


def test_a_listener_that_breaks_fails_its_table_alone(light: Copy) -> None:
    def listen(progress: Progress) -> None:
        if (progress.entity, progress.is_done) == ("account", True):
            raise ValueError

    report = light.sync(on_page=listen)

    assert [entity for entity, _error in report.failed_entities] == ["account"]
    lines = dict(light.rows_of("SELECT entity_name, status FROM _sync_log"))
    assert (lines["accounts"], lines["contacts"]) == ("failed", "completed")
    assert light.sync().success


def test_a_related_table_whose_state_cannot_be_read_stops_no_other(light: Copy) -> None:
    synced(light)
    with light.database.writing() as conn:
        conn.execute(text("UPDATE _sync_state SET last_sync_time = 'nonsense' WHERE entity_name = 'accounts'"))
    [(entity, error)] = light.sync().failed_entities

    assert entity == "account"
    assert "the line of accounts in _sync_state cannot be read" in error


def test_a_transaction_that_is_lost_is_no_failure_of_one_table(light: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    synced(light)

    @contextlib.contextmanager
    def lost(_conn: Connection) -> Iterator[None]:
        yield
        raise StoreError("the disk is gone")  # noqa: TRY003, EM101 - stands for anything

    monkeypatch.setattr("igh_sync_core.related.tier.attempt", lost)

    with pytest.raises(StoreError, match="the disk is gone"):
        light.sync()


def test_a_deleted_member_is_closed_in_the_same_request(copy: Copy) -> None:
    synced(copy)
    copy.organisation.delete("account", ACCOUNT)
    report = synced(copy)

    assert (of(report, "account").closed, of(report, "account").requests) == (1, 1)
    assert copy.rows("accounts", "closed_reason") == [("deleted",)]


def test_a_restored_member_comes_back_though_no_row_that_points_at_it_changed(light: Copy) -> None:
    synced(light)
    light.organisation.delete("account", ACCOUNT)
    synced(light)
    light.organisation.restore("account", ACCOUNT)
    report = synced(light)

    assert of(report, "account").added == 1
    assert light.rows("accounts", "closed_reason") == [("deleted",), (None,)]


def test_a_record_created_after_it_was_missed_is_found(light: Copy) -> None:
    missing = key_of("account", 9)
    light.organisation.update("vin_study", STUDY, {"_vin_sponsor_value": ("account", missing)})
    synced(light)
    light.organisation.insert("account", {"accountid": missing})
    synced(light)

    assert missing in members(light)["account"]


def test_a_member_nobody_points_at_any_more_stays_and_is_kept_up(light: Copy) -> None:
    synced(light)
    light.organisation.update("vin_study", STUDY, {"_vin_site_value": None})
    light.organisation.update("account", ACCOUNT, {"name": "still here"})
    synced(light)

    assert light.open_rows("accounts", "name") == [("still here",)]


def test_a_hidden_record_is_no_error_of_the_sync_and_is_found_by_reconciling_once_shown(copy: Copy) -> None:
    copy.sandbox.hide("account", ACCOUNT)
    report = synced(copy, verify_references=True)

    assert [(e["fk_column"], e["dangling_count"], e["sample_ids"]) for e in report.reference_errors] == [
        ("_vin_site_value", 1, (ACCOUNT,))
    ]
    assert not report.success
    copy.sandbox.reveal("account", ACCOUNT)
    report = synced(copy, verify_references=True, reconcile=True)
    assert report.success
    assert members(copy)["account"] == {ACCOUNT}


def test_an_expired_link_starts_over_with_all_keys_and_misses_nothing(copy: Copy) -> None:
    synced(copy)
    copy.organisation.update("account", ACCOUNT, {"name": "renamed"})
    copy.organisation.delete("contact", CONTACT)
    copy.organisation.expire_delta_tokens()
    report = synced(copy)

    assert "0x80044352" in of(report, "account").reason
    assert copy.open_rows("accounts", "name") == [("renamed",)]
    assert copy.rows("contacts", "closed_reason") == [("absent",)]
    assert [of(synced(copy), table).requests for table in FILTERED] == [1, 1, 1]


def test_a_link_answered_with_everything_starts_over_with_all_keys(copy: Copy) -> None:
    synced(copy)
    copy.organisation.update("account", ACCOUNT, {"name": "renamed"})
    copy.organisation.delete("contact", CONTACT)
    copy.organisation.expired_token_returns_everything = True
    copy.organisation.expire_delta_tokens()
    report = synced(copy)

    assert "the delta link was answered with all records; all keys read" in of(report, "account").reason
    assert copy.open_rows("accounts", "name") == [("renamed",)]
    assert copy.rows("contacts", "closed_reason") == [("absent",)]
    assert [of(synced(copy), table).requests for table in FILTERED] == [1, 1, 1]


def test_a_link_older_than_deletions_are_kept_is_not_used(light: Copy) -> None:
    synced(light)
    light.organisation.delete("account", ACCOUNT)
    light.organisation.clock.advance(7 * 86_400)
    report = synced(light)

    assert "days old" in of(report, "account").reason
    assert light.rows("accounts", "closed_reason") == [("absent",)]


def untracked(copy: Copy) -> Copy:
    for table in FILTERED:
        copy.organisation.set_change_tracking(table, on=False)
    return copy


def test_a_small_untracked_table_is_asked_by_id_in_one_request(light: Copy) -> None:
    synced(untracked(light))
    light.organisation.update("account", ACCOUNT, {"name": "renamed"})
    report = synced(light)

    assert (of(report, "account").updated, of(report, "account").requests) == (1, 1)


def test_an_untracked_deletion_is_found_by_a_reconcile_run_alone(copy: Copy) -> None:
    synced(untracked(copy))
    copy.organisation.delete("account", ACCOUNT)

    assert of(synced(copy), "account").closed == 0
    assert of(synced(copy, reconcile=True), "account").closed == 1
    assert copy.rows("accounts", "closed_reason") == [("absent",)]


def test_a_large_untracked_table_is_asked_once_for_what_changed(tmp_path: Path) -> None:
    graph = Graph()
    for number in range(520):
        graph.add("account", number)
        graph.add("vin_study", number, _vin_site_value=("account", key_of("account", number)))
    copy = untracked(copy_of(graph, {"sqlite_db_path": str(tmp_path / "copy.db")}))
    report = synced(copy)
    assert (of(report, "account").added, of(report, "account").requests) == (520, 2)

    copy.organisation.clock.advance(3_600)
    copy.organisation.update("account", ACCOUNT, {"name": "renamed"})
    report = synced(copy)
    assert (of(report, "account").updated, of(report, "account").requests) == (1, 2)
    assert "modifiedon%20ge" in asked(copy, "account")[0]
    copy.organisation.clock.advance(3_600)
    assert of(synced(copy), "account").requests == 1


def test_where_change_tracking_is_refused_the_members_are_asked_by_id(light: Copy) -> None:
    synced(light)
    light.organisation.tables["account"].shape.is_tracked = False
    light.organisation.update("account", ACCOUNT, {"name": "renamed"})
    report = synced(light)

    assert "change tracking was refused" in of(report, "account").reason
    assert light.open_rows("accounts", "name") == [("renamed",)]


@pytest.mark.parametrize("reconcile", [False, True])
def test_a_role_narrowed_to_the_users_own_records_is_a_failure_and_closes_nothing(
    light: Copy, *, reconcile: bool
) -> None:
    synced(light)
    before, link = light.rows("accounts", "accountid", "valid_to"), light.state("accounts").delta_link
    light.sandbox.hide("account", ACCOUNT)
    refuse_feeds(light, "accounts")

    [(_entity, error)] = light.sync(reconcile=reconcile).failed_entities
    assert "organization-level read" in error
    assert light.rows("accounts", "accountid", "valid_to") == before
    assert light.state("accounts").delta_link == link


def test_a_role_narrowed_after_links_were_missing_closes_no_related_record(light: Copy) -> None:
    with without_links(light, "accounts"):
        synced(light)
    assert light.state("accounts").delta_link is None
    before = light.rows("accounts", "accountid", "valid_to")
    light.sandbox.hide("account", ACCOUNT)
    refuse_feeds(light, "accounts")

    for reconcile in (False, True):
        [(_entity, error)] = light.sync(reconcile=reconcile).failed_entities
        assert "organization-level read" in error
        assert light.rows("accounts", "accountid", "valid_to") == before


@pytest.mark.parametrize("page_size", [2, 5_000])
@pytest.mark.parametrize("reconcile", [False, True])
def test_keys_that_end_without_a_link_close_nothing(tmp_path: Path, page_size: int, *, reconcile: bool) -> None:
    copy = copy_of(many(), {"sqlite_db_path": str(tmp_path / "copy.db")})
    synced(copy)
    everyone, link = members(copy), copy.state("accounts").delta_link
    [gone, renamed, *_others] = sorted(everyone["account"])
    copy.organisation.clock.advance(3_600)
    copy.organisation.delete("account", gone)
    copy.organisation.update("account", renamed, {"name": "renamed"})

    with without_links(copy, "accounts", is_cut=True):
        report = of(synced(copy, reconcile=reconcile, page_size=page_size), "account")
    assert "the last page had no delta link; deletions are found once there is one" in report.reason
    assert (report.updated, report.closed) == (1, 1 if reconcile else 0)
    if page_size > len(everyone["account"]):
        assert copy.state("accounts").delta_link == link

    synced(copy, page_size=page_size)
    assert members(copy)["account"] == everyone["account"] - {gone}
    assert of(synced(copy, page_size=page_size), "account").requests == 1


def test_changes_that_end_without_a_link_are_told_by_all_keys(tmp_path: Path) -> None:
    copy = copy_of(many(), {"sqlite_db_path": str(tmp_path / "copy.db")})
    synced(copy)
    copy.organisation.clock.advance(3_600)
    gone, *renamed = copy.organisation.keys("account")[:4]
    copy.organisation.delete("account", gone)
    for key in renamed:
        copy.organisation.update("account", key, {"name": "renamed"})

    with without_links(copy, "accounts", only=1, is_cut=True):
        report = of(synced(copy), "account")
    assert "the last page had no delta link; all keys read" in report.reason
    assert (report.updated, report.closed) == (3, 1)
    assert of(synced(copy), "account").requests == 1


def many() -> Graph:
    """Nine accounts that studies point at."""
    graph = Graph()
    for number in range(9):
        graph.add("vin_study", number, _vin_site_value=graph.add("account", number))
    return graph


@contextlib.contextmanager
def without_links(copy: Copy, table: str, *, only: int = 99, is_cut: bool = False) -> Iterator[None]:
    """The server leaves out the delta links of so many feeds of a table, and maybe all records but one."""
    left = [only]
    answer = copy.sandbox.handle

    def handle(request: httpx.Request) -> httpx.Response:
        reply = answer(request)
        if b"@odata.deltaLink" not in reply.content or f"/{table}?" not in sent_address(request) or not left[0]:
            return reply
        left[0] -= 1
        page = {**reply.json(), "@odata.deltaLink": None}
        if is_cut:
            page["value"] = page["value"][:1]
        return httpx.Response(200, headers={"Date": reply.headers["Date"]}, json=page)

    copy.sandbox.handle = handle  # type: ignore[method-assign]
    yield
    copy.sandbox.handle = answer  # type: ignore[method-assign]


@pytest.mark.parametrize("reconcile", [False, True])
def test_a_related_table_that_never_was_tracked_is_asked_by_id_where_the_role_is_narrow(
    light: Copy, *, reconcile: bool
) -> None:
    refuse_feeds(light, "accounts")

    for _again in range(2):
        report = synced(light, reconcile=reconcile)
        assert "change tracking was refused (0x80040220)" in of(report, "account").reason
    assert members(light)["account"] == {ACCOUNT}


def refuse_feeds(copy: Copy, table: str) -> None:
    """The user may read its own records of a table alone, and the server tells no changes of so few."""
    answer = copy.sandbox.handle

    def handle(request: httpx.Request) -> httpx.Response:
        address = sent_address(request)
        is_tracked = "track-changes" in request.headers.get("Prefer", "") or "deltatoken" in address
        if f"/{table}?" in address and is_tracked:
            return httpx.Response(403, json={"error": {"code": "0x80040220", "message": "no privilege"}})
        return answer(request)

    copy.sandbox.handle = handle  # type: ignore[method-assign]


def test_a_table_that_may_not_be_read_stops_no_other(light: Copy) -> None:
    light.sandbox.deny("contact")
    report = light.sync()

    assert [name for name, _error in report.failed_entities] == ["contact"]
    assert members(light) == {"account": {ACCOUNT}, "contact": set(), "systemuser": {USER}}
    light.sandbox.allow("contact")
    synced(light)
    assert members(light)["contact"] == {CONTACT}


def test_a_record_is_asked_only_under_its_own_type(light: Copy) -> None:
    light.organisation.update("vin_study", STUDY, {"_vin_sponsor_value": ("contact", key_of("contact", 3))})
    synced(light)

    assert not any(key_of("contact", 3) in query for query in asked(light, "account"))
    assert key_of("contact", 3) in members(light)["contact"]


def test_a_batch_the_server_finds_too_large_is_asked_in_halves(light: Copy) -> None:
    for number in range(10, 40):
        light.organisation.insert("account", {"accountid": key_of("account", number)})
        light.organisation.insert("vin_study", {"_vin_site_value": ("account", key_of("account", number))})
    light.sandbox.faults.add(Fault(kind="status", status=414, match="/accounts?$filter", times=1))
    report = synced(light)

    assert (of(report, "account").added, of(report, "account").requests) == (31, 4)


def test_how_many_ids_the_server_takes_is_found_out_once(light: Copy) -> None:
    for number in range(10, 49):
        light.organisation.insert("account", {"accountid": key_of("account", number)})
        light.organisation.insert("vin_study", {"_vin_site_value": ("account", key_of("account", number))})
    asked = taking_ids(light, 5)
    report = synced(light, page_size=16)

    assert of(report, "account").added == 40
    assert len([count for count in asked if count > 5]) <= 4  # two batches are under way when the first is refused
    assert sum(count for count in asked if count <= 5) == sum(of(report, table).added for table in FILTERED)


def test_a_state_that_the_database_refuses_is_the_failure_of_its_table_alone(light: Copy) -> None:
    synced(light)
    refused = "NEW.state = 'in_progress' AND NEW.entity_name = 'accounts'"
    with light.database.writing() as conn:
        if light.database.is_postgres:
            body = f"BEGIN IF {refused} THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW; END"
            conn.exec_driver_sql(f"CREATE FUNCTION no() RETURNS trigger AS $$ {body} $$ LANGUAGE plpgsql")
            conn.exec_driver_sql("CREATE TRIGGER no BEFORE UPDATE ON _sync_state FOR EACH ROW EXECUTE FUNCTION no()")
        else:
            made = f"CREATE TRIGGER no BEFORE UPDATE ON _sync_state WHEN {refused}"
            conn.exec_driver_sql(f"{made} BEGIN SELECT RAISE(ABORT, 'no'); END")
    light.organisation.update("systemuser", USER, {"title": "Dr"})
    report = light.sync()

    assert report.failed_entities == [("account", "the database refused a statement: no")]
    assert of(report, "systemuser").updated == 1


class Power:
    """Goes out at the n-th checkpoint of related tables, inside its transaction, and stays out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        write = checkpoint.write

        def guarded(conn: Connection, *states: SyncState) -> None:
            self.left -= 1
            if self.left <= 0:
                raise StoreError("the power went out")  # noqa: TRY003, EM101 - stands for anything
            write(conn, *states)

        monkeypatch.setattr("igh_sync_core.related.members.checkpoint.write", guarded)


def is_lit(copy: Copy) -> bool:
    """Whether a run comes to its end without a fault."""
    try:
        return copy.sync().success
    except StoreError:
        return False


def test_a_run_cut_at_any_checkpoint_is_completed_by_the_next(light: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    synced(light)
    power, versions = Power(monkeypatch), 1
    for cut in itertools.count(1):
        fresh = 100 + cut
        light.organisation.insert("contact", {"contactid": key_of("contact", fresh)})
        person = ("contact", key_of("contact", fresh))
        light.organisation.insert("account", {"accountid": key_of("account", fresh), "_primarycontactid_value": person})
        light.organisation.update("vin_study", STUDY, {"_vin_sponsor_value": ("account", key_of("account", fresh))})
        light.organisation.update("systemuser", USER, {"title": f"before cut {cut}"})
        light.organisation.update("account", ACCOUNT, {"name": f"before cut {cut}"})
        if cut > 1:
            light.organisation.delete("account", key_of("account", fresh - 1))
        power.left = cut + len(SELECTION) - len(FILTERED)
        is_whole = is_lit(light)
        power.left = 1_000
        synced(light)
        versions += 1

        assert members(light)["account"] == {ACCOUNT, key_of("account", fresh)}
        assert members(light)["contact"] == {CONTACT, *(key_of("contact", 101 + at) for at in range(cut))}
        names = [name for key, name in light.rows("accounts", "accountid", "name") if key == ACCOUNT]
        assert names[1:] == [f"before cut {at + 1}" for at in range(cut)]
        assert len(light.rows("systemusers", "title")) == versions
        if is_whole:
            break
    assert cut > 8


def test_a_record_is_explained_while_a_run_writes(copy: Copy) -> None:
    synced(copy)
    with copy.database.writing() as conn:
        checkpoint.forget_seen(conn, SPEC)
        explanation = explain_record(copy.config, SELECTION, table="contact", key=CONTACT)

    assert [(step.table, step.fk_column) for step in explanation.steps] == [
        ("vin_studies", "_vin_site_value"),
        ("accounts", "_primarycontactid_value"),
        ("contacts", ""),
    ]


def test_nothing_is_explained_before_the_first_run(copy: Copy) -> None:
    with pytest.raises(ConfigError, match="nothing was synced"):
        explain_record(copy.config, SELECTION, table="contact", key=CONTACT)
    assert not Path(copy.settings.get("sqlite_db_path", "none")).exists()


def test_all_keys_of_a_wide_table_come_in_full_pages(light: Copy) -> None:
    for number in range(1_000, 7_000):
        light.organisation.insert("account", {"accountid": key_of("account", number)})
    report = synced(light)

    assert (of(report, "account").added, of(report, "account").requests) == (1, 3)
