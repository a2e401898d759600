"""Several tries of one run's related tables, told as one."""

from collections.abc import Callable
from uuid import uuid4

import pytest

from flows.tries import tried
from igh_sync_core.errors import SchemaError, StoreUnavailable
from igh_sync_core.report import EntityReport


def completed(name: str, added: int = 0) -> EntityReport:
    return EntityReport(entity=name, table=f"{name}s", added=added)


def failed(name: str, error: str, *, retryable: bool) -> EntityReport:
    return EntityReport(entity=name, table=f"{name}s", status="failed", error=error, retryable=retryable)


def not_begun() -> list[EntityReport]:
    message = "the database is away"
    raise StoreUnavailable(message)


def tries(*works: Callable[[], list[EntityReport]]) -> list[EntityReport]:
    """What the last of them tells; all of one run."""
    run_id = uuid4().hex
    return [tried(run_id, work) for work in works][-1]


def test_one_that_does_not_begin_leaves_what_was_done_and_what_cannot_succeed() -> None:
    first = [completed("a", 5), failed("b", "503", retryable=True), failed("c", "its type changed", retryable=False)]
    done, again, broken = tries(lambda: first, not_begun)

    assert (done, broken) == (first[0], first[2])
    assert (again.status, again.error, again.retryable) == ("failed", "the database is away", True)


def test_one_that_begins_after_it_tells_of_all_of_them() -> None:
    first = [completed("a", 5), failed("b", "503", retryable=True)]
    reports = tries(lambda: first, not_begun, lambda: [completed("a"), completed("b", 3)])

    assert reports == [completed("a", 5), completed("b", 3)]


def test_a_table_more_than_in_the_try_before_is_told_as_it_is() -> None:
    reports = tries(lambda: [completed("a", 5)], lambda: [completed("a", 1), completed("b", 3)])

    assert reports == [completed("a", 6), completed("b", 3)]


def test_the_first_one_that_does_not_begin_and_one_that_never_will_are_errors() -> None:
    def never() -> list[EntityReport]:
        message = "its key changed"
        raise SchemaError(message)

    with pytest.raises(StoreUnavailable):
        tries(not_begun)
    with pytest.raises(SchemaError):
        tries(lambda: [failed("b", "503", retryable=True)], never)
