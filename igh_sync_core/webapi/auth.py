"""Logs in as an application and puts its token on requests to the configured origin, and nowhere else.

MSAL keeps the token in this process and renews it before it expires; a token refused in mid-run is renewed once per
request. One lock around MSAL: however many threads ask at once, one token request goes out.
Source: https://learn.microsoft.com/power-apps/developer/data-platform/use-single-tenant-server-server-authentication
"""

import re
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import httpx
import msal  # type: ignore[import-untyped]  # brings no types

from igh_sync_core.config import Config
from igh_sync_core.config.addresses import origin_of
from igh_sync_core.config.certificate import describe_source, read_certificate
from igh_sync_core.errors import AuthError, ConfigError, ProtocolViolation, SourceUnavailable
from igh_sync_core.webapi.http import translated
from igh_sync_core.webapi.replies import decipher, redact

LOGIN_HOSTS = frozenset(
    {
        "login.microsoftonline.com",
        "login.microsoft.com",
        "login.windows.net",
        "sts.windows.net",
        "login.microsoftonline.us",
        "login-us.microsoftonline.com",
        "login.usgovcloudapi.net",
        "login.partner.microsoftonline.cn",
        "login.chinacloudapi.cn",
        "login.microsoftonline.de",
        "login.sovcloud-identity.fr",
        "login.sovcloud-identity.de",
        "login.sovcloud-identity.sg",
    }
)
"""Hosts of Microsoft's clouds that may be sent the secret on a challenge's word alone."""

_RENEWED_S = 300
"""Seconds before its end in which MSAL gives a new token."""

_ASK_AGAIN_S = 60
"""Seconds after which MSAL is asked again; to ask it for each request would take as long as a tenth of the request."""

_AUTHORIZATION = re.compile(r"\bauthorization_uri\s*=\s*\"?https://([^/\s\",]+)/([^/\s\",]+)", re.IGNORECASE)
_NO_TENANTS = {"common", "organizations", "consumers"}
_PASSING_ERRORS = {"temporarily_unavailable", "server_error", "service_unavailable"}
_REMEDIES = {
    "AADSTS7000215": "set DATAVERSE_CLIENT_SECRET to the secret's value, not to its id",
    "AADSTS7000222": "the secret has expired; make a new one in the app registration",
    "AADSTS700016": "check DATAVERSE_CLIENT_ID, and that the app is registered in this tenant",
    "AADSTS90002": "check DATAVERSE_TENANT_ID",
    "AADSTS900023": "check DATAVERSE_TENANT_ID",
    "AADSTS700027": "upload the certificate to the app registration",
    "AADSTS700024": "set this machine's clock right",
    "AADSTS500011": "check DATAVERSE_API_URL and DATAVERSE_SCOPE",
    "AADSTS70011": "unset DATAVERSE_SCOPE to have it made from the address",
    "AADSTS1002012": "unset DATAVERSE_SCOPE to have it made from the address",
    "AADSTS7000112": "the app registration is disabled; enable it",
    "AADSTS53003": "have conditional access allow this application",
}


@dataclass(frozen=True)
class Challenge:
    """Where an environment sends people to log in.

    Attributes:
        authority_host: Login host, with a port only where one is named.
        tenant: GUID or domain; ``common`` and the like are possible, and are no tenant.
    """

    authority_host: str
    tenant: str


