"""The commands: arguments in, text and an exit status out. Everything they do is done elsewhere."""

from igh_sync_core.cli.optionsets import generate_optionset_config
from igh_sync_core.cli.sync import sync_dataverse
from igh_sync_core.cli.validate import validate_schema

__all__ = ["generate_optionset_config", "sync_dataverse", "validate_schema"]
