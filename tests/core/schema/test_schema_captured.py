"""Real metadata and real pages, on both engines."""

import json
from datetime import UTC
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from shaping import Store
from sqlalchemy import MetaData, Table, select

from igh_sync_core.metadata import Csdl, build_spec, definition_from_csdl, parse_csdl
from igh_sync_core.model import Kind, LogicalName, TableSpec
from igh_sync_core.store.database import Database


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)


@pytest.fixture(scope="session")
def captured(captures: Path) -> Csdl:
    with (captures / "csdl" / "online_crm4_v9.1_2020-09.xml").open("rb") as file:
        return parse_csdl(iter(lambda: file.read(65_536), b""))


def captured_spec(csdl: Csdl, name: str) -> TableSpec:
    return build_spec(csdl, definition_from_csdl(csdl, LogicalName(name)))


def test_every_table_of_a_real_environment_is_made_and_fits(store: Store, captured: Csdl) -> None:
    names = [name for name in captured.types if name in captured.sets_by_type and captured.key(name)]
    specs = [captured_spec(captured, name) for name in names]

    applied = store.become(*specs)
    verdict = store.judge(*specs)

    assert len(specs) > 250
    assert applied.failed == ()
    assert len(applied.made) == len(specs)
    assert verdict.findings == ()


@pytest.mark.parametrize(("name", "page"), [("account", "tf_get_account.json"), ("role", "tf_roles.json")])
def test_real_pages_land_with_every_value_intact(
    store: Store, captured: Csdl, captures: Path, name: str, page: str
) -> None:
    raw = _records((captures / "pages" / page).read_bytes())
    records = [json.loads(bytes(record), parse_float=Decimal) for record in raw]
    spec = captured_spec(captured, name)
    store.become(spec)

    store.write(spec, *raw, new=True)

    with store.database.writing() as conn:
        stored = Table(spec.entity_set, MetaData(), autoload_with=conn)
        rows = conn.execute(select(stored).order_by(stored.c.row_id)).mappings().all()
    assert len(rows) == len(records)
    if not store.database.is_postgres:
        assert [row["json_response"].encode() for row in rows] == [bytes(record) for record in raw]
    for record, row in zip(records, rows, strict=True):
        for column in spec.columns:
            if column.name in record:
                assert _same(row[column.name], record[column.name], column.kind), column.name


def _records(page: bytes) -> list[Raw]:
    """The records of a page, or the one that a reply is."""
    members = msgspec.json.decode(page, type=dict[str, Raw])
    return msgspec.json.decode(members["value"], type=list[Raw]) if "value" in members else [Raw(page)]


def _same(stored: Any, sent: Any, kind: Kind) -> bool:
    if sent is None or stored is None:
        return stored is sent
    if isinstance(stored, float):
        return stored == float(sent)
    return bool(_COMPARED.get(kind, _plain)(stored) == (str(sent) if kind is Kind.DECIMAL else sent))


def _plain(stored: Any) -> Any:
    return stored


_COMPARED = {
    Kind.GUID: str,
    Kind.DECIMAL: str,
    Kind.COMPLEX: lambda stored: json.loads(stored) if isinstance(stored, str) else stored,
    Kind.DATETIME: lambda stored: stored if isinstance(stored, str) else f"{stored.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
    Kind.DATE: str,
}
"""How a stored value becomes what the Web API sent."""
