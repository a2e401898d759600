"""How many rows each table of the model organisation gets, and the organisation itself."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from igh_sync_core.sandbox.data.organisation import ManyToMany, Organisation
from igh_sync_core.sandbox.data.population import possible_pairs
from igh_sync_core.sandbox.data.schema import Shape
from igh_sync_core.sandbox.organisations.health import candidate, clinical_trial, intersect, many_to_many, pipeline
from igh_sync_core.sandbox.organisations.platform import platform_shapes

WEIGHTS: Mapping[str, int] = MappingProxyType({
    "vin_candidate": 60, "vin_clinicaltrial": 90, "vin_product": 45, "vin_source": 60, "vin_rdstageproduct": 80,
    "vin_developer": 40, "account": 120, "contact": 150, "task": 60,
    "vin_vin_candidate_account": 60, "vin_vin_candidate_vin_country": 50, "vin_vin_clinicaltrial_vin_country": 60,
    "vin_vin_clinicaltrial_account": 45, "vin_vin_clinicaltrial_account_collaborator": 35,
    "vin_vin_candidate_vin_rdpriority": 25, "vin_vin_candidate_vin_region": 20, "vin_vin_candidate_systemuser": 15,
})  # fmt: skip
"""Relative sizes of the tables that grow with the organisation."""

CAPS: Mapping[str, int] = MappingProxyType({
    "vin_disease": 300, "vin_rdstage": 12, "vin_rdpriority": 150, "vin_archetype": 40, "vin_clinicalusestatus": 8,
    "vin_country": 200, "vin_region": 20, "vin_capparameter": 60, "transactioncurrency": 6, "systemuser": 400,
    "team": 25, "businessunit": 4, "organization": 1,
})  # fmt: skip
"""Largest sizes of the tables that stay small; half of a small organisation is theirs at most."""


def health_organisation(rows: int = 2_000, *, seed: int = 7) -> Organisation:
    """The model organisation with *rows* rows over all tables, at least one in each.

    Args:
        rows: From a few dozen to a million or more.
        seed: The same seed gives the same organisation, key by key.

    Raises:
        ValueError: Fewer rows than tables.
    """
    base = [candidate(), clinical_trial(), *pipeline(), *platform_shapes()]
    by_name = {shape.logical_name: shape for shape in base}
    relationships = many_to_many()
    shapes = [*base, *(intersect(relationship, by_name) for relationship in relationships)]
    _number(shapes)
    return Organisation(shapes, share_out(rows, shapes, relationships), seed=seed, relationships=relationships)


def _number(shapes: Sequence[Shape]) -> None:
    """Object type codes: 1, 2 and 8 for the best known, custom ones from 10000 on."""
    known = {
        "account": 1,
        "contact": 2,
        "systemuser": 8,
        "team": 9,
        "businessunit": 10,
        "organization": 1019,
        "task": 4212,
    }
    for number, shape in enumerate(shapes):
        shape.type_code = known.get(shape.logical_name, 10_100 + number)


def share_out(rows: int, shapes: Sequence[Shape], relationships: Sequence[ManyToMany]) -> dict[str, int]:
    """Rows per table, *rows* in all.

    Raises:
        ValueError: Fewer rows than tables.
    """
    names = [shape.logical_name for shape in shapes if shape.mirrors is None]
    if rows < len(names):
        msg = f"{len(names)} tables need at least {len(names)} rows, not {rows}"
        raise ValueError(msg)
    counts = dict.fromkeys(names, 1)
    budget = max(0, rows // 2 - len(names))
    for name, cap in CAPS.items():
        counts[name] += min(cap - 1, budget * cap // sum(CAPS.values()))
    _grow(counts, rows - sum(counts.values()))
    limit_pairs(counts, relationships)
    counts["contact"] += rows - sum(counts.values())
    return counts


def _grow(counts: dict[str, int], rest: int) -> None:
    total = sum(WEIGHTS.values())
    for name, weight in WEIGHTS.items():
        counts[name] += rest * weight // total


def limit_pairs(counts: dict[str, int], relationships: Sequence[ManyToMany]) -> None:
    """No more N:N rows than distinct pairs of ends that the formula can make."""
    for relationship in relationships:
        possible = possible_pairs(counts[relationship.entity1], counts[relationship.entity2])
        counts[relationship.intersect] = min(counts[relationship.intersect], possible)
