"""What a copy holds, in a form that is equal for equal histories, whatever the engine and whoever wrote it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select

from igh_sync_core.config import Config
from igh_sync_core.config.entities import EntityConfig, load_entity_configs
from igh_sync_core.schema.tables import entity_tables
from igh_sync_core.store.database import Database
from igh_sync_core.workflow import attached, kept_specs


def chosen(names: Sequence[str]) -> list[EntityConfig]:
    """The entities of these logical names."""
    return [entity for entity in load_entity_configs() if entity.name in names]


def copied(config: Config, names: Sequence[str]) -> Mapping[str, list[tuple[str, ...]]]:
    """Every version by table, sorted: key, from, to, why closed, and the whole record; what is doubled shows."""
    with attached(config, "reading") as run:
        specs = kept_specs(run, chosen(names))
    found: dict[str, list[tuple[str, ...]]] = {}
    for spec in specs:
        main = entity_tables(spec).main
        wanted = [main.c[name] for name in (spec.key, "valid_from", "valid_to", "closed_reason", "json_response")]
        with Database(config).connection() as conn:
            rows = conn.execute(select(*wanted))
            found[spec.entity_set] = sorted((*map(str, row[:4]), _canonical(row[4])) for row in rows)
    return found


def _canonical(record: str | dict[str, Any]) -> str:
    """SQLite keeps the text, PostgreSQL the values."""
    return json.dumps(json.loads(record) if isinstance(record, str) else record, sort_keys=True)
