"""The organisation's clock: UTC, whole seconds, real until somebody sets it."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

NOON = 12


class Clock:
    """Stamps rows and the ``Date`` header.

    Runs with the machine's time, shifted by ``advance``; ``set`` stops it at one moment, from where only ``advance``
    moves it.
    """

    def __init__(self) -> None:
        self._shift = timedelta()
        self._stopped: datetime | None = None

    def now(self) -> datetime:
        """The present, timezone-aware, without fractions of a second."""
        moment = self._stopped or datetime.now(UTC) + self._shift
        return moment.replace(microsecond=0)

    def set(self, moment: datetime) -> None:
        """Stop the clock at *moment* (timezone-aware)."""
        self._stopped = moment.astimezone(UTC)

    def advance(self, seconds: float) -> None:
        """Move the clock by *seconds*, whether it is stopped or running."""
        if self._stopped is None:
            self._shift += timedelta(seconds=seconds)
        else:
            self._stopped += timedelta(seconds=seconds)

    def text(self) -> str:
        """The present as rows carry it: ``2024-05-01T12:00:00Z``."""
        return stamp(self.now())


def stamp(moment: datetime) -> str:
    """*moment* (UTC) as the Web API writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(maxsize=8192)
def format_date(text: str) -> str:
    """``2021-05-11`` as an American user reads it: ``5/11/2021``."""
    year, month, day = text[:10].split("-")
    return f"{int(month)}/{int(day)}/{year}"


@lru_cache(maxsize=2048)
def format_minutes(text: str) -> str:
    """``08:41`` as an American user reads it: ``8:41 AM``."""
    hour = int(text[:2])
    half = "AM" if hour < NOON else "PM"
    return f"{hour % NOON or NOON}:{text[3:5]} {half}"
