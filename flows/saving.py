"""Saves the environment's settings as blocks: the shortest way from a working ``.env`` to a deployment."""

import re
from pathlib import Path

from pydantic import SecretStr

from flows.blocks import DataverseCredentials, SyncDatabase
from flows.standalone import quiet_server
from igh_sync_core.config import Config
from igh_sync_core.config.certificate import read_certificate
from igh_sync_core.errors import ConfigError


def save_blocks(config: Config, name: str) -> None:
    """Save both blocks under *name*, in place of any that have it.

    Args:
        config: Validated settings; of its certificate the text is kept, of other files the absolute path.
        name: Lower-case letters, digits and dashes.

    Raises:
        ConfigError: The name is none that Prefect takes.
    """
    if not re.fullmatch(r"[a-z0-9-]+", name):
        msg = f"--save-blocks: {name!r} is no name for a block; use lower-case letters, digits and dashes"
        raise ConfigError([msg])
    database = SyncDatabase(
        sqlite_path=_absolute(config.sqlite_db_path), postgres_url=SecretStr(config.postgres_connection_string or "")
    )
    with quiet_server():
        credentials_of(config).save(name, overwrite=True)
        database.save(name, overwrite=True)


def credentials_of(config: Config) -> DataverseCredentials:
    """The login of *config* as a block."""
    certificate = ""
    if config.certificate_file:
        pair = read_certificate(config.certificate_file, config.certificate_password)
        certificate = pair.private_key + pair.public_certificate
    return DataverseCredentials(
        api_url=config.api_url,
        client_id=config.client_id,
        client_secret=SecretStr(config.client_secret),
        certificate=SecretStr(certificate),
        tenant_id=config.tenant_id or "",
        authority=config.authority or "",
        scope=config.scope,
        ca_file=_absolute(config.ca_file),
    )


def _absolute(path: str | None) -> str:
    """Where a deployment, which runs in another folder, finds the file; "" for none."""
    return str(Path(path).expanduser().absolute()) if path else ""
