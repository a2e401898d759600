"""One client per process and settings, for as long as somebody needs it: one login, one set of connections.

The tasks of an orchestrator open what they need by themselves and know nothing of each other; those that happen to
work in one process at one time meet here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from igh_sync_core.client import Client
from igh_sync_core.config import Config
from igh_sync_core.pacing import Pace


@dataclass
class _Lease:
    client: Client
    holders: int = 0


_leases: dict[Config, _Lease] = {}
_guard = Lock()


@contextmanager
def shared_client(config: Config, *, pace: Callable[[], Pace] = Pace) -> Iterator[Client]:
    """Join the client of this process, or open it; the last one to leave closes it.

    Args:
        config: Equal settings share a client.
        pace: Gives the limits of patience and breadth; asked only if this call opens it.
    """
    with _guard:
        lease = _leases.get(config)
        if lease is None:
            lease = _leases[config] = _Lease(Client(config, pace=pace()))
        lease.holders += 1
    try:
        yield lease.client
    finally:
        with _guard:
            lease.holders -= 1
            is_last = not lease.holders
            if is_last:
                del _leases[config]
        if is_last:
            lease.client.close()
