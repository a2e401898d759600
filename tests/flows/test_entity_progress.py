"""The bar of one long entity, without a server to show it."""

import pytest

from flows import artifacts
from flows.artifacts import EntityProgress
from igh_sync_core.sync.run import Progress


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, str]]:
    """Percent and text of each time that a bar is shown."""
    found: list[tuple[float, str]] = []

    def create(percent: float, *, key: str, description: str) -> str:
        found.append((percent, description))
        return key

    monkeypatch.setattr(artifacts, "create_progress_artifact", create)
    monkeypatch.setattr(
        artifacts,
        "update_progress_artifact",
        lambda key, percent, description: create(percent, key=key, description=description),
    )
    monkeypatch.setattr(artifacts, "REFRESH_S", 0.0)
    return found


def read_pages(progress: EntityProgress) -> None:
    for number in range(1, 7):
        progress(Progress("account", number * 100, is_done=number == 6))


def test_records_are_shown_as_part_of_those_there_are(shown: list[tuple[float, str]]) -> None:
    read_pages(EntityProgress("account", lambda: 800))

    assert shown == [
        (50.0, "account: 400 of about 800 records"),
        (62.5, "account: 500 of about 800 records"),
        (100.0, "account: 600 of about 800 records"),
    ]


@pytest.mark.parametrize("counts", [{}, {"account": 0}])
def test_where_nobody_can_count_that_is_asked_once_and_rows_are_shown_without_a_total(
    counts: dict[str, int], shown: list[tuple[float, str]], caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def count() -> int:
        asked.append("account")
        return counts["account"]

    read_pages(EntityProgress("account", count))

    assert asked == ["account"]
    assert shown == [(0.0, "account: 400 records"), (0.0, "account: 500 records"), (100.0, "account: 600 records")]
    assert len(caplog.records) == 1 - len(counts)
