"""What happens to the source while its copy is killed: the life of an organisation, from a seed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from killing import ENTITIES, KEYS, Target, launching

from igh_sync_core.config.entities import load_entity_configs
from igh_sync_core.sandbox import Organisation, Server, health_organisation, serve

START = datetime(2026, 1, 10, 12, 0, 0, tzinfo=UTC)
LATENCY_S = 0.004
ROWS = 12_000
EXPIRED = 0.3
"""How often a delta link is refused between two processes."""
SHARES: Mapping[str, int] = {"first read": 11, "delta": 8, "snapshot": 7, "reconcile": 7}
"""How many of 33 kills fall into each part."""
_SETS = {entity.name: entity.api_name for entity in load_entity_configs()}
_PAIRS = "vin_vin_candidate_account"


@contextmanager
def served() -> Iterator[Server]:
    """An organisation whose clock stands still, so that equal syncs write equal times."""
    organisation = health_organisation(ROWS)
    organisation.clock.set(START)
    with serve(organisation, latency_s=LATENCY_S) as server:
        yield server


def compare_under_kills(
    server: Server, databases: tuple[dict[str, str], dict[str, str]], folder: Path, *, kills: int, seed: int
) -> Target:
    """Copy an organisation through its life twice, once under kills; the two histories must be one.

    Args:
        server: From :func:`served`, untouched.
        databases: Settings of two empty databases of one engine.
        folder: For the output of processes.
        kills: At least so many.
        seed: Of edits and moments.

    Returns:
        The killed copy.
    """
    random = Random(seed)  # noqa: S311 - chooses moments, not secrets
    with launching(folder) as launcher:
        killed, undisturbed = (Target(server, settings, launcher, random) for settings in databases)
        for part, share in SHARES.items():
            options = _live(part, server.organisation, random)
            killed.sync_under_kills(-(-kills * share // sum(SHARES.values())), *options)
            assert undisturbed.sync(*options)
            found, expected = killed.history(), undisturbed.history()
            differing = [
                name for name in sorted(found.keys() | expected.keys()) if found.get(name) != expected.get(name)
            ]
            assert not differing, f"{part}: {differing} differ after {killed.kills} kills, seed {seed}"
    return killed


def chase_under_kills(server: Server, settings: dict[str, str], folder: Path, *, kills: int, seed: int) -> Target:
    """Change the source between any two processes; in the end the copy must equal it."""
    random = Random(seed)  # noqa: S311
    organisation = server.organisation
    with launching(folder) as launcher:
        target = Target(server, settings, launcher, random)
        while target.kills < kills:
            organisation.clock.advance(random.choice([0, 1, 30]))
            edit(organisation, random, count=8)
            target.sync_or_die()
            if random.random() < EXPIRED:
                organisation.expire_delta_tokens(random.choice(ENTITIES))
        organisation.clock.advance(60)
        assert target.sync()
        assert_equal_to_source(target, organisation)
    return target


def assert_equal_to_source(target: Target, organisation: Organisation) -> None:
    """Every record of the source has a current version of its own version number, and no other key has one."""
    for entity in ENTITIES:
        if organisation.tables[entity].shape.is_tracked:
            entity_set = _SETS[entity]
            expected = {
                (key, str(organisation.record(entity, key)["versionnumber"])) for key in organisation.keys(entity)
            }
            assert target.current(entity_set, KEYS[entity_set], "versionnumber") == expected, entity


def _live(part: str, organisation: Organisation, random: Random) -> tuple[str, ...]:
    """What happens before one part; gives the options of its runs."""
    organisation.clock.advance(3_600)
    if part != "first read":
        edit(organisation, random, count=120)
    if part == "snapshot":
        organisation.expire_delta_tokens()
    if part == "reconcile":
        for entity in ENTITIES:
            hide_or_show(organisation, entity, random)
        return ("--reconcile",)
    return ()


def edit(organisation: Organisation, random: Random, *, count: int) -> None:
    """Insert, update with and without a new ``modifiedon``, delete and restore, over all entities."""
    for _ in range(count):
        entity = random.choice(ENTITIES)
        keys = organisation.keys(entity)
        what = random.choice(["insert", "update", "update", "choices", "rollup", "delete", "restore"])
        buried = sorted(organisation.tables[entity].rows.buried)
        if what == "delete" and len(keys) > 1:
            organisation.delete(entity, random.choice(keys))
        elif what == "restore" and buried:
            organisation.restore(entity, random.choice(buried))
        elif entity != _PAIRS:
            _change(organisation, entity, what, random)


def _change(organisation: Organisation, entity: str, what: str, random: Random) -> None:
    key, name = random.choice(organisation.keys(entity)), f"{what} {random.random()}"
    if what == "insert":
        organisation.insert(entity, {"vin_name": name})
    elif what == "choices" and entity == "vin_candidate":
        options = organisation.tables[entity].shape.by_name["vin_platforms"].options
        assert options is not None
        chosen = random.sample(sorted(options.options), random.randint(0, 3))
        organisation.update(entity, key, {"vin_platforms": ",".join(map(str, sorted(chosen))) or None})
    else:
        organisation.update(entity, key, {"vin_name": name}, touch=what != "rollup")


def hide_or_show(organisation: Organisation, entity: str, random: Random) -> None:
    """Row security takes a few rows away, which no feed tells."""
    table = organisation.tables[entity]
    table.hidden.update(random.sample(organisation.keys(entity), min(3, organisation.count(entity) - 1)))
