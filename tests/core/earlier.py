"""Writes a file as the program did that this one replaces: its tables, its forms of time, its known faults."""

# ruff: noqa: S608 - that program pasted its SQL together, and so does its likeness

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from igh_sync_core.config import Config
from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.sandbox import Organisation, Sandbox
from igh_sync_core.sandbox.data.schema import Column, Kind
from igh_sync_core.sandbox.http.service import CLIENT_ID, CLIENT_SECRET
from igh_sync_core.webapi.client import Client

LABEL = "@OData.Community.Display.V1.FormattedValue"
TARGET = "@Microsoft.Dynamics.CRM.lookuplogicalname"
TYPES = {
    "Edm.Int16": "INTEGER",
    "Edm.Int32": "INTEGER",
    "Edm.Int64": "INTEGER",
    "Edm.Boolean": "INTEGER",
    "Edm.Decimal": "REAL",
    "Edm.Double": "REAL",
}
CONTROL = """
CREATE TABLE _sync_state (entity_name TEXT PRIMARY KEY, state TEXT, last_sync_time TEXT, last_timestamp TEXT,
    records_count INTEGER);
CREATE TABLE _sync_log (id INTEGER PRIMARY KEY AUTOINCREMENT, entity_name TEXT, start_time TEXT, end_time TEXT,
    records_added INTEGER, records_updated INTEGER, status TEXT, error_message TEXT);
"""


@dataclass
class EarlierProgram:
    """One full sync by the program before this one.

    Attributes:
        organisation: What it copies.
        path: The file it writes.
        keeps_targets: Whether it had asked for the types of lookups too, or for labels alone.
    """

    organisation: Organisation
    path: Path
    keeps_targets: bool = True

    def __post_init__(self) -> None:
        self._file = sqlite3.connect(self.path)
        self._file.executescript(CONTROL)
        self._now = self.organisation.clock.now().replace(microsecond=123_456).isoformat()

    def write(self, entities: Sequence[EntityConfig], *, without: Sequence[str] = ()) -> None:
        """Copy *entities*, leaving out the columns *without*."""
        sandbox = Sandbox(self.organisation)
        config = Config("https://org.crm.dynamics.com", CLIENT_ID, CLIENT_SECRET, "")
        with Client(config, transport=httpx.MockTransport(sandbox.handle)) as client, self._file:
            for entity in entities:
                pages = client.channel(entity.name).pages(config.api_root + entity.api_name)
                records = [json.loads(bytes(raw)) for fetched in pages for raw in fetched.page.value]
                shape = self.organisation.tables[entity.name].shape
                columns = [column for column in shape.columns if column.name not in without]
                self._create(entity.api_name, columns)
                for record in records:
                    self._insert(entity.api_name, columns, record, shape.key)
                self._log(entity.api_name, records)
        self._file.close()

    def _create(self, table: str, columns: Sequence[Column]) -> None:
        declared = ", ".join(f"{column.name} {TYPES.get(column.edm, 'TEXT')}" for column in columns)
        self._file.execute(
            f"CREATE TABLE {table} (row_id INTEGER PRIMARY KEY AUTOINCREMENT, {declared}, json_response TEXT NOT NULL, "
            "sync_time TEXT NOT NULL, valid_from TEXT, valid_to TEXT)"
        )
        for name in ("valid_to", columns[0].name):
            self._file.execute(f"CREATE INDEX idx_{table}_{name} ON {table} ({name})")

    def _insert(self, table: str, columns: Sequence[Column], record: dict[str, Any], key: str) -> None:
        kept = {
            name: value
            for name, value in record.items()
            if not name.startswith("@odata.") and (self.keeps_targets or not name.endswith(TARGET))
        }
        start = record.get("modifiedon") or self._now
        values = [_stored(column, record.get(column.name)) for column in columns]
        values += [json.dumps(kept, sort_keys=True), self._now, start, None]
        names = [*(column.name for column in columns), "json_response", "sync_time", "valid_from", "valid_to"]
        places = ", ".join("?" * len(names))
        self._file.execute(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places})", values)
        for column in columns:
            for code, label in _labelled(column, record):
                self._note(table, column, code, label, (record[key], start))

    def _note(self, table: str, column: Column, code: int, label: str, version: tuple[str, str]) -> None:
        options = f"_optionset_{column.name}"
        self._file.execute(
            f"CREATE TABLE IF NOT EXISTS {options} (code INTEGER PRIMARY KEY, label TEXT NOT NULL, "
            "first_seen TEXT NOT NULL)"
        )
        self._file.execute(f"INSERT OR IGNORE INTO {options} VALUES (?, ?, ?)", (code, label, self._now))
        if column.kind is Kind.MULTISELECT:
            junction = f"_junction_{table}_{column.name}"
            self._file.execute(
                f"CREATE TABLE IF NOT EXISTS {junction} (junction_id INTEGER PRIMARY KEY AUTOINCREMENT, "
                "entity_id TEXT NOT NULL, option_code INTEGER NOT NULL, valid_from TEXT NOT NULL, valid_to TEXT, "
                f"FOREIGN KEY (option_code) REFERENCES {options} (code))"
            )
            row = (version[0], code, version[1])
            self._file.execute(f"INSERT INTO {junction} (entity_id, option_code, valid_from) VALUES (?, ?, ?)", row)

    def _log(self, table: str, records: Sequence[dict[str, Any]]) -> None:
        latest = max((record["modifiedon"] for record in records if record.get("modifiedon")), default=None)
        state = (table, "completed", self._now, latest, len(records))
        self._file.execute("INSERT INTO _sync_state VALUES (?, ?, ?, ?, ?)", state)
        line = (table, self._now, self._now, len(records), 0, "completed", None)
        self._file.execute(
            "INSERT INTO _sync_log (entity_name, start_time, end_time, records_added, records_updated, status, "
            "error_message) VALUES (?, ?, ?, ?, ?, ?, ?)",
            line,
        )


def _stored(column: Column, value: Any) -> Any:
    if column.kind is Kind.MULTISELECT and value and "," in value:
        return None
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


def _labelled(column: Column, record: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """What it took for options: whatever number came with a label."""
    value, label = record.get(column.name), record.get(column.name + LABEL)
    if value is None or label is None:
        return
    if column.kind is Kind.MULTISELECT:
        codes = value.split(",")
        yield from ((int(code), text) for code, text in zip(codes, label.split("; "), strict=True))
    elif isinstance(value, int | float):
        yield int(value), label
