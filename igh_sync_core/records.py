"""Records → versions and choices: what every page of records goes through, inside the caller's transaction."""

from datetime import datetime

from igh_sync_core.batch import Batch
from igh_sync_core.choices import Choices
from igh_sync_core.report import Counts
from igh_sync_core.versions import History


def write(history: History, choices: Choices, batch: Batch, now: datetime, *, is_new: bool) -> Counts:
    """Write a page's records and what they say of choices; what is stored exactly so costs nothing more.

    Args:
        history: Versions of the entity.
        choices: Its choices.
        batch: Records with distinct keys.
        now: The sync time.
        is_new: Whether no key is expected to be stored.

    Raises:
        DataError: The database refused a value; names record and column.
    """
    if not len(batch):
        return Counts()
    if is_new:
        choices.note(history.conn, batch, now)
        return history.write_new(batch, now)
    met = history.meet(batch)
    choices.note(history.conn, met.news, now)
    return history.apply(met, now)
