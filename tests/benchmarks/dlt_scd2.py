"""Contestant: dlt's REST source and its ``scd2`` merge into SQLite, set up as its documentation shows.

Lives in a virtual environment with dlt and without this package. Related entities, which it cannot find by itself, are
not asked of it, and it keeps no JSON. Without ``--labels`` it asks for no labels and targets either, so it has less
than half to read; with them it reads the same pages.
"""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import dlt  # type: ignore[import-not-found]  # lives in the other virtual environment
from dlt.destinations import sqlalchemy  # type: ignore[import-not-found]
from dlt.sources.helpers import requests  # type: ignore[import-not-found]
from dlt.sources.rest_api import rest_api_source  # type: ignore[import-not-found]

from .worker import serve

PAGE_SIZE_ROWS = 5_000
PATIENCE_S = 600
LABELS = "--labels"


def sync(_workload: str) -> dict[str, int]:
    """One run over the entity sets of the command line; dlt knows each time what it loaded before."""
    wishes, names = [word for word in sys.argv if word == LABELS], [word for word in sys.argv[1:] if word != LABELS]
    folder = Path(os.environ["SQLITE_DB_PATH"]).parent
    pipeline = dlt.pipeline(
        pipeline_name="dataverse",
        pipelines_dir=str(folder / "pipelines"),
        # Its loaders write side by side; with the driver's own patience of 5 seconds, large loads ended with an error.
        destination=sqlalchemy(f"sqlite:///{os.environ['SQLITE_DB_PATH']}?timeout={PATIENCE_S}"),
        dataset_name="main",
    )
    pipeline.run(_source(os.environ["DATAVERSE_API_URL"], names, with_labels=bool(wishes)))
    loaded = pipeline.last_trace.last_normalize_info.row_counts
    return {"rows": sum(count for table, count in loaded.items() if not table.startswith("_dlt"))}


def _source(origin: str, entity_sets: list[str], *, with_labels: bool) -> Any:
    prefer = f"odata.maxpagesize={PAGE_SIZE_ROWS}" + (',odata.include-annotations="*"' if with_labels else "")
    source = rest_api_source(
        {
            "client": {
                "base_url": f"{origin}/api/data/v9.2/",
                "auth": {"type": "bearer", "token": _token(origin)},
                "headers": {"Prefer": prefer, "Accept": "application/json"},
                "paginator": {"type": "json_link", "next_url_path": "['@odata.nextLink']"},
            },
            "resource_defaults": {"write_disposition": {"disposition": "merge", "strategy": "scd2"}},
            "resources": [{"name": name, "endpoint": {"path": name, "data_selector": "value"}} for name in entity_sets],
        }
    )
    source.max_table_nesting = 0
    return source


def _token(origin: str) -> str:
    session = requests.Session(raise_for_status=False)
    challenge = session.get(f"{origin}/api/data/v9.2/").headers["www-authenticate"]
    authority = re.findall(r"authorization_uri=(\S+)/oauth2", challenge)[0]
    form = {
        "grant_type": "client_credentials",
        "client_id": os.environ["DATAVERSE_CLIENT_ID"],
        "client_secret": os.environ["DATAVERSE_CLIENT_SECRET"],
        "scope": f"{origin}/.default",
    }
    return str(json.loads(session.post(f"{authority}/oauth2/v2.0/token", data=form).text)["access_token"])


if __name__ == "__main__":
    serve(sync)
