"""An organisation shaped after a real ``$metadata`` file, with invented rows.

The document is served as it is. What it does not say is guessed from names, as people do: which whole numbers are
choices, which types are N:N tables, whose rows an abstract set would show (none, here).
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple
from xml.etree import ElementTree as ET

from igh_sync_core.sandbox.data.columns import option_set
from igh_sync_core.sandbox.data.organisation import ManyToMany, Organisation
from igh_sync_core.sandbox.data.schema import ENGLISH, KIND_OF_EDM, Column, Kind, Option, OptionSet, Shape
from igh_sync_core.sandbox.organisations.model import limit_pairs

EDM = "{http://docs.oasis-open.org/odata/ns/edm}"
BOOKKEEPING = frozenset({"versionnumber"})
BOTH = 2
MODEL_TYPES = "crmmodelbaseentity"


class _Type(NamedTuple):
    element: ET.Element
    base: str
    is_abstract: bool


def organisation_from_metadata(csdl: bytes, *, rows: int, seed: int = 7) -> Organisation:
    """An organisation with the tables of *csdl* and *rows* rows spread over them.

    Args:
        csdl: A whole ``$metadata`` document; it is served unchanged.
        rows: Rows over all tables; abstract types stay empty, the organisation itself has one row.
        seed: The same seed gives the same rows.

    Raises:
        ValueError: *csdl* is no CSDL, or carries a document type definition.
    """
    root = _parse(csdl)
    types = {name: each for element in root.iter(f"{EDM}EntityType") for name, each in [_type(element)]}
    sets = {
        each.get("EntityType", "").rpartition(".")[2]: each.get("Name", "") for each in root.iter(f"{EDM}EntitySet")
    }
    business = [name for name in types if name in sets and MODEL_TYPES not in _lineage(name, types)]
    shapes = [_as_intersect(_shape(name, sets[name], types), set(business)) for name in business]
    relationships = [_relationship(shape) for shape in shapes if shape.is_intersect]
    return Organisation(
        shapes, _spread(shapes, relationships, rows), seed=seed, relationships=relationships, source=csdl
    )


def _parse(csdl: bytes) -> ET.Element:
    if b"<!DOCTYPE" in csdl or b"<!ENTITY" in csdl:
        msg = "a $metadata document has no document type definition"
        raise ValueError(msg)
    try:
        return ET.fromstring(csdl)  # noqa: S314 - declarations were refused above
    except ET.ParseError as exc:
        msg = f"not a $metadata document: {exc}"
        raise ValueError(msg) from exc


def _type(element: ET.Element) -> tuple[str, _Type]:
    base = element.get("BaseType", "").rpartition(".")[2]
    return element.get("Name", ""), _Type(element, base, element.get("Abstract") == "true")


def _lineage(name: str, types: Mapping[str, _Type]) -> list[str]:
    """*name* and its bases, the nearest first."""
    names: list[str] = []
    while name in types and name not in names:
        names.append(name)
        name = types[name].base
    return [*names, name] if name else names


def _shape(name: str, entity_set: str, types: Mapping[str, _Type]) -> Shape:
    line = [each for each in _lineage(name, types) if each in types]
    columns = [column for each in reversed(line) for column in _columns(each, name, types)]
    names = {column.name for column in columns}
    csdl_key = next((key for each in line if (key := _key(types[each].element))), f"{name}id")
    key = f"{name}id" if csdl_key == "ownerid" and f"{name}id" in names else csdl_key
    return Shape(
        logical_name=name,
        entity_set=entity_set,
        key=key,
        csdl_key=csdl_key,
        columns=columns,
        primary_name=next((title for title in ("name", "fullname", "subject", "title") if title in names), None),
        base=types[name].base or "crmbaseentity",
        is_abstract=types[name].is_abstract,
        is_tracked="versionnumber" in names,
        ownership="UserOwned" if "_ownerid_value" in names else "OrganizationOwned",
    )


def _key(element: ET.Element) -> str | None:
    found = element.find(f"{EDM}Key/{EDM}PropertyRef")
    return None if found is None else found.get("Name")


def _columns(declared_by: str, table: str, types: Mapping[str, _Type]) -> Iterator[Column]:
    element = types[declared_by].element
    navigations = _navigations(element)
    for each in element.iter(f"{EDM}Property"):
        name, edm = each.get("Name", ""), each.get("Type", "").replace("Microsoft.Dynamics.CRM.", "mscrm.")
        if edm in KIND_OF_EDM:
            inherited = "" if declared_by == table else declared_by
            yield _column(name, edm, declared_by=inherited, navigations=navigations.get(name, {}))


def _navigations(element: ET.Element) -> dict[str, dict[str, str]]:
    """Target and navigation property per lookup column; owners lead to users and teams."""
    found: dict[str, dict[str, str]] = {}
    for each in element.iter(f"{EDM}NavigationProperty"):
        target = each.get("Type", "").rpartition(".")[2].rstrip(")")
        for constraint in each.iter(f"{EDM}ReferentialConstraint"):
            targets = ("systemuser", "team") if target in {"principal", "owner"} else (target,)
            known = found.setdefault(constraint.get("Property", ""), {})
            known.update({one: each.get("Name", "") for one in targets})
    return found


def _column(name: str, edm: str, *, declared_by: str, navigations: Mapping[str, str]) -> Column:
    kind = KIND_OF_EDM[edm]
    is_lookup = name.startswith("_") and name.endswith("_value")
    if is_lookup:
        kind = Kind.OWNER if name == "_ownerid_value" else Kind.LOOKUP
    options = None
    if edm == "Edm.Int32" and name.endswith("code"):
        kind = {"statecode": Kind.STATE, "statuscode": Kind.STATUS}.get(name, Kind.PICKLIST)
        options = _options(name)
    return Column(
        name=name,
        kind=kind,
        declared_by=declared_by,
        options=options,
        targets=tuple(navigations) if is_lookup else (),
        navigations=tuple(navigations.values()) if is_lookup else (),
        precision=10 if name.endswith("_base") else None,
        null_share=0.0 if name in {"name", "fullname", "statecode", "statuscode", "createdon", "modifiedon"} else 0.3,
    )


def _options(name: str) -> OptionSet:
    if name == "statecode":
        return OptionSet(name, {0: Option({ENGLISH: "Active"}), 1: Option({ENGLISH: "Inactive"})})
    if name == "statuscode":
        return OptionSet(name, {1: Option({ENGLISH: "Active"}, 0), 2: Option({ENGLISH: "Inactive"}, 1)})
    return option_set(name, "First|Second|Third")


def _as_intersect(shape: Shape, tables: set[str]) -> Shape:
    """*shape* marked as an N:N table where it has nothing but its key, two ids named after tables, and a version."""
    others = [column for column in shape.columns if column.name not in BOOKKEEPING | {shape.key}]
    ends = [column for column in others if column.name.removesuffix("id") in tables]
    if not (len(others) == len(ends) == BOTH and "versionnumber" in shape.by_name):
        return shape
    for column in ends:
        target = column.name.removesuffix("id")
        shape.put(Column(name=column.name, kind=Kind.GUID, targets=(target,), null_share=0))
    shape.is_intersect = True
    return shape


def _relationship(shape: Shape) -> ManyToMany:
    first, second = shape.ends
    name = shape.logical_name
    return ManyToMany(name, name, first.targets[0], first.name, second.targets[0], second.name)


def _spread(shapes: list[Shape], relationships: list[ManyToMany], rows: int) -> dict[str, int]:
    names = [shape.logical_name for shape in shapes if not shape.is_abstract and shape.logical_name != "organization"]
    counts = {name: rows // len(names) + (number < rows % len(names)) for number, name in enumerate(names)}
    if any(shape.logical_name == "organization" for shape in shapes):
        counts["organization"] = 1
    limit_pairs(counts, relationships)
    first = next(shape.logical_name for shape in shapes if not shape.is_intersect and shape.logical_name in names)
    counts[first] += rows - sum(counts[name] for name in names)
    return counts
