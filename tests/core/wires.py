"""Small fakes of the far end, shared by the tests of login and client: callables behind ``httpx.MockTransport``."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Barrier, Event, Lock
from urllib.parse import parse_qs

import httpx

from igh_sync_core.config import Config
from igh_sync_core.sandbox.http.service import sent_address
from igh_sync_core.webapi.client import Channel, Client, Pace

ORG = "https://org.crm.dynamics.com"
ROOT = f"{ORG}/api/data/v9.2/"
LOGIN = "login.microsoftonline.com"
TENANT = "0f6d1cf4-2c14-4d3e-9a32-5b8c1d7a9e10"
SECRET = "right~Secret"

Handler = Callable[[httpx.Request], httpx.Response]


def config(**changes: object) -> Config:
    given: dict[str, object] = {"api_url": ORG, "client_id": "app-1", "client_secret": SECRET, "scope": ""}
    return Config(**given | changes)  # type: ignore[arg-type]


class Entra:
    """Login host and guard of one environment: issues numbered tokens, and lets requests with the last one through."""

    def __init__(self, behind: Handler | None = None, *, login: str = LOGIN) -> None:
        self.behind = behind or (lambda _: httpx.Response(200, json={"ok": True}))
        self.login = login
        self.challenge = f"Bearer authorization_uri=https://{login}/{TENANT}/oauth2/authorize, resource_id={ORG}/"
        self.refusal: httpx.Response | None = None
        self.forms: list[dict[str, str]] = []
        self.tokens: list[str] = []
        self.revoked = 0
        self.expires_in: int | str = 3599
        self.together: Barrier | None = None  # refused tokens wait here for each other
        self.hosts: list[str] = []
        self._lock = Lock()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.hosts.append(request.url.host)
        if request.url.netloc.decode() == self.login:
            return self._discovery(request) if request.method == "GET" else self._token(request)
        if request.headers.get("Authorization") not in [f"Bearer {token}" for token in self.tokens[self.revoked :]]:
            if self.together and "Authorization" in request.headers:
                self.together.wait(5)
            return httpx.Response(
                401, headers={"WWW-Authenticate": self.challenge}, text="HTTP Error 401 - Unauthorized"
            )
        return self.behind(as_sent(request))

    def revoke(self) -> None:
        self.revoked = len(self.tokens)

    def _discovery(self, request: httpx.Request) -> httpx.Response:
        tenant = request.url.path.split("/")[1]
        if tenant != TENANT:
            text = json.dumps(
                {"error": "invalid_tenant", "error_description": f"AADSTS90002: Tenant '{tenant}' not found."}
            )
            return httpx.Response(400, text=text)
        base = f"https://{self.login}/{tenant}/oauth2/v2.0"
        return httpx.Response(
            200,
            json={
                "authorization_endpoint": f"{base}/authorize",
                "token_endpoint": f"{base}/token",
                "issuer": f"https://{self.login}/{tenant}/v2.0",
            },
        )

    def _token(self, request: httpx.Request) -> httpx.Response:
        with self._lock:
            self.forms.append({name: values[0] for name, values in parse_qs(request.content.decode()).items()})
            if self.refusal is not None:
                return self.refusal
            self.tokens.append(f"token-{len(self.tokens) + 1}")
            body = {"token_type": "Bearer", "expires_in": self.expires_in, "access_token": self.tokens[-1]}
            return httpx.Response(200, json=body)


def as_sent(request: httpx.Request) -> httpx.Request:
    """The request as it would go over the wire, for whoever looks at its address."""
    return httpx.Request(request.method, sent_address(request), headers=request.headers, content=request.read())


class Time:
    """A clock that moves only when somebody sleeps, and keeps each sleep."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []

    def clock(self) -> float:
        return self.now

    def wait(self, abandoned: Event, seconds: float) -> None:
        assert not abandoned.is_set()
        self.sleeps.append(seconds)
        self.now += seconds

    def pace(self, **changes: float) -> Pace:
        return Pace(clock=self.clock, wait=self.wait, **changes)  # type: ignore[arg-type]


DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
URL = f"{ROOT}accounts?$select=name"
BUSY = {"error": {"code": "0x80072322", "message": "Number of requests exceeded the limit of 6000."}}
SLOW = {"error": {"code": "0x80044151", "message": "SQL timeout expired."}}


class Feed:
    """Serves numbered pages, keeps what arrived, and first answers what is queued.

    Attributes:
        bytes_per_row: Length of a text in each of as many records as are asked for; 0 for one record a page.
    """

    def __init__(self, pages: int = 3) -> None:
        self.pages = pages
        self.requests: list[httpx.Request] = []
        self.queue: list[httpx.Response | Exception] = []
        self.bytes_per_row = 0
        self.sent: list[int] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.queue:
            answer = self.queue.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        number = int(request.url.params.get("$skiptoken", "1"))
        record, count = {"n": number, "pad": "x" * self.bytes_per_row}, self.sizes[-1] if self.bytes_per_row else 1
        page: dict[str, object] = {"value": [record] * count}
        if number < self.pages:
            page["@odata.nextLink"] = f"{URL}&$skiptoken={number + 1}"
        reply = httpx.Response(200, headers={"Date": DATE}, json=page)
        self.sent.append(len(reply.content))
        return reply

    @property
    def sizes(self) -> list[int]:
        """Page size that each request asked for."""
        wishes = [request.headers["Prefer"] for request in self.requests]
        return [int(wish.split("maxpagesize=")[1].split(",")[0]) for wish in wishes]


@contextmanager
def channel_to(behind: Handler, *, pace: Pace | None = None, page_size: int = 5_000) -> Iterator[tuple[Channel, Entra]]:
    entra = Entra(behind)
    with Client(config(), transport=httpx.MockTransport(entra), pace=pace or Time().pace()) as client:
        yield client.channel("accounts", page_size=page_size), entra


def numbers(channel: Channel, url: str = URL) -> list[int]:
    return [json.loads(bytes(raw))["n"] for fetched in channel.pages(url) for raw in fetched.page.value]


def busy(**headers: str) -> httpx.Response:
    return httpx.Response(429, json=BUSY, headers={name.replace("_", "-"): value for name, value in headers.items()})


def until(claim: Callable[[], bool], *, seconds: float = 60.0) -> bool:
    """Wait for *claim*, as long as a busy machine may take; gives whether it holds."""
    end = time.monotonic() + seconds
    while not claim() and time.monotonic() < end:
        time.sleep(0.005)
    return claim()


class Pieces(httpx.SyncByteStream):
    """A body that comes in given pieces, with a pause before each, and may break off."""

    def __init__(self, pieces: Sequence[bytes | Exception], *, seconds: float = 0.0) -> None:
        self._pieces = pieces
        self._seconds = seconds

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            time.sleep(self._seconds)
            if isinstance(piece, Exception):
                raise piece
            yield piece
