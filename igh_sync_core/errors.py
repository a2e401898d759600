"""The error tree: where it happened is the class, what to do about it is the class attribute.

SyncError                    ``retryable`` says whether the same call may succeed later
├─ ConfigError               every fault of the settings at once, before anything is written
├─ SourceError               the Web API: status, code, url without its query
│  ├─ AuthError              refused credentials or a host that is no Dataverse
│  ├─ RequestRejected        4xx; ``code`` is the OData error code
│  │  ├─ TokenLost           all records in answer to a delta link
│  │  └─ LinkMissing         no delta link at the end of a tracked read
│  ├─ SourceUnavailable      429, 5xx, timeouts, cut bodies; retryable
│  └─ ProtocolViolation      the reply breaks the contract
├─ Interrupted               the run is being ended from outside
├─ SchemaError               a stored column or the key no longer fits
├─ DataError                 one record cannot be kept
└─ StoreError                the database
   ├─ StoreUnavailable       retryable
   └─ StoreBusy              another run holds the database

No message ever carries a secret, a token or the contents of a row.
"""

from collections.abc import Sequence


class SyncError(Exception):
    """Base of every error this package raises on purpose."""

    retryable = False


def in_words(error: BaseException) -> str:
    """An error for people; one that nobody foresaw with its type, which says more than its text."""
    return str(error) if isinstance(error, SyncError) else f"{type(error).__name__}: {error}"


def may_pass(error: BaseException) -> bool:
    """Whether the same may succeed later."""
    return isinstance(error, SyncError) and error.retryable


class ConfigError(SyncError, ValueError):
    """The settings are unusable; lists all faults at once."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[tuple[str, ...]]]:
        return type(self), (self.faults,)


class SourceError(SyncError):
    """The Web API did not give what was asked.

    Attributes:
        status: HTTP status, or None when no reply came.
        code: OData error code such as ``0x80040220``, or "" when the reply names none.
        url: Address asked, without its query.
        retry_after_s: Seconds the server asked to wait, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str = "",
        url: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.url = url
        self.retry_after_s = retry_after_s


class AuthError(SourceError, RuntimeError):
    """Credentials were refused, or the host offers no Dataverse login."""


class RequestRejected(SourceError):
    """The server refused this request (4xx); asking again will not help."""


class TokenLost(RequestRejected):
    """A delta link was answered with all records: the server has its token no more, and tells no deletions."""

    def __init__(self) -> None:
        super().__init__("the delta link was answered with all records")


class LinkMissing(RequestRejected):
    """A tracked read ended without a delta link: nothing tells where it was cut, nor where to ask for changes."""

    def __init__(self) -> None:
        super().__init__("the last page had no delta link")


class SourceUnavailable(SourceError):
    """The server is busy, down or cut the reply short."""

    retryable = True


class ProtocolViolation(SourceError):
    """A reply breaks the Web API's contract, so nothing in it may be trusted."""


class Interrupted(SyncError):
    """The run is being ended from outside; what was stored stays, and the next run goes on from there."""

    def __init__(self) -> None:
        super().__init__("interrupted; what was stored stays, and the next run goes on from there")

    def __reduce__(self) -> tuple[type["Interrupted"], tuple[()]]:
        return type(self), ()


class SchemaError(SyncError):
    """A table cannot take the entity any more; names the columns."""


class DataError(SyncError):
    """One record cannot be kept: names entity, key, column and reason, never its contents."""


class StoreError(SyncError):
    """The database refused a statement."""


class StoreUnavailable(StoreError):
    """The database cannot be reached or is locked for now."""

    retryable = True


class StoreBusy(StoreError):
    """Another run holds this database."""
