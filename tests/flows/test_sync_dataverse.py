"""The flow on a real Prefect server, against a Dataverse over HTTPS: how runs end, and what they show."""

import json
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from contextvars import copy_context
from pathlib import Path
from typing import Any, cast

import pytest
from prefect import Task, get_client
from prefect.artifacts import Artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, Log, State, TaskRun
from prefect.states import Failed
from prefect_processes import PrefectServer, running, wait_for

from flows import artifacts, tasks
from flows.limits import LIMIT
from flows.outcome import SyncFailed
from flows.sync_dataverse import sync_dataverse
from igh_sync_core.config.entities import load_entity_configs
from igh_sync_core.errors import AuthError, ConfigError, StoreBusy, SyncError
from igh_sync_core.report import RunReport
from igh_sync_core.sandbox import Fault, Server
from igh_sync_core.sandbox.queries.routes import Request
from igh_sync_core.sandbox.replies import Reply
from igh_sync_core.webapi.pacing import Pace

pytestmark = pytest.mark.usefixtures("prefect_api")
FEW = ["vin_candidate", "vin_product", "vin_disease"]


def run(**parameters: Any) -> State[Any]:
    return sync_dataverse(**parameters, return_state=True)


def report_of(state: State[Any]) -> RunReport:
    """What happened to each entity, whether the run succeeded or not."""
    result = state.result(raise_on_failure=False)
    return cast("RunReport", result.report if isinstance(result, SyncFailed) else result)


def flow_run_of(state: State[Any]) -> FlowRun:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(state.state_details.flow_run_id)


def task_runs_of(state: State[Any]) -> list[TaskRun]:
    """Task runs reach the server as events, a moment after the flow has ended."""
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        for _ in range(100):
            found = client.read_task_runs(flow_run_filter=chosen)
            if found and all(one.state and one.state.is_final() for one in found):
                return found
            time.sleep(0.1)
    pytest.fail("task runs are not final")


def artifacts_of(state: State[Any]) -> dict[str, Artifact]:
    chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        return {str(one.key): one for one in client.read_artifacts(artifact_filter=chosen)}


def logs_of(state: State[Any], beginning: str) -> list[Log]:
    """Lines of the run's log that begin so; they reach the server every two seconds."""
    chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        for _ in range(100):
            found = [line for line in client.read_logs(chosen, limit=200) if line.message.startswith(beginning)]
            if found:
                return found
            time.sleep(0.1)
    return []


def event_of(name: str, resource: str) -> dict[str, Any]:
    """The newest event of this name, of a resource whose id ends so."""
    body = {"filter": {"event": {"name": [name]}, "order": "DESC"}, "limit": 10}
    with get_client(sync_client=True) as client:
        for _ in range(100):
            found: list[dict[str, Any]] = client.request("POST", "/events/filter", json=body).json()["events"]
            for event in found:
                if event["resource"]["prefect.resource.id"].endswith(resource):
                    return event
            time.sleep(0.1)
    pytest.fail(f"no event {name} of {resource}")


def in_thread(work: Callable[[], object]) -> threading.Thread:
    """Start *work* with the settings of this thread, the server's address among them."""
    thread = threading.Thread(target=copy_context().run, args=[work], daemon=True)
    thread.start()
    return thread


