"""Settings: where from, as whom, where to, and which tables; every fault of them at once."""

from igh_sync_core.config.entities import EntityConfig, load_entities, load_entity_configs, load_optionsets_config
from igh_sync_core.config.settings import SETTINGS, Config, load_config, validate

__all__ = [
    "SETTINGS",
    "Config",
    "EntityConfig",
    "load_config",
    "load_entities",
    "load_entity_configs",
    "load_optionsets_config",
    "validate",
]
