"""The same flow on a Dask cluster of two processes: tasks share nothing but names, and the copy is equal."""

import gc
from collections.abc import Iterator

import pytest
from prefect_dask import DaskTaskRunner
from prefect_processes import PrefectServer
from stored import copied

from flows.sync_dataverse import sync_dataverse
from igh_sync_core.config import load_config

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.usefixtures("prefect_api"),
    # Dask leaves sockets and files of its own to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def nothing_left_for_other_tests() -> Iterator[None]:
    yield
    gc.collect()


@pytest.mark.usefixtures("dataverse")
def test_two_processes_make_the_same_copy_as_one(
    prefect_api: PrefectServer, monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> None:
    entities = ["vin_candidate", "vin_product", "vin_disease", "vin_rdstage", "account", "contact"]
    alone = sync_dataverse(entities=entities)
    expected = copied(load_config(), entities)
    monkeypatch.setenv("POSTGRES_CONNECTION_STRING", postgres_url)
    for name, value in prefect_api.environment().items():
        monkeypatch.setenv(name, value)
    cluster = {"n_workers": 2, "threads_per_worker": 2, "processes": True, "dashboard_address": None}
    on_dask = sync_dataverse.with_options(task_runner=DaskTaskRunner(cluster_kwargs=cluster))  # type: ignore[arg-type]  # as in the flow

    report = on_dask(entities=entities)

    assert [(one.entity, one.added) for one in report.entities] == [(one.entity, one.added) for one in alone.entities]
    assert copied(load_config(), entities) == expected
