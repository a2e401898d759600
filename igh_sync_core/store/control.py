"""Control tables: what the program remembers between runs, as SQLModel models.

The columns named in the table contract keep their names; the rest is ours. Times are whole seconds of UTC.
"""

from datetime import datetime

from sqlalchemy import BigInteger, Column, Integer, MetaData, Text
from sqlmodel import Field, SQLModel

from igh_sync_core.store.dialect import Instant

CONTROL = MetaData()
_LONG = BigInteger().with_variant(Integer(), "sqlite")


class ControlTable(SQLModel):
    """Base of the control tables, kept apart from any other SQLModel metadata of the process."""

    metadata = CONTROL


class SyncState(ControlTable):
    """How far one entity has come; changes in the same transaction as the rows it speaks of (law 1).

    A plain value, copied with every page: an instance of a table's class is watched by SQLAlchemy at every step.

    Attributes:
        entity_name: Entity set, as in the table's name.
        state: ``pending``, ``in_progress``, ``completed`` or ``failed``.
        last_timestamp: Watermark: everything modified up to here is stored.
        next_link: Where an unfinished full read goes on.
        read_kind: What that read is: ``first`` or ``snapshot``.
        read_started: Server time at the start of the read in progress.
        read_latest: Largest ``modifiedon`` that read has stored.
        delta_link: Where the next changes are asked.
        delta_link_time: When that link was given, or tracked changes were told before any link; it outlives the link,
            and says that the user may read every record, or once might.
        overlap_due: A baseline ended and the rows changed under way are not yet read again.
        columns_digest: Fingerprint of the columns that the stored links and rows cover.
        fresh_columns: Comma-separated columns still to be filled into open rows by a full read.
        page_digest: Fingerprint of the one page that the last read consisted of, see ``course.page_digest``, behind the
            run that stored it and the read's reach (``all``, or ``recent`` by ``modifiedon``); None after a read of
            several pages or of a delta link, and once anything else is written.
        scanned_row_id: Versions up to here have had their references noted for the related tables.
        relations_digest: Fingerprint of the relations that this scan followed.
    """

    entity_name: str = Field(primary_key=True)
    state: str = "pending"
    last_sync_time: datetime | None = Field(default=None, sa_type=Instant)
    last_timestamp: datetime | None = Field(default=None, sa_type=Instant)
    records_count: int = Field(default=0, sa_type=_LONG)
    run_id: str | None = None
    strategy: str | None = None
    next_link: str | None = Field(default=None, sa_type=Text)
    read_kind: str | None = None
    read_started: datetime | None = Field(default=None, sa_type=Instant)
    read_latest: datetime | None = Field(default=None, sa_type=Instant)
    delta_link: str | None = Field(default=None, sa_type=Text)
    delta_link_time: datetime | None = Field(default=None, sa_type=Instant)
    overlap_due: bool = False
    columns_digest: str | None = None
    fresh_columns: str = Field(default="", sa_type=Text)
    page_digest: str | None = None
    scanned_row_id: int = Field(default=0, sa_type=_LONG)
    relations_digest: str | None = None

    @property
    def fresh(self) -> frozenset[str]:
        """The names in ``fresh_columns``."""
        return frozenset(filter(None, self.fresh_columns.split(",")))


class SyncStateTable(SyncState, table=True):
    """Where the states of all entities are kept."""

    __tablename__ = "_sync_state"


class SyncLog(ControlTable, table=True):
    """One line per entity and run."""

    __tablename__ = "_sync_log"

    id: int | None = Field(default=None, sa_column=Column(_LONG, primary_key=True, autoincrement=True))
    entity_name: str = Field(index=True)
    start_time: datetime = Field(sa_type=Instant)
    end_time: datetime | None = Field(default=None, sa_type=Instant)
    records_added: int = Field(default=0, sa_type=_LONG)
    records_updated: int = Field(default=0, sa_type=_LONG)
    status: str
    error_message: str | None = Field(default=None, sa_type=Text)
    run_id: str | None = Field(default=None, index=True)
    strategy: str | None = None
    reason: str | None = Field(default=None, sa_type=Text)
    records_closed: int = Field(default=0, sa_type=_LONG)
    records_unchanged: int = Field(default=0, sa_type=_LONG)
    requests: int = 0


class SyncLock(ControlTable, table=True):
    """The one row saying who writes to this database now.

    Attributes:
        token: The holder's run id; every transaction of a run checks that it is still its own.
        process: What tells its process from another one of the same number; see ``processes``.
        heartbeat: Renewed while the holder lives, on the database's clock.
    """

    __tablename__ = "_sync_lock"

    name: str = Field(primary_key=True)
    token: str
    host: str
    pid: int
    process: str | None = None
    since: datetime = Field(sa_type=Instant)
    heartbeat: datetime = Field(sa_type=Instant)


class SyncMetadata(ControlTable, table=True):
    """What metadata said, kept as JSON until the organisation's metadata version moves."""

    __tablename__ = "_sync_metadata"

    name: str = Field(primary_key=True)
    version: str
    fetched_at: datetime = Field(sa_type=Instant)
    value: str = Field(sa_type=Text)


class SyncShape(ControlTable, table=True):
    """What an entity's table was last made to hold, as JSON of ``shapes.Shape``.

    The database's own types do not tell everything: SQLite keeps whole numbers and yes/no alike as INTEGER.
    """

    __tablename__ = "_sync_shape"

    table_name: str = Field(primary_key=True)
    value: str = Field(sa_type=Text)


class SyncSeen(ControlTable, table=True):
    """Keys that an unfinished complete read has met, page by page; empty between reads."""

    __tablename__ = "_sync_seen"

    entity_name: str = Field(primary_key=True)
    key: str = Field(primary_key=True)


class SyncWanted(ControlTable, table=True):
    """Records of related tables that are to be asked by id, or were asked in vain.

    Attributes:
        entity_name: Entity set of the related table.
        key: The record's id.
        standing: ``referenced``: a synced row points at it and it is not stored; ``changed``: the source says that it
            changed; ``missing``: asked, and the source gave nothing.
    """

    __tablename__ = "_sync_wanted"

    entity_name: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    standing: str


class OptionSetLabel(ControlTable, table=True):
    """Every label of every option that metadata knows, in every language, with its dates.

    Attributes:
        first_seen: When this label was first met.
        last_seen: When it was found renamed or removed; None while it holds.
    """

    __tablename__ = "_optionset"

    entity: str = Field(primary_key=True)
    field: str = Field(primary_key=True)
    code: int = Field(primary_key=True, sa_type=_LONG)
    language: int = Field(primary_key=True)
    first_seen: datetime = Field(primary_key=True, sa_type=Instant)
    label: str = Field(sa_type=Text)
    last_seen: datetime | None = Field(default=None, sa_type=Instant)
