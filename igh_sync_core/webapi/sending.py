"""Sends one request to its verdict: paced, judged, and tried again while the server is busy or away.

Rings, outermost first: ``retrying`` → ``open_reply`` (gate, verdict) → ``_send`` (the exact address) → the token.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Event
from typing import Any, TypeVar

import httpx
from tenacity import Retrying, retry_if_exception_type

from igh_sync_core.config import Config
from igh_sync_core.errors import Interrupted, SourceUnavailable
from igh_sync_core.webapi.auth import DataverseAuth
from igh_sync_core.webapi.http import ExactURL, open_http, translated
from igh_sync_core.webapi.interruption import Interruption
from igh_sync_core.webapi.pacing import Gate, Pace, Patience
from igh_sync_core.webapi.paging import check_address
from igh_sync_core.webapi.replies import decipher

T = TypeVar("T")

_CONNECTED = ("connect_tcp.complete", "start_tls.complete")


class Sender:
    """All that the threads of one process share: connections, token, gate.

    Args:
        config: Where and as whom.
        pace: Limits of patience and breadth.
        transport: Stands in for the network.
        interruption: Ends all waits.

    Attributes:
        interruption: Gives every request the event that ends its waits.
    """

    def __init__(
        self, config: Config, pace: Pace, transport: httpx.BaseTransport | None, interruption: Interruption
    ) -> None:
        self.root = config.api_root
        self._origin = httpx.URL(config.origin)
        self.interruption = interruption
        self._pace = pace
        self._http = open_http(config, transport)
        self._http.event_hooks = {"request": [self._begin]}
        self._auth = DataverseAuth(config, self._http)
        self._gate = Gate(pace)
        self._has_answered = Event()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def retrying(self, attempt: Callable[[], T], abandoned: Event) -> T:
        """Try until it succeeds, fails for good, or patience ends; then the last error stands.

        Raises:
            SyncError: Whatever *attempt* raises; ``SourceUnavailable`` only after all tries.
            Interrupted: Nobody wants it any more.
        """

        def rest(seconds: float) -> None:
            self._pace.wait(abandoned, seconds)

        patience = Patience(self._pace, self._has_answered)
        return Retrying(
            retry=retry_if_exception_type(SourceUnavailable),
            wait=patience.wait_s,
            stop=patience.is_over,
            sleep=rest,
            reraise=True,
        )(partial(_unless, abandoned, attempt))

    def open_reply(
        self, url: str, headers: dict[str, str], *, abandoned: Event, on_sent: Callable[[], None]
    ) -> tuple[ExitStack, httpx.Response]:
        """Send one request and judge its status; the body is still to be read.

        Args:
            url: Under the API root; sent byte for byte.
            headers: Beside the token and what httpx adds.
            abandoned: Set when nobody wants the reply any more.
            on_sent: Called for each request that leaves for it, also for the second one after a 401.

        Returns:
            A stack that holds the connection and the place at the gate until it is closed, and a 2xx response.

        Raises:
            SourceError: No connection, or any other status.
            Interrupted: Abandoned while waiting for a turn.
        """
        check_address(url, self.root)
        with ExitStack() as stack:
            stack.enter_context(self._gate.slot(abandoned))
            stack.enter_context(self._pace.turnstile())
            with translated(url):
                response = stack.enter_context(_released(self._send(url, headers, on_sent)))
                if not response.is_success:
                    decipher(response.status_code, response.headers, response.read(), url)
            return stack.pop_all(), response

    def _send(self, url: str, headers: dict[str, str], on_sent: Callable[[], None]) -> httpx.Response:
        request = self._http.build_request("GET", self._origin, headers=headers, extensions={"on_sent": on_sent})
        request.url = ExactURL(self._origin, target="/" + url.split("/", 3)[3])
        response = self._http.send(request, auth=self._auth, stream=True)
        self._has_answered.set()
        self._gate.heed(response.headers.get("x-ms-dop-hint"))
        return response

    def _begin(self, request: httpx.Request) -> None:
        """Called before each request leaves, those for login among them."""
        if self.interruption.is_set:
            raise Interrupted
        request.extensions["trace"] = self._trace
        if on_sent := request.extensions.get("on_sent"):  # requests for login have none
            on_sent()

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Told by httpx's transport of each step of a request."""
        if event.endswith(_CONNECTED):
            self.interruption.attend(info["return_value"].get_extra_info("socket"))


def _unless(abandoned: Event, attempt: Callable[[], T]) -> T:
    """One try; that nobody wants it any more is why it failed, not what it says itself."""
    try:
        return attempt()
    except SourceUnavailable as error:
        if abandoned.is_set():
            raise Interrupted from error
        raise


@contextmanager
def _released(response: httpx.Response) -> Iterator[httpx.Response]:
    """Give the connection back at the end, and the memory.

    A reply and its stream hold each other, with all that was sent: its address of up to 30 kB and the reply's own
    pieces. Hundreds of them would lie about until Python next looks for such rings.
    """
    try:
        yield response
    finally:
        response.close()
        response.stream = httpx.ByteStream(b"")


def read_chunks(response: httpx.Response, url: str, abandoned: Event) -> Iterator[bytes]:
    """The decoded body in pieces.

    Raises:
        SourceUnavailable: It was cut short or stalled.
        Interrupted: Abandoned in the middle.
    """
    with translated(url):
        for chunk in response.iter_bytes():
            if abandoned.is_set():
                raise Interrupted
            yield chunk
    if abandoned.is_set():  # it may have ended for that
        raise Interrupted