class DataverseAuth(httpx.Auth):
    """Bearer tokens by client credentials, with a secret or a certificate.

    Nothing is sent before the first request. Safe for any number of threads.

    Args:
        config: Whose credentials; its tenant and login host are asked from the environment where it names none.
        http: Carries the login; the same client may carry the data.
    """

    def __init__(self, config: Config, http: httpx.Client) -> None:
        self._config = config
        self._http = http
        self._lock = Lock()
        self._app: msal.ConfidentialClientApplication | None = None
        self._token_in_use, self._good_until = "", 0.0

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send with a token, and after a 401 once more with a new one.

        Raises:
            ProtocolViolation: The request goes to another origin than the configured one.
            AuthError: No token is to be had, or the host is no Dataverse environment.
            SourceUnavailable: The login host or the environment cannot be reached for now.
        """
        if origin_of(str(request.url)) != self._config.origin:
            message = f"no token is sent to {request.url.host}, only to {self._config.origin}"
            raise ProtocolViolation(message)
        token = self._token()
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            request.headers["Authorization"] = f"Bearer {self._token(refused=token)}"
            yield request

    def _token(self, *, refused: str = "") -> str:
        """The token in use; a new one if that is the refused one, which another thread may have replaced already."""
        with self._lock:
            if self._token_in_use == refused or time.time() >= self._good_until:
                self._app = self._app or self._open()
                if self._acquire(self._app) == refused:
                    self._app.remove_tokens_for_client()
                    self._acquire(self._app)
            return self._token_in_use

    def _acquire(self, app: msal.ConfidentialClientApplication) -> str:
        """Ask MSAL, and take its answer for good until it might give another."""
        try:
            result: dict[str, Any] = app.acquire_token_for_client(scopes=[self._config.scope])
            left_s = int(result.get("expires_in") or 0)
        except ValueError as exc:
            raise self._refusal(str(exc), error="unusable answer") from exc
        if token := result.get("access_token"):
            self._token_in_use = str(token)
            self._good_until = time.time() + min(_ASK_AGAIN_S, left_s - _RENEWED_S)
            return self._token_in_use
        raise self._refusal(str(result.get("error_description", "")), error=str(result.get("error", "")))

    def _open(self) -> msal.ConfidentialClientApplication:
        authority, credential = self._find_authority(), self._credential()
        try:
            return msal.ConfidentialClientApplication(
                self._config.client_id,
                authority=authority,
                client_credential=credential,
                # The host is configured, or one of LOGIN_HOSTS; MSAL need not ask a third party about it.
                instance_discovery=False,
                http_client=_LoginHttp(self._http),
            )
        except ValueError as exc:
            # MSAL hides what the login host said about an unknown tenant one exception below.
            raise self._refusal(str(exc.__context__ or exc), error="no such tenant") from exc

    def _credential(self) -> str | dict[str, str]:
        if not self._config.certificate_file:
            return self._config.client_secret
        try:
            pair = read_certificate(self._config.certificate_file, self._config.certificate_password)
        except ValueError as exc:
            shown = describe_source(self._config.certificate_file)
            raise ConfigError([f"DATAVERSE_CERTIFICATE_FILE {shown} {exc}"]) from exc
        return {"private_key": pair.private_key, "public_certificate": pair.public_certificate}

    def _find_authority(self) -> str:
        """Login address with tenant: what is configured, and the challenge's word for what is not."""
        configured = urlsplit(self._config.authority or "")
        host, tenant = configured.netloc, self._config.tenant_id or configured.path.strip("/")
        if not (host and tenant):
            challenge = self._challenge()
            host, tenant = host or _trusted(challenge), tenant or _concrete(challenge)
        return f"https://{host}/{tenant}"

    def _challenge(self) -> Challenge:
        """Ask the environment, without a token, who may let us in."""
        root = self._config.api_root
        with translated(root):
            response = self._http.get(root, headers={"Accept": "application/json"})
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            return parse_challenge(", ".join(response.headers.get_list("www-authenticate")))
        if _is_busy(response):
            decipher(response.status_code, response.headers, response.content, root)
        message = (
            f"{self._config.origin} is no Dataverse environment: it answered {response.status_code} "
            "where a login was expected; check DATAVERSE_API_URL"
        )
        raise AuthError(message, status=response.status_code, url=root)

    def _refusal(self, description: str, *, error: str) -> AuthError | SourceUnavailable:
        """What the login host's answer means; the first line of it is kept, without secrets."""
        found = re.search(r"AADSTS\d+", description)
        code = found[0] if found else ""
        line = (description[found.start() :] if found else description).splitlines()
        text = redact(line[0] if line else "")
        if self._config.client_secret:
            text = text.replace(self._config.client_secret, "[secret]")
        message = f"login refused ({error}): {text}; {_REMEDIES.get(code, 'check client id, secret, tenant and scope')}"
        kind = SourceUnavailable if error in _PASSING_ERRORS else AuthError
        return kind(message, code=code)


class _LoginHttp:
    """What MSAL asks of an HTTP client; a busy login host raises here, before MSAL would remember it as an answer."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def get(self, url: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - MSAL's business
        return self._judged(url, partial(self._http.get, url, **options))

    def post(self, url: str, *, data: dict[str, str | bytes], **options: Any) -> httpx.Response:  # noqa: ANN401 - as above
        # MSAL gives a certificate's assertion as bytes, of which httpx would send the Python spelling, b'...'.
        form = {name: value.decode() if isinstance(value, bytes) else value for name, value in data.items()}
        return self._judged(url, partial(self._http.post, url, data=form, **options))

    def close(self) -> None:
        """Nothing to do: the client belongs to others."""

    def _judged(self, url: str, send: Callable[[], httpx.Response]) -> httpx.Response:
        with translated(url):
            response = send()
        if _is_busy(response):
            decipher(response.status_code, response.headers, response.content, url)
        return response


def _is_busy(response: httpx.Response) -> bool:
    return response.status_code == HTTPStatus.TOO_MANY_REQUESTS or response.is_server_error


def parse_challenge(header: str) -> Challenge:
    """Read login host and tenant from ``WWW-Authenticate``; values may be quoted, names have any case.

    Raises:
        AuthError: The header names no login of the kind Dataverse uses.
    """
    found = _AUTHORIZATION.search(header) if re.search(r"\bbearer\b", header, re.IGNORECASE) else None
    if not found:
        message = "the server asks for no login that Dataverse uses; check DATAVERSE_API_URL"
        raise AuthError(message, status=401)
    return Challenge(authority_host=found[1].lower(), tenant=found[2])


def _trusted(challenge: Challenge) -> str:
    if challenge.authority_host in LOGIN_HOSTS:
        return challenge.authority_host
    message = (
        f"the server asks to log in at {challenge.authority_host}, which is no known Microsoft login host; "
        "set DATAVERSE_AUTHORITY if it is right"
    )
    raise AuthError(message)


def _concrete(challenge: Challenge) -> str:
    if challenge.tenant.lower() not in _NO_TENANTS:
        return challenge.tenant
    message = "the server names no tenant of its own; set DATAVERSE_TENANT_ID"
    raise AuthError(message)
