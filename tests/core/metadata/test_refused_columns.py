"""Where some of what is asked of each table by itself may not be read, and some may."""

from pathlib import Path

import pytest
from copies import Copy, at_noon, entities
from guards import Guard

NAMES = ("vin_candidate", "vin_disease", "systemuser")


def described(copy: Copy) -> list[tuple[object, ...]]:
    """All that is known of each table."""
    return copy.rows_of("SELECT name, value FROM _sync_metadata WHERE name LIKE 'entity:%' ORDER BY name")


@pytest.mark.parametrize(
    ("refused", "without_options"),
    [
        ("LookupAttributeMetadata", set[str]()),
        ("PicklistAttributeMetadata", {*NAMES}),
        ("vin_candidate'.*Attributes/", {"vin_candidate"}),
    ],
)
def test_a_refusal_of_some_columns_costs_a_question_a_run_and_takes_nothing_from_others(
    tmp_path: Path, refused: str, without_options: set[str]
) -> None:
    copy = Copy(at_noon(300), {"sqlite_db_path": str(tmp_path / "copy.db")}, entities(*NAMES))
    guard = Guard(copy.sandbox, refused=refused)
    first = guard.run(copy)
    known = described(copy)
    lacking = {name for name, value in known if '"has_options":true' not in str(value)}
    second = guard.run(copy)

    assert lacking <= {f"entity:{name}" for name in without_options}
    assert bool(lacking) is bool(without_options)
    assert len([note for note in first.notes if note.startswith("metadata of columns")]) == 1
    assert second.requests - sum(one.requests for one in second.entities) == 2, "the organisation, and the one refused"
    assert described(copy) == known


def test_what_was_refused_and_may_be_read_now_is_learnt(tmp_path: Path) -> None:
    organisation = at_noon(300)
    copy = Copy(organisation, {"sqlite_db_path": str(tmp_path / "copy.db")}, entities(*NAMES))
    Guard(copy.sandbox, refused="LookupAttributeMetadata").run(copy)
    copy.sync()
    fresh = Copy(organisation, {"sqlite_db_path": str(tmp_path / "fresh.db")}, copy.selection)
    fresh.sync()

    assert described(copy) == described(fresh)
