"""A global concurrency limit named ``dataverse``, where somebody has created one, caps requests across all workers.

    prefect gcl create dataverse --limit 8

Dataverse counts per user, and the client heeds what it answers; this limit is for several runs that share one user.
"""

from functools import partial

from prefect import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

from igh_sync_core.webapi.pacing import Pace

LIMIT = "dataverse"


def request_pace() -> Pace:
    """The client's usual pace, with a turn at the limit for every request where the limit exists."""
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(LIMIT)
        except ObjectNotFound:
            return Pace()
    return Pace(turnstile=partial(concurrency, LIMIT))
