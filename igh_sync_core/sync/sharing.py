"""One client and one database per process and settings, for as long as somebody needs them.

The tasks of an orchestrator open what they need by themselves and know nothing of each other; those that happen to
work in one process at one time meet here: one login, one set of connections, each statement compiled once.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Generic, TypeVar

from igh_sync_core.config import Config
from igh_sync_core.store.database import Database
from igh_sync_core.webapi.client import Client
from igh_sync_core.webapi.pacing import Pace

T = TypeVar("T")


@dataclass
class _Lease(Generic[T]):
    thing: T
    closing: ExitStack
    holders: int = 0


@dataclass
class _Shared(Generic[T]):
    """What is open, by settings.

    Attributes:
        is_usable: Whether what is open may be joined; what may not is left to those who have it.
    """

    is_usable: Callable[[T], bool]
    leases: dict[Config, _Lease[T]] = field(default_factory=dict)
    guard: Lock = field(default_factory=Lock)

    @contextmanager
    def joined(self, config: Config, open_one: Callable[[], AbstractContextManager[T]]) -> Iterator[T]:
        """Join what is open for *config*, or open it; the last one to leave closes it."""
        with self.guard:
            lease = self.leases.get(config)
            if lease is None or not self.is_usable(lease.thing):
                closing = ExitStack()
                lease = self.leases[config] = _Lease(closing.enter_context(open_one()), closing)
            lease.holders += 1
        try:
            yield lease.thing
        finally:
            with self.guard:
                lease.holders -= 1
                is_last = not lease.holders
                if is_last and self.leases.get(config) is lease:
                    del self.leases[config]
            if is_last:
                lease.closing.close()


_clients: _Shared[Client] = _Shared(lambda client: not client.is_interrupted)
_databases: _Shared[Database] = _Shared(lambda _: True)


def shared_client(config: Config, *, pace: Callable[[], Pace] = Pace) -> AbstractContextManager[Client]:
    """Join the client of this process, or open it; the last one to leave closes it.

    Args:
        config: Equal settings share a client.
        pace: Gives the limits of patience and breadth; asked only if this call opens it.
    """
    return _clients.joined(config, lambda: Client(config, pace=pace()))


def shared_database(config: Config) -> AbstractContextManager[Database]:
    """Join the database of this process, its connections kept until the last one leaves.

    Args:
        config: Equal settings share a database.

    Raises:
        ConfigError: The SQLite file cannot be created or written.
    """
    return _databases.joined(config, lambda: _kept_open(config))


@contextmanager
def _kept_open(config: Config) -> Iterator[Database]:
    database = Database(config)
    with database.keeping_connections():
        yield database
