import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from threading import Event

import httpx
import pytest
from wires import ROOT, SLOW, URL, Entra, Feed, Time, busy, channel_to, config, numbers

from igh_sync_core.errors import Interrupted, SourceUnavailable
from igh_sync_core.webapi.client import Channel, Client, Pace
from igh_sync_core.webapi.pacing import Gate, PageSize


class TestPageSize:
    @pytest.mark.parametrize(
        "trouble", [httpx.Response(500, json=SLOW), httpx.ReadTimeout("silence")], ids=["sql", "silence"]
    )
    def test_a_page_that_took_too_long_is_asked_again_in_half(self, trouble: httpx.Response | Exception) -> None:
        feed = Feed(pages=2)
        feed.queue = [trouble, trouble]
        with channel_to(feed) as (channel, _):
            numbers(channel)

        assert feed.sizes == [5000, 2500, 1250, 1250]

    def test_other_trouble_leaves_it_alone(self) -> None:
        feed = Feed(pages=2)
        feed.queue = [httpx.Response(503), busy()]
        with channel_to(feed) as (channel, _):
            numbers(channel)

        assert feed.sizes == [5000] * 4

    def test_it_never_falls_below_a_useful_size(self) -> None:
        feed = Feed(pages=1)
        feed.queue = [httpx.Response(500, json=SLOW) for _ in range(9)]
        with channel_to(feed, pace=Time().pace(first_attempts=20, attempts=20)) as (channel, _):
            numbers(channel)

        assert feed.sizes[-1] == 50

    def test_it_grows_back_slowly_and_never_above_what_was_asked(self) -> None:
        feed = Feed(pages=80)
        feed.bytes_per_row = 1
        feed.queue = [httpx.Response(500, json=SLOW), httpx.Response(500, json=SLOW)]
        with channel_to(feed, page_size=1_000) as (channel, _):
            numbers(channel)

        assert feed.sizes[:3] == [1000, 500, 250]
        assert feed.sizes[2:] == sorted(feed.sizes[2:])
        assert feed.sizes[9:12] == [250, 312, 312]
        assert feed.sizes[-1] == 1000

    def test_big_bodies_shrink_it_and_it_stays_where_they_fit(self) -> None:
        feed = Feed(pages=40)
        feed.bytes_per_row = 20
        with channel_to(feed, pace=Time().pace(page_bytes=290_000)) as (channel, _):
            numbers(channel)

        assert feed.sizes[0] == 5000
        assert set(feed.sizes[3:]) == {feed.sizes[3]}, "it comes to rest"
        assert 430 <= feed.sizes[3] <= 490  # some 40 bytes of text each, and 600 as objects

    def test_records_smaller_than_expected_grow_it_twofold_at_most(self) -> None:
        size = PageSize(5_000, page_bytes=1_000_000, row_bytes=9_400)
        sizes = [size.current]
        for _page in range(5):
            size.settle(size.current * 900, size.current)
            sizes.append(size.current)

        assert sizes == [100, 200, 400, 666, 666, 666]
        size.settle(3 * 100, 3)
        assert size.current == 666, "a short page tells little of the next"
        size.settle(666 * 1_150, 666)
        assert size.current == 666, "a little too big"
        size.settle(666 * 4_400, 666)
        assert size.current == 200

    @pytest.mark.parametrize(("asked", "used"), [(9_999, 5_000), (500, 500), (0, 1)])
    def test_the_servers_limit_holds(self, asked: int, used: int) -> None:
        feed = Feed(pages=1)
        with channel_to(feed, page_size=asked) as (channel, _):
            numbers(channel)

        assert feed.sizes == [used]


class Crowd:
    """Measures how many requests are with the server at once."""

    def __init__(self, **headers: str) -> None:
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.inside = self.peak = 0
        self.refusals = 0
        self.together: threading.Barrier | None = None
        self._lock = threading.Lock()

    def __call__(self, _: httpx.Request) -> httpx.Response:
        with self._lock:
            self.inside += 1
            self.peak = max(self.peak, self.inside)
            refuse = self.refusals > 0
            self.refusals -= refuse
        if refuse and self.together:
            self.together.wait(5)
        time.sleep(0.02)
        with self._lock:
            self.inside -= 1
        return busy(Retry_After="0") if refuse else httpx.Response(200, headers=self.headers, json={"value": []})

    def rush(self, channel: Channel, *, requests: int = 60) -> int:
        """Peak when thirty threads ask at once."""
        self.peak = 0
        with ThreadPoolExecutor(30) as pool:
            list(pool.map(lambda _: channel.get(URL), range(requests)))
        return self.peak


