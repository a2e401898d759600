"""How fast to ask: how many requests at once, how long to rest, how many rows per page.

The gate is shared by all threads of a process, since the server counts per user; the page size belongs to one entity.
Source: https://learn.microsoft.com/power-apps/developer/data-platform/api-limits
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from threading import Condition, Event, Lock

from tenacity import RetryCallState

from igh_sync_core.errors import Interrupted, SourceUnavailable
from igh_sync_core.webapi.odata import MAX_PAGE_SIZE

MAX_WIDTH = 52
"""Requests at once that the server allows one user."""

_CLEAN_REPLIES = 10
_CLEAN_PAGES = 8
_SMALLEST_PAGE = 50
_OBJECT_BYTES = 600
"""What a record takes in memory beside its text, so that pages of many small records are no heavier than others."""
_TOLERANCE = 1.25
_THROTTLED = 429


@dataclass(frozen=True)
class Pace:
    """How hard to try and how wide to go; the clock and the sleep are here so that tests need neither.

    Attributes:
        total_s: Seconds from a request's own first failure until it is given up; also the longest rest that is obeyed.
        attempts: Tries of one request at most.
        first_attempts: The same while the server has never answered: a wrong address should fail soon.
        longest_wait_s: Ceiling of the growing waits between tries, where the server names none.
        width: Requests at once before the server gives a hint of its own.
        page_bytes: Size that pages should have, as text and objects.
        clock: Seconds, only ever forward.
        wait: Sleep that ends early when the event is set.
        turnstile: A further place that each request holds, such as one shared by several machines; where it is not to
            be had, it raises ``SourceUnavailable``, and the request is tried again.
    """

    total_s: float = 300.0
    attempts: int = 10
    first_attempts: int = 3
    longest_wait_s: float = 60.0
    width: int = 8
    page_bytes: int = 1_800_000
    clock: Callable[[], float] = time.monotonic
    wait: Callable[[Event, float], object] = Event.wait
    turnstile: Callable[[], AbstractContextManager[object]] = nullcontext


class Gate:
    """Lets so many requests through at once, and none while the server wants rest."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._turn = Condition()
        self._ceiling = self._width = max(1, min(pace.width, MAX_WIDTH))
        self._inside = 0
        self._clean = 0
        self._epoch = 0
        self._open_at = 0.0

    @contextmanager
    def slot(self, abandoned: Event) -> Iterator[None]:
        """One request's place; waits for a turn, and learns from how the request ends.

        Raises:
            Interrupted: Nobody wants the reply any more.
        """
        epoch = self._enter(abandoned)
        try:
            yield
        except SourceUnavailable as error:
            self._rest(error, epoch)
            raise
        else:
            self._grow()
        finally:
            self._leave()

    def heed(self, hint: str | None) -> None:
        """Take the server's ``x-ms-dop-hint`` as the width to grow to; anything but a number is ignored."""
        if hint and hint.strip().isdecimal():
            with self._turn:
                self._ceiling = max(1, min(int(hint), MAX_WIDTH))
                self._width = min(self._width, self._ceiling)

    def _enter(self, abandoned: Event) -> int:
        try:
            return self._find_place(abandoned)
        except BaseException:
            with self._turn:
                self._turn.notify()  # it may have been this one's turn
            raise

    def _find_place(self, abandoned: Event) -> int:
        while not abandoned.is_set():
            with self._turn:
                rest_s = self._open_at - self._pace.clock()
                if rest_s <= 0 and self._inside < self._width:
                    self._inside += 1
                    return self._epoch
                if rest_s <= 0:
                    self._turn.wait(1.0)
            if rest_s > 0:
                self._pace.wait(abandoned, rest_s)
        raise Interrupted

    def _rest(self, error: SourceUnavailable, epoch: int) -> None:
        """Everybody rests; the width halves once for all requests that were under way together."""
        with self._turn:
            rest_s = min(error.retry_after_s or 0.0, self._pace.total_s)
            self._open_at = max(self._open_at, self._pace.clock() + rest_s)
            self._clean = 0
            if error.status == _THROTTLED and epoch == self._epoch:
                self._width = max(1, self._width // 2)
                self._epoch += 1

    def _grow(self) -> None:
        with self._turn:
            self._clean += 1
            if self._clean >= _CLEAN_REPLIES:
                self._clean = 0
                self._width = min(self._width + 1, self._ceiling)

    def _leave(self) -> None:
        with self._turn:
            self._inside -= 1
            # As many as there are places now: each of the others would only take Python's lock to find none.
            self._turn.notify(max(0, self._width - self._inside))


class PageSize:
    """Rows per page: as many as make a page of the right size, and fewer for a while where pages are too slow.

    Args:
        rows: At most so many.
        page_bytes: The right size.
        row_bytes: Size of a record as expected; 0 where pages begin with as many rows as may be.
    """

    def __init__(self, rows: int, *, page_bytes: int, row_bytes: int = 0) -> None:
        self._most = max(1, min(rows, MAX_PAGE_SIZE))
        self._page_bytes = page_bytes
        self._lock = Lock()
        self._clean = 0
        self._is_slow = False
        self.current = self._within(page_bytes // (row_bytes + _OBJECT_BYTES)) if row_bytes else self._most

    def shrink(self) -> None:
        """Ask for half as many rows from now on."""
        with self._lock:
            self.current = self._within(self.current // 2)
            self._clean, self._is_slow = 0, True

    def settle(self, body_bytes: int, rows: int) -> None:
        """Learn from a page that came: how many rows like these make a page of the right size.

        A page that came out a little too big or too small changes nothing, so that sizes come to rest.
        """
        size_bytes = body_bytes + _OBJECT_BYTES * rows
        fitting = self._within(self._page_bytes * rows // max(1, size_bytes))
        with self._lock:
            self._clean += 1
            if size_bytes > self._page_bytes * _TOLERANCE:
                self.current = min(self.current, fitting)
            elif rows >= self.current and size_bytes * _TOLERANCE < self._page_bytes:
                self._grow(fitting)

    def _grow(self, fitting: int) -> None:
        """Twofold at most, since the next rows may be larger; slowly where pages were too slow."""
        if not self._is_slow:
            self.current = min(fitting, self.current * 2)
        elif self._clean >= _CLEAN_PAGES:
            self.current = min(fitting, self.current + max(1, self.current // 4))
            self._clean = 0

    def _within(self, rows: int) -> int:
        return min(self._most, max(_SMALLEST_PAGE, rows))


class Patience:
    """When to try one request again, and when to give up; the time runs from its first failure."""

    def __init__(self, pace: Pace, has_answered: Event) -> None:
        self._pace = pace
        self._has_answered = has_answered
        self._since: float | None = None

    def wait_s(self, state: RetryCallState) -> float:
        """Seconds until the next try: longer each time, never less than asked, and apart from other threads."""
        growing = min(2.0 ** (state.attempt_number - 1), self._pace.longest_wait_s)
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after_s if isinstance(error, SourceUnavailable) else None
        apart = random.random()  # noqa: S311 - spreads retries, guards nothing
        own = growing * (0.5 + apart / 2)
        return own if asked is None else max(own, asked + apart)  # servers are known to ask for 0 seconds

    def is_over(self, state: RetryCallState) -> bool:
        """Whether it was tried often or long enough, or the wait asked for is longer than that."""
        now = self._pace.clock()
        self._since = now if self._since is None else self._since
        tries = self._pace.attempts if self._has_answered.is_set() else self._pace.first_attempts
        is_late = now - self._since >= self._pace.total_s
        return state.attempt_number >= tries or is_late or state.upcoming_sleep > self._pace.total_s + 1
