"""Settings that name a database and no environment."""

from igh_sync_core.config import Config


def config_for(**database: str | None) -> Config:
    """Settings of an environment that no test asks, and a database."""
    return Config("https://org.crm.dynamics.com", "00000000-0000-0000-0000-000000000001", "unused", "", **database)
