"""SIGKILL at random moments, of the real command over real HTTPS: what is left is as if nothing had happened."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from scenario import chase_under_kills, compare_under_kills, served

from igh_sync_core.sandbox import Server

pytestmark = pytest.mark.e2e


@pytest.fixture
def server() -> Iterator[Server]:
    with served() as running:
        yield running


def test_a_history_made_under_kills_equals_an_undisturbed_one(
    server: Server, database_settings: dict[str, str], other_settings: dict[str, str], tmp_path: Path
) -> None:
    killed = compare_under_kills(server, (database_settings, other_settings), tmp_path, kills=33, seed=1)

    assert killed.kills >= 33


def test_a_source_that_moves_between_kills_is_copied_completely(
    server: Server, database_settings: dict[str, str], tmp_path: Path
) -> None:
    killed = chase_under_kills(server, database_settings, tmp_path, kills=12, seed=2)

    assert killed.kills >= 12
