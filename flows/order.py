"""What a task is told, and the settings it finds from that.

A task may run in another thread, process or machine, and Prefect looks into whatever it is given. So it gets names and
numbers only; each task loads the blocks it needs by itself, and no secret is ever a parameter or a result.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar, cast

from pydantic import ValidationError

from flows.blocks import DataverseCredentials, SyncDatabase
from igh_sync_core.config import Config
from igh_sync_core.config.entities import EntityConfig, find_named, load_entity_configs
from igh_sync_core.config.faults import Faults
from igh_sync_core.config.settings import read_config
from igh_sync_core.errors import ConfigError
from igh_sync_core.store.engines import find_fault
from igh_sync_core.sync.options import ENTITIES_AT_ONCE
from igh_sync_core.webapi.odata import MAX_PAGE_SIZE

BlockT = TypeVar("BlockT", DataverseCredentials, SyncDatabase)


@dataclass(frozen=True)
class Order:
    """One run, in plain values.

    Attributes:
        run_id: Token of the run's lock.
        credentials: Name of a ``DataverseCredentials`` block; "" for the environment's settings.
        database: Name of a ``SyncDatabase`` block; "" for the environment's settings.
        entities: Logical names or entity sets of the tables to copy; none for all of the file.
        entities_file: Path of a JSON file that names the tables; "" for the package's own selection.
        verify_references: Whether every reference is checked at the end.
        reference_tolerance: Dangling references up to which the run still counts as successful.
        reconcile: Whether keys and versions of every record are compared and repaired.
        page_size: Rows asked per page.
        concurrency: Entities read at once.
    """

    run_id: str
    credentials: str = ""
    database: str = ""
    entities: tuple[str, ...] = ()
    entities_file: str = ""
    verify_references: bool = False
    reference_tolerance: int = 0
    reconcile: bool = False
    page_size: int = MAX_PAGE_SIZE
    concurrency: int = ENTITIES_AT_ONCE

    def load_config(self) -> Config:
        """The settings: those of the blocks, and the environment's where no block is named.

        Read once per run and process: what is edited meanwhile holds from the next run on.

        Raises:
            ConfigError: Lists every fault, or names the block that does not exist.
        """
        return _config_of(self.run_id, self.credentials, self.database)

    def load(self) -> tuple[Config, list[EntityConfig]]:
        """The settings and the tables to copy.

        Raises:
            ConfigError: Lists every fault of both.
        """
        faults = Faults()
        config, entities = faults.of(self.load_config), faults.of(self.load_entities)
        if config is None or entities is None:
            raise ConfigError(faults.found)
        return config, entities

    def load_entities(self) -> list[EntityConfig]:
        """The tables to copy, in the order of the entities file.

        Raises:
            ConfigError: The file is unusable, or lacks one of the tables named.
        """
        known = load_entity_configs(self.entities_file or None)
        found, unknown = find_named(known, self.entities)
        if unknown:
            where = self.entities_file or "the package's own entities file"
            remedy = f"give logical names such as {known[0].name}, or nothing for all"
            raise ConfigError([f"entities: not in {where}: {', '.join(unknown)}; {remedy}"])
        return found

    def load_entity(self, name: str) -> EntityConfig:
        """One of the tables to copy."""
        return next(entity for entity in self.load_entities() if entity.name == name)


@lru_cache(maxsize=4)
def _config_of(_run_id: str, credentials: str, database: str) -> Config:
    given = _blocks_values(credentials, database)
    faults = Faults()
    config, found = read_config(given=given)
    faults.add(*found, find_fault(config))
    faults.tell()
    return config


def _blocks_values(credentials: str, database: str) -> dict[str, str]:
    """What the blocks say, by field of ``Config``; where one is missing, nobody knows what else would be."""
    faults, values = Faults(), dict[str, str]()
    if credentials:
        values |= faults.of(lambda: _load_block(DataverseCredentials, credentials).settings()) or {}
    if database:
        values |= faults.of(lambda: _load_block(SyncDatabase, database).settings()) or {}
    faults.tell()
    return values


def _load_block(kind: type[BlockT], name: str) -> BlockT:
    slug, command = kind.get_block_type_slug(), f"python -m flows.sync_dataverse --save-blocks {name}"
    try:
        return cast("BlockT", kind.load(name))  # in a synchronous flow or task this is no coroutine
    except ValueError:
        remedy = f"save it first, with {command} where the settings are, or in Prefect's pages"
        raise ConfigError([f"no block {slug}/{name}; {remedy}"]) from None
    except RuntimeError as exc:
        if not isinstance(exc.__cause__, ValidationError):
            raise
        remedy = f"edit it in Prefect's pages, or save it anew with {command} where the settings are"
        raise ConfigError([f"block {slug}/{name}: {_told(exc.__cause__)}; {remedy}"]) from None


def _told(error: ValidationError) -> str:
    """What is wrong with which fields, without the values: they may be secrets."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return ", ".join(": ".join([*map(str, fault["loc"]), fault["msg"]]) for fault in found)
