"""A turn at the limit, where Prefect's server fails for a moment."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import httpx
import pytest
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from wires import URL, Feed, Time, channel_to

from flows import limits
from igh_sync_core.errors import RequestRejected


class Server:
    """Gives turns, each as it is told: "" to do well, else where it fails."""

    def __init__(self, *courses: str) -> None:
        self._courses = [*courses]
        self.held = 0

    def __call__(self, name: str) -> AbstractContextManager[None]:
        assert name == limits.LIMIT
        return self._turn(self._courses.pop(0))

    @contextmanager
    def _turn(self, course: str) -> Iterator[None]:
        if course == "taking":  # as Prefect tells it
            raise ConcurrencySlotAcquisitionError(course) from httpx.ReadTimeout(course)
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1
            if course == "giving back":
                raise httpx.ReadTimeout(course)


def pace(monkeypatch: pytest.MonkeyPatch, *courses: str) -> tuple[Server, Time]:
    server = Server(*courses)
    monkeypatch.setattr(limits, "concurrency", server)
    return server, Time()


def test_a_turn_that_is_not_to_be_had_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    server, time = pace(monkeypatch, "taking", "")
    with channel_to(Feed(), pace=time.pace(turnstile=limits.turn)) as (channel, _):  # type: ignore[arg-type]
        assert channel.get(URL).status == httpx.codes.OK

    assert (channel.requests, len(time.sleeps), server.held) == (1, 1, 0)


def test_a_turn_that_cannot_be_given_back_loses_no_reply(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, time = pace(monkeypatch, "giving back")
    with (
        caplog.at_level(logging.WARNING),
        channel_to(Feed(), pace=time.pace(turnstile=limits.turn)) as (channel, _),  # type: ignore[arg-type]
    ):
        assert channel.get(URL).status == httpx.codes.OK

    assert "was not given back" in caplog.text


@pytest.mark.parametrize("course", ["", "giving back"])
def test_what_the_request_ends_with_comes_through(monkeypatch: pytest.MonkeyPatch, course: str) -> None:
    server, time = pace(monkeypatch, course)
    feed = Feed()
    feed.queue = [httpx.Response(404)]
    with (
        channel_to(feed, pace=time.pace(turnstile=limits.turn)) as (channel, _),  # type: ignore[arg-type]
        pytest.raises(RequestRejected),
    ):
        channel.get(URL)

    assert server.held == 0
