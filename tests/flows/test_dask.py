"""The same flow on a Dask cluster of two processes: tasks share nothing but names, and the copy is equal."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from prefect_dask import DaskTaskRunner
from prefect_processes import PrefectServer
from sqlalchemy import select

from flows.sync_dataverse import sync_dataverse
from igh_sync_core.config import load_config
from igh_sync_core.database import Database
from igh_sync_core.entities import load_entity_configs
from igh_sync_core.tables import entity_tables
from igh_sync_core.workflow import attached, kept_specs

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.usefixtures("prefect_api"),
    # Dask leaves sockets and files of its own to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


def copied(names: list[str]) -> Mapping[str, set[tuple[str, ...]]]:
    """Every version by table: key, from, to, why closed, and the whole record."""
    config = load_config()
    chosen = [entity for entity in load_entity_configs() if entity.name in names]
    with attached(config, "reading") as run:
        specs = kept_specs(run, chosen)
    found: dict[str, set[tuple[str, ...]]] = {}
    for spec in specs:
        main = entity_tables(spec).main
        wanted = [main.c[name] for name in (spec.key, "valid_from", "valid_to", "closed_reason", "json_response")]
        with Database(config).connection() as conn:
            found[spec.entity_set] = {(*map(str, row[:4]), _canonical(row[4])) for row in conn.execute(select(*wanted))}
    return found


def _canonical(record: str | dict[str, Any]) -> str:
    """SQLite keeps the text, PostgreSQL the values."""
    return json.dumps(json.loads(record) if isinstance(record, str) else record, sort_keys=True)


@pytest.mark.usefixtures("dataverse")
def test_two_processes_make_the_same_copy_as_one(
    prefect_api: PrefectServer, monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> None:
    entities = ["vin_candidate", "vin_product", "vin_disease", "vin_rdstage", "account", "contact"]
    alone = sync_dataverse(entities=entities)
    expected = copied(entities)
    monkeypatch.setenv("POSTGRES_CONNECTION_STRING", postgres_url)
    for name, value in prefect_api.environment().items():
        monkeypatch.setenv(name, value)
    cluster = {"n_workers": 2, "threads_per_worker": 2, "processes": True, "dashboard_address": None}
    on_dask = sync_dataverse.with_options(task_runner=DaskTaskRunner(cluster_kwargs=cluster))  # type: ignore[arg-type]  # as in the flow

    report = on_dask(entities=entities)

    assert [(one.entity, one.added) for one in report.entities] == [(one.entity, one.added) for one in alone.entities]
    assert copied(entities) == expected
