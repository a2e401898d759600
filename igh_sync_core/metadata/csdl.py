"""What ``$metadata`` (CSDL) declares, as far as a copy needs it: entity types, their members, entity sets.

Type names have lost their namespace (``mscrm.account`` and ``Microsoft.Dynamics.CRM.account`` are ``account``), because
Dataverse declares one schema only. Property types keep theirs: ``Edm.Guid``, ``mscrm.Label``.

Source: https://learn.microsoft.com/power-apps/developer/data-platform/webapi/web-api-entitytypes
"""

from collections.abc import Iterator
from functools import cached_property

from msgspec import Struct

from igh_sync_core.errors import ProtocolViolation
from igh_sync_core.model import EntitySet


class Navigation(Struct, frozen=True):
    """A navigation property.

    Attributes:
        name: ``customerid_account``; often in SchemaName casing.
        target: Name of the type at the other end, without namespace.
        is_collection: Whether it leads to any number of records.
        column: Property that its ReferentialConstraint binds; None without a constraint.
        referenced: Property of the target that the constraint names; None without a constraint.
    """

    name: str
    target: str
    is_collection: bool
    column: str | None = None
    referenced: str | None = None


class EntityType(Struct, frozen=True):
    """One declared type with its own members only; inherited ones come from ``Csdl``.

    Attributes:
        name: ``account``.
        base: Name of its base type; None for a root.
        is_abstract: Whether no record is of exactly this type.
        key: Names of the key properties as declared here, which may live on the base; empty where none is declared.
        properties: (name, Edm type) in document order.
        navigations: In document order.
    """

    name: str
    base: str | None
    is_abstract: bool
    key: tuple[str, ...] = ()
    properties: tuple[tuple[str, str], ...] = ()
    navigations: tuple[Navigation, ...] = ()


class Csdl(Struct, frozen=True, dict=True):
    """The entity model of one organisation.

    Attributes:
        types: Every declared entity type by name, in document order.
        sets: Name of the type that each entity set holds.
    """

    types: dict[str, EntityType]
    sets: dict[EntitySet, str]

    @cached_property
    def sets_by_type(self) -> dict[str, EntitySet]:
        """The entity set of each type that has one; the first declared where a type has several."""
        return {type_name: entity_set for entity_set, type_name in reversed(self.sets.items())}

    @cached_property
    def _children(self) -> dict[str, list[str]]:
        children: dict[str, list[str]] = {}
        for entity_type in self.types.values():
            if entity_type.base is not None:
                children.setdefault(entity_type.base, []).append(entity_type.name)
        return children

    def lineage(self, type_name: str) -> tuple[EntityType, ...]:
        """The type and all its bases, root first.

        Raises:
            ProtocolViolation: The type or one of its bases is not declared, or the bases form a circle.
        """
        line: dict[str, EntityType] = {}
        name: str | None = type_name
        while name is not None:
            if name in line or name not in self.types:
                fault = "inherits from itself" if name in line else "is not declared"
                msg = f"$metadata: entity type {name!r} {fault} (looking at {type_name!r})"
                raise ProtocolViolation(msg)
            line[name] = self.types[name]
            name = line[name].base
        return tuple(reversed(line.values()))

    def all_properties(self, type_name: str) -> tuple[tuple[str, str], ...]:
        """(name, Edm type) of every property: inherited ones first, then its own, each in document order."""
        return tuple(member for entity_type in self.lineage(type_name) for member in entity_type.properties)

    def all_navigations(self, type_name: str) -> tuple[Navigation, ...]:
        """Every navigation property: inherited ones first, then its own, each in document order."""
        return tuple(member for entity_type in self.lineage(type_name) for member in entity_type.navigations)

    def key(self, type_name: str) -> tuple[str, ...]:
        """Key properties of the type, or of its nearest base that declares some; empty where none does."""
        return next((entity_type.key for entity_type in reversed(self.lineage(type_name)) if entity_type.key), ())

    def concrete(self, type_name: str) -> Iterator[str]:
        """Types whose records a reference to *type_name* may mean.

        An abstract type stands for its concrete descendants (``principal``: systemuser and team), and for itself where
        it has an entity set, as ``activitypointer`` does. A type that is not declared stands for itself.
        """
        entity_type = self.types.get(type_name)
        if entity_type is None or not entity_type.is_abstract or type_name in self.sets_by_type:
            yield type_name
        if entity_type is not None and entity_type.is_abstract:
            for child in self._children.get(type_name, ()):
                yield from self.concrete(child)
