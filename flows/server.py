"""The server that ``PREFECT_API_URL`` names, where it does not answer: one line in place of a client's traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect import get_client
from prefect.settings import PREFECT_API_URL

from igh_sync_core.config.addresses import origin_of
from igh_sync_core.errors import SyncError


class ServerUnreachable(SyncError):
    """Prefect's server does not answer."""


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
    except (httpx.TransportError, RuntimeError):  # Prefect's client raises the one or the other
        if fault := _fault():
            raise ServerUnreachable(fault) from None
        raise


def _fault() -> str:
    """Why the server cannot be used; "" where it answers, or where Prefect starts one of its own."""
    url = PREFECT_API_URL.value()
    if not url:
        return ""
    with get_client(sync_client=True) as client:
        reason = client.api_healthcheck()
    if not isinstance(reason, httpx.TransportError):
        return ""
    remedy = "start that server, or unset PREFECT_API_URL to do without one"
    return f"PREFECT_API_URL: {origin_of(str(url))} does not answer ({reason}); {remedy}"
