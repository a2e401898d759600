"""The one HTTP stack, opened in one place, and the border where its errors become ours."""

import os
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import httpx

from igh_sync_core.config import Config
from igh_sync_core.config.addresses import origin_of
from igh_sync_core.errors import AuthError, ConfigError, ProtocolViolation, SourceUnavailable
from igh_sync_core.webapi import proxies

_TIMEOUTS = httpx.Timeout(120.0, connect=10.0, pool=None)
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=52)


def open_http(config: Config, transport: httpx.BaseTransport | None = None) -> httpx.Client:
    """A client that trusts the usual authorities and the configured one, keeps no cookies and follows no redirects.

    Limits of the Web API are per web server, and its affinity cookies would keep all requests on one.

    Source: https://learn.microsoft.com/power-apps/developer/data-platform/send-parallel-requests

    Raises:
        ConfigError: What the environment says of proxies or authorities cannot be used.
    """
    if transport is None:
        proxies.check()
    changed_ns = Path(config.ca_file).stat().st_mtime_ns if config.ca_file else 0
    return _Client(
        transport=transport,
        mounts=proxies.direct(),
        verify=_trust(config.ca_file, changed_ns),
        timeout=_TIMEOUTS,
        limits=_LIMITS,
        headers={"User-Agent": "igh-sync"},
    )


class ExactURL(httpx.URL):
    """An address whose path and query go out byte for byte; of all else of httpx only logs see them, without the query.

    httpx would re-encode parts of a next link, and the server's paging cookie would break. It would take most addresses
    apart letter by letter, too, and make half a dozen copies of the query: with many ids they take 30 kB each. Its
    extension "target" sends the same, but not behind a proxy: the tunnel itself would then be asked for by the path and
    query, in clear, and never by host and port.

    Args:
        origin: Scheme, host and port.
        target: Path and query, plain ASCII.
    """

    def __init__(self, origin: httpx.URL, *, target: str) -> None:
        super().__init__(origin)
        self._target = target

    def __str__(self) -> str:
        """The address up to its query."""
        return f"{self.scheme}://{self.netloc.decode()}{self.path}"

    @property
    def path(self) -> str:
        """The target up to its query."""
        return self._target.partition("?")[0]

    @property
    def raw_path(self) -> bytes:
        """What stands on the request's first line."""
        return self._target.encode()


class _NoCookies(httpx.Cookies):
    """Keeps nothing, without reading the reply's headers for it."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Leave them."""


class _Client(httpx.Client):
    @property  # type: ignore[misc]  # nobody sets them
    def cookies(self) -> httpx.Cookies:
        """Always none."""
        return _NO_COOKIES


_NO_COOKIES = _NoCookies()


def check_environment() -> None:
    """See that what the environment says of proxies and authorities can be used; sends nothing.

    Raises:
        ConfigError: It cannot.
    """
    proxies.check()
    _trust(None, 0)


@lru_cache(maxsize=8)
def _trust(ca_file: str | None, _changed_ns: int) -> ssl.SSLContext:
    """Whom to trust; read once per process and state of the file, since all the authorities take a while to read."""
    trust = _usual_trust()
    if ca_file:
        trust.load_verify_locations(cafile=ca_file)
    trust.set_alpn_protocols(["http/1.1"])
    # httpx names the same again with each connection. OpenSSL then frees the list that the connection of another thread
    # may just be copying: what lies there by then would go over the wire, and the server refuse it.
    trust.set_alpn_protocols = _leave_protocols  # type: ignore[assignment, method-assign]
    return trust


def _usual_trust() -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context()
    except OSError as exc:
        path = os.environ.get("SSL_CERT_FILE")
        if not path:
            raise
        fault = f"SSL_CERT_FILE: {path} cannot be used ({exc.strerror or exc})"
        raise ConfigError([f"{fault}; name a PEM file of certificate authorities, or unset it"]) from exc


def _leave_protocols(_protocols: Iterable[str]) -> None:
    """They are named, once and for all."""


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn what httpx raises inside into an error of ours that names the address without its query.

    Raises:
        SourceUnavailable: No connection, no answer in time, or a reply cut short.
        AuthError: The server's certificate is not trusted.
        ProtocolViolation: Everything else, such as a reply that is no HTTP.
    """
    try:
        yield
    except httpx.HTTPError as exc:
        address = url.partition("?")[0]
        if _is_untrusted(exc):
            message = f"the certificate of {origin_of(url)} is not trusted; set DATAVERSE_CA_FILE if it should be"
            raise AuthError(message, url=address) from exc
        message = f"{origin_of(url)}: {_describe(exc)}"
        kind = SourceUnavailable if isinstance(exc, _PASSING) else ProtocolViolation
        raise kind(message, url=address) from exc


_PASSING = (
    httpx.TimeoutException,
    httpx.NetworkError,
    httpx.ProxyError,
    httpx.RemoteProtocolError,
    httpx.DecodingError,
)


def _describe(exc: httpx.HTTPError) -> str:
    reason = str(exc) or type(exc).__name__
    if isinstance(exc, (httpx.ConnectError, httpx.ConnectTimeout)):
        return f"cannot be reached ({reason}); check the address and the network"
    return f"gave no whole answer ({reason})"


def _is_untrusted(exc: BaseException | None) -> bool:
    while exc is not None:
        if isinstance(exc, ssl.SSLCertVerificationError):
            return True
        exc = exc.__cause__ or exc.__context__
    return False