def rows(path: Path, table: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as conn:
        return conn.execute(f'SELECT * FROM "{table}" ORDER BY row_id').fetchall()  # noqa: S608 - a test's own names


def test_a_run_copies_everything_and_tells_its_totals(dataverse: Server, tmp_path: Path) -> None:
    state = run(verify_references=True)

    report: RunReport = state.result()
    synced = {entity.name: entity.api_name for entity in load_entity_configs() if not entity.filtered}
    assert state.is_completed()
    assert state.message == report.summary()
    assert len(report.entities) == 26
    for name, table in synced.items():
        assert len(rows(tmp_path / "copy.db", table)) == dataverse.organisation.count(name), name


def test_a_second_run_adds_only_what_changed(dataverse: Server) -> None:
    run(entities=FEW)
    first, second, *_ = dataverse.organisation.keys("vin_candidate")
    dataverse.organisation.insert("vin_candidate", {"vin_name": "new"})
    dataverse.organisation.update("vin_candidate", first, {"vin_name": "renamed"})
    dataverse.organisation.delete("vin_candidate", second)

    report: RunReport = run(entities=FEW).result()

    assert [(one.entity, one.added, one.updated, one.closed) for one in report.entities] == [
        ("vin_candidate", 1, 1, 1),
        ("vin_product", 0, 0, 0),
        ("vin_disease", 0, 0, 0),
    ]


def test_tables_are_named_by_logical_name_or_entity_set(dataverse: Server) -> None:
    assert dataverse.api_url
    report = run(entities=["vin_diseases", "vin_region"]).result()

    assert [one.entity for one in report.entities] == ["vin_disease", "vin_region"]


def test_names_say_what_ran_and_when(dataverse: Server) -> None:
    assert dataverse.api_url
    state = run(entities=FEW)

    names = {one.name for one in task_runs_of(state)}

    assert names == {"authenticate", "validate schema", *(f"sync {entity}" for entity in FEW)}
    assert flow_run_of(state).name.startswith("sync of vin_candidate, vin_product, vin_disease, 20")


class TestFailures:
    def test_one_failed_entity_is_named_and_its_siblings_finish(self, dataverse: Server, tmp_path: Path) -> None:
        dataverse.sandbox.deny("vin_product")

        state = run(entities=FEW)

        with pytest.raises(SyncFailed, match="1 of 3 entities failed: vin_product: ") as caught:
            state.result()
        assert state.is_failed()
        assert caught.value.report is not None
        assert [one.status for one in caught.value.report.entities] == ["completed", "failed", "completed"]
        assert rows(tmp_path / "copy.db", "vin_diseases")
        ends = {one.name: one.state_name for one in task_runs_of(state)}
        assert ends["sync vin_product"] == "Failed"
        assert ends["sync vin_disease"] == "Completed"
        assert "vin_product" in (flow_run_of(state).state or state).message
        (first, *_) = json.loads(artifacts_of(state)["sync-report"].data)
        assert (first["entity"], first["status"]) == ("vin_product", "failed")
        assert "prvRead" in first["remark"]

    def test_a_failed_related_entity_fails_the_run_and_shows_in_its_task(self, dataverse: Server) -> None:
        dataverse.sandbox.deny("account")

        state = run(entities=["vin_candidate", "account", "contact"])

        assert state.is_failed()
        assert "account" in str(state.message)
        ends = {one.name: one.state_name for one in task_runs_of(state)}
        assert ends["sync account, contact"] == "PartlyFailed"

    def test_wrong_credentials_end_in_one_line_and_write_nothing(
        self, dataverse: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        assert dataverse.api_url
        monkeypatch.setenv("DATAVERSE_CLIENT_SECRET", "not-it")

        state = run(entities=FEW)

        with pytest.raises(AuthError, match="AADSTS7000215"):
            state.result()
        assert "\n" not in str(state.message)
        assert not (tmp_path / "copy.db").exists()
        lines = logs_of(state, "Finished in state Failed")
        assert all("login refused (invalid_client)" in line.message for line in lines)
        assert not any("Traceback" in line.message for line in lines)

    @pytest.mark.parametrize(
        ("parameters", "fault"),
        [
            ({"entities": ["vin_candidat"]}, "not in the package's own entities file: vin_candidat"),
            ({"entities_file": "nowhere.json"}, "nowhere.json: cannot be read"),
            ({"credentials": "nowhere"}, "no block dataverse-credentials/nowhere"),
            (
                {"credentials": "nowhere", "database": "neither", "entities": ["vin_candidat"]},
                "no block dataverse-credentials/nowhere.*no block sync-database/neither.*: vin_candidat;",
            ),
        ],
    )
    def test_unusable_parameters_are_refused(self, dataverse: Server, parameters: dict[str, Any], fault: str) -> None:
        with pytest.raises(ConfigError, match=fault):
            sync_dataverse(**parameters)
        assert dataverse.sandbox.log == []

    def test_every_fault_of_settings_folder_and_tables_is_told_at_once(
        self, dataverse: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("DATAVERSE_CLIENT_ID")
        monkeypatch.setenv("SQLITE_DB_PATH", "/nowhere/copy.db")

        with pytest.raises(ConfigError) as caught:
            sync_dataverse(entities=["vin_candidat"])

        assert [fault.split(" ")[0] for fault in caught.value.faults] == [
            "DATAVERSE_CLIENT_ID",
            "SQLITE_DB_PATH:",
            "entities:",
        ]
        assert dataverse.sandbox.log == []

    def test_two_runs_never_share_a_database(self, dataverse: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        """The first one waits for its rows until the second has ended, however long that takes."""
        is_reading, may_go_on = threading.Event(), threading.Event()
        answer = dataverse.sandbox.respond

        def hold(request: Request) -> Reply:
            if request.path.endswith("/vin_products"):
                is_reading.set()
                may_go_on.wait(120)
            return answer(request)

        monkeypatch.setattr(dataverse.sandbox, "respond", hold)
        first = in_thread(lambda: run(entities=FEW))
        assert is_reading.wait(120)

        second = run(entities=FEW)
        may_go_on.set()
        first.join()

        with pytest.raises(StoreBusy, match="this database is held by run"):
            second.result()


class TestRetries:
    @pytest.fixture(autouse=True)
    def _soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The client gives up at once, and Prefect tries again soon."""
        monkeypatch.setattr(tasks, "request_pace", lambda: Pace(attempts=1, first_attempts=1))
        monkeypatch.setattr("flows.sync_dataverse.request_pace", lambda: Pace(attempts=1, first_attempts=1))
        monkeypatch.setattr(tasks.sync_entity, "retry_delay_seconds", [0.05, 0.05, 0.05])

    @pytest.mark.parametrize("retryable", [True, False])
    def test_an_error_is_asked_whether_it_may_pass_however_deep_its_state_lies(self, *, retryable: bool) -> None:
        error = SyncError("for now")
        error.retryable = retryable
        state: State[Any] = Failed(data=Failed(data=error))

        assert tasks.is_retryable(tasks.sync_entity, cast("TaskRun", None), state) is retryable

    def test_a_retried_entity_goes_on_at_its_last_stored_page(self, dataverse: Server) -> None:
        dataverse.sandbox.faults.add(Fault(kind="status", match="vin_candidates?", retry_after_s=None))

        state = run(entities=["vin_candidate"], page_size=5)

        asked = [one for one in dataverse.sandbox.log if one.path.endswith("/vin_candidates")]
        starts = [one for one in asked if not one.query]
        (task_run,) = [one for one in task_runs_of(state) if one.name == "sync vin_candidate"]
        assert state.is_completed()
        assert task_run.run_count == 2
        assert [one.status for one in asked][:3] == [200, 503, 200]
        assert len(starts) == 1

    @pytest.mark.parametrize(
        "task",
        [
            tasks.authenticate,
            tasks.validate_schema,
            tasks.sync_entity,
            tasks.sync_related,
            tasks.verify_references,
        ],
    )
    def test_every_task_is_tried_again_with_jitter_and_kept_nowhere(self, task: Task[..., Any]) -> None:
        assert (task.retries, task.retry_jitter_factor) == (3, 0.5)
        assert task.retry_condition_fn is tasks.is_retryable
        assert task.cache_policy == NO_CACHE
        assert not task.persist_result

    def test_what_cannot_succeed_is_not_tried_again(self, dataverse: Server) -> None:
        dataverse.sandbox.deny("vin_candidate")

        state = run(entities=["vin_candidate"])

        (task_run,) = [one for one in task_runs_of(state) if one.name == "sync vin_candidate"]
        assert task_run.run_count == 1

    @pytest.mark.parametrize("times", [1, 99])
    def test_related_tables_are_tried_again_and_what_the_others_wrote_is_told(
        self, dataverse: Server, monkeypatch: pytest.MonkeyPatch, times: int
    ) -> None:
        monkeypatch.setattr(tasks.sync_related, "retry_delay_seconds", [0.05, 0.05, 0.05])
        dataverse.sandbox.faults.add(Fault(kind="status", match="accounts?$filter", times=times, retry_after_s=None))

        state = run(entities=["vin_candidate", "account", "contact"])

        report = report_of(state)
        (task_run,) = [one for one in task_runs_of(state) if one.name == "sync account, contact"]
        candidates, account, contact = report.entities
        assert (task_run.run_count, report.success) == ((2, True) if times == 1 else (4, False))
        assert task_run.state_name == ("Completed" if times == 1 else "Failed")
        assert contact.status == "completed"
        assert contact.added > 0
        if times == 1:
            assert account.added > 0
        else:
            assert account.status == "failed"
            assert "account: 503" in report.summary()
            assert f"{report.total('added'):,}" == f"{candidates.added + contact.added:,}"


class TestShown:
    def test_a_run_leaves_a_table_a_verdict_and_a_diagram(self, dataverse: Server) -> None:
        assert dataverse.api_url
        found = artifacts_of(run(verify_references=True))

        assert '"entity": "vin_candidate", "strategy": "delta"' in str(found["sync-report"].data)
        assert "# Schema check: passed" in str(found["schema-check"].data)
        references = str(found["reference-check"].data)
        assert "# Reference check: all lead to a record" in references
        assert "```mermaid\nflowchart LR\n" in references
        assert "  vin_candidates --> vin_diseases" in references
        assert "  vin_candidates <--> vin_countries" in references
        assert "vin_vin_candidate_vin_countryset" not in references
        counts = ["added", "updated", "closed", "unchanged", "requests", "seconds"]
        assert list(json.loads(str(found["sync-report"].data))[0]) == ["entity", "strategy", *counts]
        assert found["sync-progress"].data == 100.0

    def test_dangling_references_are_shown_announced_and_fail_the_run(self, dataverse: Server) -> None:
        organisation = dataverse.organisation
        pointed_at = next(
            target
            for key in organisation.keys("vin_candidate")
            if (target := organisation.record("vin_candidate", key).get("_vin_disease_value"))
        )
        dataverse.sandbox.hide("vin_disease", str(pointed_at))

        state = run(entities=FEW, verify_references=True)

        event = event_of("igh-sync.references.dangling", dataverse.api_url.removeprefix("https://"))
        assert state.is_failed()
        found = artifacts_of(state)["reference-check"].data
        assert ' dangling" .-> vin_diseases\n  linkStyle' in str(found)
        assert "vin_candidates._vin_disease_value" in event["payload"]["relations"]
        assert run(entities=FEW, verify_references=True, reference_tolerance=10_000).is_completed()

    def test_drift_is_announced_but_new_tables_are_not(self, dataverse: Server) -> None:
        run(entities=FEW)
        dataverse.organisation.add_column("vin_disease", "vin_fresh", "Edm.String")

        run(entities=FEW)

        event = event_of("igh-sync.schema.drift", dataverse.api_url.removeprefix("https://"))
        assert event["payload"]["entities"] == ["vin_disease"]
        assert event["payload"]["passed"] is True

    def test_each_table_is_an_asset_with_its_counts(self, dataverse: Server, tmp_path: Path) -> None:
        run(entities=["vin_rdstage"])

        event = event_of("prefect.asset.materialization.succeeded", f"{tmp_path}/copy.db/vin_rdstages")

        assert event["payload"]["added"] == dataverse.organisation.count("vin_rdstage")

    def test_a_long_entity_gets_a_bar_of_its_own(self, dataverse: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        assert dataverse.api_url
        monkeypatch.setattr(artifacts, "REFRESH_S", 0.0)

        found = artifacts_of(run(entities=["vin_candidate", "vin_region"], page_size=2))

        assert found["sync-vin-candidate"].data == 100.0
        assert "sync-vin-region" not in found

    def test_what_the_core_logs_stands_in_the_run(self, dataverse: Server) -> None:
        state = run(entities=["vin_region"])

        (line,) = logs_of(state, f"vin_region: {dataverse.organisation.count('vin_region')} added")

        assert line.task_run_id is not None

    def test_a_display_that_breaks_does_not_break_the_run(
        self, dataverse: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert dataverse.api_url

        def broken(*_: object, **__: object) -> None:
            msg = "no artifacts today"
            raise RuntimeError(msg)

        for name in ("create_table_artifact", "create_markdown_artifact", "create_progress_artifact"):
            monkeypatch.setattr(artifacts, name, broken)

        state = run(entities=FEW)

        assert state.is_completed()
        assert logs_of(state, "show_run could not be shown")


@pytest.mark.e2e
def test_a_limit_shared_by_all_workers_holds_back_requests(
    dataverse: Server, prefect_api: PrefectServer, tmp_path: Path
) -> None:
    """In a process of its own: Prefect's concurrency service knows only settings of the whole process."""
    one_slot = {"names": [LIMIT], "slots": 1, "mode": "concurrency"}
    call = "from flows.sync_dataverse import sync_dataverse; sync_dataverse(entities=['vin_region'])"
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(LIMIT, 1)
        try:
            client.request("POST", "/v2/concurrency_limits/increment", json=one_slot)
            with running([sys.executable, "-c", call], prefect_api.environment(), tmp_path / "log") as process:
                wait_for(lambda: "Beginning flow run" in (tmp_path / "log").read_text())
                time.sleep(2)
                asked = list(dataverse.sandbox.log)
                client.request("POST", "/v2/concurrency_limits/decrement", json=one_slot | {"occupancy_seconds": 0.1})
                status = process.wait(90)
        finally:
            client.delete_global_concurrency_limit_by_name(LIMIT)

    assert asked == []
    assert status == 0, (tmp_path / "log").read_text()
    assert rows(tmp_path / "copy.db", "vin_regions")
