"""Definitions of relationships: N:N from the organisation's list, 1:N from its lookups."""

from collections.abc import Iterator

from igh_sync_core.sandbox.data.organisation import ManyToMany, Organisation
from igh_sync_core.sandbox.metadata.labels import Json, metadata_id


def many_to_many(organisation: Organisation) -> list[Json]:
    """All N:N relationships."""
    return [_many_to_many(relationship) for relationship in organisation.relationships]


def _many_to_many(relationship: ManyToMany) -> Json:
    name = relationship.schema_name
    return _head(name, "ManyToManyRelationship") | {
        "Entity1LogicalName": relationship.entity1,
        "Entity2LogicalName": relationship.entity2,
        "IntersectEntityName": relationship.intersect,
        "Entity1IntersectAttribute": relationship.attribute1,
        "Entity2IntersectAttribute": relationship.attribute2,
        "Entity1NavigationPropertyName": name,
        "Entity2NavigationPropertyName": name,
    }


def _head(name: str, kind: str) -> Json:
    return {
        "MetadataId": metadata_id("relationship", name),
        "HasChanged": None,
        "IsCustomRelationship": name.startswith("vin_"),
        "IsValidForAdvancedFind": True,
        "SchemaName": name,
        "SecurityTypes": "None",
        "IsManaged": False,
        "RelationshipType": kind,
        "IntroducedVersion": "1.0.0.0",
    }


def one_to_many(organisation: Organisation) -> Iterator[Json]:
    """All 1:N relationships, one per lookup column and target."""
    for table in organisation.tables.values():
        for column in table.shape.columns:
            for target in column.targets if not table.shape.is_intersect else ():
                if target not in organisation.tables:
                    continue
                place = min(column.targets.index(target), len(column.navigations) - 1)
                name = f"{target}_{table.logical_name}_{column.attribute}"
                yield _head(name, "OneToManyRelationship") | {
                    "ReferencedEntity": target,
                    "ReferencedAttribute": organisation.tables[target].shape.key,
                    "ReferencingEntity": table.logical_name,
                    "ReferencingAttribute": column.attribute,
                    "ReferencingEntityNavigationPropertyName": column.navigations[place] if place >= 0 else None,
                    "ReferencedEntityNavigationPropertyName": name,
                }
