"""Which tables to copy: reads the JSON files that name them, and lists every fault with its position.

The package brings a default selection, ``entities.json``; the format is the one earlier users already have:
``{"entities": [{"name", "api_name", "filtered", "description", "strategy", "ranges"}]}``.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from igh_sync_core.errors import ConfigError

STRATEGIES = ("delta", "modifiedon", "snapshot", "related")
"""How an entity may be read when its own metadata shall not decide."""

_FILTERED_STRATEGY = "related"

_FIELDS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "api_name": (str,),
    "filtered": (bool,),
    "description": (str,),
    "strategy": (str, type(None)),
    "ranges": (int,),
}
MOST_RANGES = 16
_WORDS = {"filtered": "true or false", "ranges": f"a whole number from 1 to {MOST_RANGES}"}
_REQUIRED = ("name", "api_name")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class EntityConfig:
    """One table to copy.

    Attributes:
        name: Logical name: ``vin_candidate``.
        api_name: Entity set: ``vin_candidates``.
        filtered: Copy only records that other copied records point at.
        description: For people.
        strategy: One of ``STRATEGIES`` to override the choice made from metadata; None to let it decide.
        ranges: Ranges of ``createdon`` asked for at once when the table is read whole; 1 for page after page.
    """

    name: str
    api_name: str
    filtered: bool = False
    description: str = ""
    strategy: str | None = None
    ranges: int = 1


def load_entity_configs(path: str | None = None) -> list[EntityConfig]:
    """Tables to copy, in the order of the file.

    Args:
        path: A JSON file; None for the package's own selection.

    Raises:
        ConfigError: Lists every fault with its position: missing file, no JSON, unknown, missing or wrongly typed
            fields, unknown strategies, names given twice.
    """
    shown, content = _read(path, default="entities.json")
    document = _parse(shown, content)
    entries = document.get("entities") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ConfigError([f'{shown}: needs a list of tables: {{"entities": [{{"name": ..., "api_name": ...}}]}}'])
    faults = [*_top_faults(shown, document), *(f"{shown}: {fault}" for fault in _entry_faults(entries))]
    if faults:
        raise ConfigError(faults)
    return [EntityConfig(**entry) for entry in entries]


def find_named(entities: Sequence[EntityConfig], names: Collection[str]) -> tuple[list[EntityConfig], list[str]]:
    """Some of the entities.

    Args:
        entities: As configured.
        names: Logical names or entity sets; none for all.

    Returns:
        Those named, in the order they are configured, and the names that are of none of them, in the order given.
    """
    known = {name for entity in entities for name in (entity.name, entity.api_name)}
    found = [entity for entity in entities if not names or entity.name in names or entity.api_name in names]
    return found, [name for name in names if name not in known]


def load_entities(path: str | None = None) -> list[dict[str, Any]]:
    """The same tables as plain dicts with ``name``, ``api_name``, ``filtered`` and ``description``.

    Raises:
        ConfigError: As ``load_entity_configs``.
    """
    wanted = ("name", "api_name", "filtered", "description")
    return [{name: getattr(entity, name) for name in wanted} for entity in load_entity_configs(path)]


def load_optionsets_config(path: str | None = None) -> dict[str, list[str]]:
    """Columns whose choices were named by hand, by entity; metadata finds the others by itself.

    Args:
        path: A JSON file ``{"<entity>": ["<column>", ...]}``; None for none.

    Raises:
        ConfigError: Lists every fault: missing file, no JSON, wrong types.
    """
    if path is None:
        return {}
    shown, content = _read(path, default="")
    document = _parse(shown, content)
    if not isinstance(document, dict):
        raise ConfigError([f'{shown}: needs an object: {{"<entity>": ["<column>", ...]}}'])
    faults = [
        f'{shown}: "{name}" needs a list of column names' for name, fields in document.items() if not _names(fields)
    ]
    if faults:
        raise ConfigError(faults)
    return document


def _names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)


def _read(path: str | None, *, default: str) -> tuple[str, bytes]:
    """Name to show, and content."""
    if path is None:
        return default, resources.files("igh_sync_core").joinpath(default).read_bytes()
    try:
        return path, Path(path).read_bytes()
    except OSError as exc:
        raise ConfigError([f"{path}: cannot be read ({exc.strerror})"]) from exc


def _parse(shown: str, content: bytes) -> Any:  # noqa: ANN401 - JSON of any shape, checked by the caller
    try:
        return json.loads(content.decode("utf-8-sig"))
    except json.JSONDecodeError as exc:
        raise ConfigError([f"{shown}: is no JSON ({exc.msg} in line {exc.lineno})"]) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError([f"{shown}: is no UTF-8 text"]) from exc


def _top_faults(shown: str, document: dict[str, object]) -> Iterator[str]:
    for name in document.keys() - {"entities"}:
        yield f'{shown}: unknown field "{name}"'


def _entry_faults(entries: list[object]) -> Iterator[str]:
    for position, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            yield f"entity {position}: must be an object"
            continue
        name = entry.get("name")
        label = f"entity {position} ({name})" if isinstance(name, str) and name else f"entity {position}"
        yield from (f"{label}: {fault}" for fault in (*_field_faults(entry), *_faults_of_filtered(entry)))
    yield from _repeats([entry for entry in entries if isinstance(entry, dict)])


def _field_faults(entry: dict[str, object]) -> Iterator[str]:
    for name in _REQUIRED:
        if name not in entry:
            yield f'"{name}" is missing'
    for name, value in entry.items():
        if name not in _FIELDS:
            yield f'unknown field "{name}"'
        elif not isinstance(value, _FIELDS[name]) or (name == "ranges" and not _is_count(value)):
            yield f'"{name}" must be {_WORDS.get(name, "text")}'
        elif name in _REQUIRED and not _IDENTIFIER.fullmatch(str(value)):
            yield f'"{name}" must be a name of letters, digits and underscores'
        elif name == "strategy" and value not in (None, *STRATEGIES):
            yield f'"strategy" must be one of {", ".join(STRATEGIES)}'


def _faults_of_filtered(entry: dict[str, object]) -> Iterator[str]:
    """A filtered table is asked by id, as far as others point at it; nothing else can be chosen for it."""
    if entry.get("filtered") is not True:
        return
    if entry.get("strategy") in STRATEGIES and entry["strategy"] != _FILTERED_STRATEGY:
        yield f'"strategy": "{entry["strategy"]}" cannot stand beside "filtered": true; drop one of the two'
    if entry.get("ranges", 1) != 1:
        yield '"ranges" cannot stand beside "filtered": true; drop one of the two'


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_RANGES


def _repeats(entries: list[dict[str, object]]) -> Iterator[str]:
    for field in _REQUIRED:
        counts = Counter(value for entry in entries if isinstance(value := entry.get(field), str))
        yield from (f'"{field}" {value} is given {count} times' for value, count in counts.items() if count > 1)
