"""The server that ``PREFECT_API_URL`` names, where it is none or does not answer: one line in place of a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE

from igh_sync_core.config.addresses import origin_of
from igh_sync_core.errors import SyncError


class ServerUnreachable(SyncError):
    """Prefect's server does not answer, or there is none."""


@contextmanager
def answering_server() -> Iterator[None]:
    """Work that needs the server.

    Raises:
        ServerUnreachable: The work failed since no server answers; names its address and the remedy.
    """
    try:
        yield
    except SyncError:
        raise
    except (httpx.HTTPError, RuntimeError, ValueError):  # Prefect's client raises the one or the other
        if fault := _fault():
            raise ServerUnreachable(fault) from None
        raise


def _fault() -> str:
    """Why the server cannot be used; "" where it is well, or where Prefect starts one of its own."""
    url = PREFECT_API_URL.value()
    if not url:
        remedy = "set PREFECT_API_URL to a server, or let PREFECT_SERVER_ALLOW_EPHEMERAL_MODE be true to do without one"
        return "" if PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value() else f"no Prefect server may be started; {remedy}"
    origin = origin_of(str(url))
    if not origin:
        return "PREFECT_API_URL: is no address; write it like http://127.0.0.1:4200/api"
    with get_client(sync_client=True) as client:
        reason = client.api_healthcheck()
    if isinstance(reason, httpx.HTTPStatusError):
        status = reason.response.status_code
        remedy = "is it Prefect's, and does the address end with /api where it should?"
        return f"PREFECT_API_URL: {origin} answers with status {status} when asked for its health; {remedy}"
    if not isinstance(reason, httpx.TransportError):
        return ""
    remedy = "start that server, or unset PREFECT_API_URL to do without one"
    return f"PREFECT_API_URL: {origin} does not answer ({reason}); {remedy}"
