"""A global concurrency limit named ``dataverse``, where somebody has created one, caps requests across all workers.

    prefect gcl create dataverse --limit 8

Dataverse counts per user, and the client heeds what it answers; this limit is for several runs that share one user.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect import get_client
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

from igh_sync_core.errors import SourceUnavailable
from igh_sync_core.webapi.pacing import Pace

LIMIT = "dataverse"
log = logging.getLogger("igh_sync_core.flow")


def request_pace() -> Pace:
    """The client's usual pace, with a turn at the limit for every request where the limit exists."""
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(LIMIT)
        except ObjectNotFound:
            return Pace()
    return Pace(turnstile=turn)


@contextmanager
def turn() -> Iterator[None]:
    """Hold a place at the limit; waits for one.

    Raises:
        SourceUnavailable: Prefect's server fails to give one for now, so that the request is tried again.
    """
    place = concurrency(LIMIT)
    try:
        place.__enter__()
    except (ConcurrencySlotAcquisitionError, httpx.HTTPError) as exc:
        cause = exc.__cause__ or exc
        message = f"Prefect's server gives no turn at the limit {LIMIT!r} ({str(cause) or type(cause).__name__})"
        raise SourceUnavailable(message) from exc
    try:
        yield
    finally:
        try:
            place.__exit__(*sys.exc_info())
        except httpx.HTTPError as exc:  # the reply is here all the same
            log.warning("a turn at the limit %r was not given back (%s); it runs out in minutes", LIMIT, exc)
