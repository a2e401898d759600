"""Where some of what is asked of each table by itself may not be read, and some may."""

from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from copies import IMPATIENT, Copy, entities
from shaping import NOON

from igh_sync_core import workflow
from igh_sync_core.config import Config
from igh_sync_core.report import RunReport
from igh_sync_core.sandbox import Organisation, Sandbox, health_organisation
from igh_sync_core.sync.options import Options
from igh_sync_core.webapi.client import Client

NAMES = ("vin_candidate", "vin_disease", "systemuser")
REFUSAL = {"error": {"code": "0x80040220", "message": "SecLib::CheckPrivilege failed. PrivilegeName: prvReadEntity"}}


@pytest.fixture
def organisation() -> Organisation:
    made = health_organisation(300)
    made.clock.set(NOON)
    return made


class Strict:
    """Stands before a sandbox: refuses what is asked at addresses with all of some parts."""

    def __init__(self, sandbox: Sandbox, *refused: str) -> None:
        self.sandbox, self.refused = sandbox, refused

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if all(part in str(request.url) for part in self.refused):
            return httpx.Response(403, json=REFUSAL)
        return self.sandbox.handle(request)

    def run(self, copy: Copy) -> RunReport:
        def connect(config: Config) -> Client:
            return Client(config, transport=httpx.MockTransport(self), pace=IMPATIENT)

        return workflow.run_workflow(copy.config, copy.selection, Options(connect=connect))


def described(copy: Copy) -> list[tuple[object, ...]]:
    """All that is known of each table."""
    return copy.rows_of("SELECT name, value FROM _sync_metadata WHERE name LIKE 'entity:%' ORDER BY name")


@pytest.mark.parametrize(
    ("refused", "without_options"),
    [
        (("LookupAttributeMetadata",), set[str]()),
        (("PicklistAttributeMetadata",), {*NAMES}),
        (("Attributes/", "vin_candidate'"), {"vin_candidate"}),
    ],
)
def test_a_refusal_of_some_columns_costs_a_question_a_run_and_takes_nothing_from_others(
    organisation: Organisation, tmp_path: Path, refused: Sequence[str], without_options: set[str]
) -> None:
    copy = Copy(organisation, {"sqlite_db_path": str(tmp_path / "copy.db")}, entities(*NAMES))
    guard = Strict(copy.sandbox, *refused)
    first = guard.run(copy)
    known = described(copy)
    lacking = {name for name, value in known if '"has_options":true' not in str(value)}
    second = guard.run(copy)

    assert lacking <= {f"entity:{name}" for name in without_options}
    assert bool(lacking) is bool(without_options)
    assert len([note for note in first.notes if note.startswith("metadata of columns")]) == 1
    assert second.requests - sum(one.requests for one in second.entities) == 2, "the organisation, and the one refused"
    assert described(copy) == known


def test_what_was_refused_and_may_be_read_now_is_learnt(organisation: Organisation, tmp_path: Path) -> None:
    copy = Copy(organisation, {"sqlite_db_path": str(tmp_path / "copy.db")}, entities(*NAMES))
    Strict(copy.sandbox, "LookupAttributeMetadata").run(copy)
    copy.sync()
    fresh = Copy(organisation, {"sqlite_db_path": str(tmp_path / "fresh.db")}, copy.selection)
    fresh.sync()

    assert described(copy) == described(fresh)