class Asleep(threading.Condition):
    """Nobody wakes by himself."""

    falling: Queue[None] = Queue()

    def wait(self, timeout: float | None = None) -> bool:
        del timeout
        self.falling.put(None)  # no other thread comes in before this one sleeps: it has the lock
        return super().wait()


@pytest.fixture
def asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits at the gate wakes for others alone."""
    monkeypatch.setattr("igh_sync_core.webapi.pacing.Condition", Asleep)
    monkeypatch.setattr(Asleep, "falling", Queue())


def fall_asleep(enter: Callable[[int], None], numbers: Iterable[int]) -> None:
    """Have each enter in a thread of its own, and find no place; one after the other."""
    for number in numbers:
        threading.Thread(target=enter, args=[number], daemon=True).start()
        Asleep.falling.get(timeout=5)


class TestPacing:
    def test_no_more_than_eight_are_under_way_without_a_hint(self) -> None:
        crowd = Crowd()
        with channel_to(crowd, pace=Pace()) as (channel, _):
            assert crowd.rush(channel) == 8
            assert crowd.rush(channel, requests=150) == 8

    def test_a_low_hint_caps_and_a_high_one_raises_step_by_step(self) -> None:
        crowd = Crowd(x_ms_dop_hint="4")
        with channel_to(crowd, pace=Pace()) as (channel, _):
            channel.get(URL)
            assert crowd.rush(channel) == 4
            crowd.headers = {"x-ms-dop-hint": "20"}
            assert 4 < crowd.rush(channel) < 12
            assert 12 <= crowd.rush(channel, requests=150) <= 20

    @pytest.mark.parametrize("hint", ["", "many", "-3", "0"])
    def test_a_senseless_hint_does_no_harm(self, hint: str) -> None:
        crowd = Crowd(x_ms_dop_hint=hint)
        with channel_to(crowd, pace=Pace()) as (channel, _):
            channel.get(URL)
            assert 1 <= crowd.rush(channel, requests=20) <= 8

    def test_no_hint_lifts_it_over_the_servers_limit(self) -> None:
        pace = Pace(width=500)
        crowd = Crowd(x_ms_dop_hint="999")
        with channel_to(crowd, pace=pace) as (channel, _), ThreadPoolExecutor(70) as pool:
            list(pool.map(lambda _: channel.get(URL), range(140)))

        assert 30 < crowd.peak <= 52

    def test_throttling_halves_the_width_once_for_all_that_were_under_way(self) -> None:
        crowd = Crowd()
        with channel_to(crowd, pace=Time().pace()) as (channel, _):
            crowd.rush(channel, requests=8)
            crowd.refusals, crowd.together = 4, threading.Barrier(4)
            crowd.rush(channel, requests=4)

            assert crowd.rush(channel, requests=9) == 4

    def test_everybody_rests_until_the_server_allows(self) -> None:
        feed, clock = Feed(), Time()
        feed.queue = [busy(Retry_After="30")]
        entra = Entra(feed)
        with Client(
            config(), transport=httpx.MockTransport(entra), pace=clock.pace(attempts=1, first_attempts=1)
        ) as client:
            with pytest.raises(SourceUnavailable):
                client.channel("accounts").get(URL)
            client.channel("contacts").get(f"{ROOT}contacts")

        assert clock.sleeps == [30.0]


@pytest.mark.usefixtures("asleep")
class TestPlaces:
    def test_a_place_that_is_left_wakes_those_alone_who_find_one(self) -> None:
        looks: list[int] = []

        def clock() -> float:
            looks.append(1)
            return 0.0

        crowd = Crowd()
        with channel_to(crowd, pace=Pace(width=1, clock=clock)) as (channel, _):
            crowd.rush(channel, requests=30)

        assert len(looks) < 3 * 30

    def test_a_width_that_has_grown_meanwhile_wakes_as_many_as_it_holds(self) -> None:
        gate, together, entered = Gate(Pace(width=1)), threading.Barrier(2), Queue[int]()
        gate.heed("2")
        for _ in range(9):  # one more grows it
            with gate.slot(Event()):
                pass

        def enter(number: int) -> None:
            with gate.slot(Event()):
                together.wait(5)
                entered.put(number)

        with gate.slot(Event()):
            fall_asleep(enter, range(2))

        assert {entered.get(timeout=6) for _ in range(2)} == {0, 1}

    def test_who_gives_up_waiting_leaves_the_turn_to_the_next(self) -> None:
        gate, ways, entered = Gate(Pace(width=1)), [Event(), Event()], Queue[int]()

        def enter(number: int) -> None:
            with contextlib.suppress(Interrupted), gate.slot(ways[number]):
                entered.put(number)

        with gate.slot(Event()):
            fall_asleep(enter, range(2))
            ways[0].set()

        assert entered.get(timeout=5) == 1
