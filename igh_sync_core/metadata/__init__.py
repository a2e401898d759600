"""Dataverse metadata: CSDL and definitions → TableSpec. Pure: bytes in, frozen values out."""

from igh_sync_core.metadata.csdl import Csdl, EntityType, Navigation
from igh_sync_core.metadata.definitions import (
    DEFINITIONS_URL,
    MANY_TO_MANY_URL,
    Definition,
    ManyToMany,
    lookup_targets_url,
    memo_lengths_url,
    parse_definitions,
    parse_lengths,
    parse_lookup_targets,
    parse_many_to_many,
    string_lengths_url,
)
from igh_sync_core.metadata.document import parse_csdl
from igh_sync_core.metadata.options import OptionSet, options_url, parse_options
from igh_sync_core.metadata.specs import Attributes, build_spec, definition_from_csdl

__all__ = [
    "DEFINITIONS_URL",
    "MANY_TO_MANY_URL",
    "Attributes",
    "Csdl",
    "Definition",
    "EntityType",
    "ManyToMany",
    "Navigation",
    "OptionSet",
    "build_spec",
    "definition_from_csdl",
    "lookup_targets_url",
    "memo_lengths_url",
    "options_url",
    "parse_csdl",
    "parse_definitions",
    "parse_lengths",
    "parse_lookup_targets",
    "parse_many_to_many",
    "parse_options",
    "string_lengths_url",
]
