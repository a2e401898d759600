"""Points in time as they are spelled everywhere, and between which two a version may begin."""

from datetime import UTC, datetime

EARLIEST = datetime(1753, 1, 1, tzinfo=UTC)
"""The first time that Dataverse itself keeps; an import may have brought earlier ones, such as .NET's year 1."""

LATEST = datetime(9999, 1, 1, tzinfo=UTC)
"""The year that is left holds any number of versions after it."""


def spelled(value: datetime) -> str:
    """An aware time in UTC and whole seconds, the rest cut: ``2021-04-28T15:19:30Z``; text order is time order."""
    return value.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"  # strftime pads no year


def utc(value: datetime) -> datetime:
    """The same time in UTC; without a zone it is taken for UTC already."""
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
