"""Writing ``$metadata``: the organisation's definitions as CSDL, with the oddities of the real document.

One schema with an alias; abstract bases whose keys are repeated but whose properties are not; no lengths, no
nullability; lookups without navigation, several navigations on one lookup; bindings to a set ``owners`` that does not
exist; a byte order mark.
"""

from collections.abc import Iterable, Mapping
from xml.sax.saxutils import quoteattr

from igh_sync_core.sandbox.data.organisation import ManyToMany, Organisation
from igh_sync_core.sandbox.data.schema import Column, Kind, Shape

HEAD = """\
<?xml version="1.0" encoding="utf-8"?>
<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx">
  <edmx:Reference Uri="http://vocabularies.odata.org/OData.Community.Keys.V1.xml">
    <edmx:Include Namespace="OData.Community.Keys.V1" Alias="Keys" />
    <edmx:IncludeAnnotations TermNamespace="OData.Community.Keys.V1" />
  </edmx:Reference>
  <edmx:Reference Uri="http://vocabularies.odata.org/OData.Community.Display.V1.xml">
    <edmx:Include Namespace="OData.Community.Display.V1" Alias="Display" />
    <edmx:IncludeAnnotations TermNamespace="OData.Community.Display.V1" />
  </edmx:Reference>
  <edmx:DataServices>
    <Schema Namespace="Microsoft.Dynamics.CRM" Alias="mscrm" xmlns="http://docs.oasis-open.org/odata/ns/edm">
      <EntityType Name="crmbaseentity" Abstract="true" />
      <EntityType Name="expando" BaseType="mscrm.crmbaseentity" OpenType="true" />
      <EntityType Name="principal" BaseType="mscrm.crmbaseentity" Abstract="true">
        <Key><PropertyRef Name="ownerid" /></Key>
        <Property Name="ownerid" Type="Edm.Guid" />
      </EntityType>
      <EntityType Name="crmmodelbaseentity" Abstract="true" />
"""
TAIL = """\
      <ComplexType Name="BooleanManagedProperty">
        <Property Name="Value" Type="Edm.Boolean" Nullable="false" />
        <Property Name="CanBeChanged" Type="Edm.Boolean" Nullable="false" />
        <Property Name="ManagedPropertyLogicalName" Type="Edm.String" Unicode="false" />
      </ComplexType>
      <ComplexType Name="WhoAmIResponse">
        <Property Name="BusinessUnitId" Type="Edm.Guid" Nullable="false" />
        <Property Name="UserId" Type="Edm.Guid" Nullable="false" />
        <Property Name="OrganizationId" Type="Edm.Guid" Nullable="false" />
      </ComplexType>
      <EnumType Name="OwnershipTypes" IsFlags="true">
        <Member Name="None" Value="0" />
        <Member Name="UserOwned" Value="1" />
        <Member Name="OrganizationOwned" Value="8" />
      </EnumType>
      <Function Name="WhoAmI"><ReturnType Type="mscrm.WhoAmIResponse" Nullable="false" /></Function>
      <Function Name="In">
        <Parameter Name="PropertyName" Type="Edm.String" Unicode="false" />
        <Parameter Name="PropertyValues" Type="Collection(Edm.String)" Unicode="false" />
        <ReturnType Type="Edm.Boolean" Nullable="false" />
      </Function>
"""
END = """\
      </EntityContainer>
    </Schema>
  </edmx:DataServices>
</edmx:Edmx>
"""


def write_csdl(organisation: Organisation) -> bytes:
    """The ``$metadata`` document; the organisation's own source while no schema edit was made."""
    if organisation.source is not None:
        return organisation.source
    shapes = {name: table.shape for name, table in organisation.tables.items()}
    types = (line for shape in shapes.values() for line in _type(shape, shapes, organisation.relationships))
    container = ('      <EntityContainer Name="System">\n', *(_set(shape, shapes) for shape in shapes.values()))
    return b"\xef\xbb\xbf" + "".join((HEAD, *types, TAIL, *container, END)).encode()


def _type(shape: Shape, shapes: Mapping[str, Shape], relationships: Iterable[ManyToMany]) -> Iterable[str]:
    abstract = ' Abstract="true"' if shape.is_abstract else ""
    yield f'      <EntityType Name="{shape.logical_name}" BaseType="mscrm.{shape.base}"{abstract}>\n'
    yield f'        <Key>\n          <PropertyRef Name="{shape.csdl_key}" />\n        </Key>\n'
    own = [column for column in shape.columns if not column.declared_by]
    yield from map(_property, own)
    yield from (line for column in own for line in _navigations(column, shape, shapes))
    yield from (_collection(each, shape.logical_name) for each in relationships if shape.logical_name in each[2:])
    yield from _backwards(shape, shapes)
    yield "      </EntityType>\n"


def _property(column: Column) -> str:
    extra = {"Edm.String": ' Unicode="false"', "Edm.Decimal": ' Scale="Variable"'}.get(column.edm, "")
    return f"        <Property Name={quoteattr(column.name)} Type={quoteattr(column.edm)}{extra} />\n"


def _navigations(column: Column, shape: Shape, shapes: Mapping[str, Shape]) -> Iterable[str]:
    """One navigation per target; an owner's single one leads to the abstract ``principal``."""
    if column.kind is Kind.OWNER:
        yield _navigation("ownerid", "principal", "ownerid", column=column, partner=f"owner_{shape.entity_set}")
        return
    for target, name in zip(column.targets, column.navigations, strict=False):
        if target in shapes:
            yield _navigation(name, target, shapes[target].key, column=column, partner=_partner(shape, column, target))


def _navigation(name: str, target: str, key: str, *, column: Column, partner: str) -> str:
    return (
        f'        <NavigationProperty Name="{name}" Type="mscrm.{target}" Nullable="false" Partner="{partner}">\n'
        f'          <ReferentialConstraint Property="{column.name}" ReferencedProperty="{key}" />\n'
        "        </NavigationProperty>\n"
    )


def _partner(shape: Shape, column: Column, target: str) -> str:
    return f"{target}_{shape.logical_name}_{column.attribute}"


def _collection(relationship: ManyToMany, here: str) -> str:
    there = relationship.entity2 if here == relationship.entity1 else relationship.entity1
    name = relationship.schema_name
    return f'        <NavigationProperty Name="{name}" Type="Collection(mscrm.{there})" Partner="{name}" />\n'


def _backwards(shape: Shape, shapes: Mapping[str, Shape]) -> Iterable[str]:
    """Collections of the rows that point here."""
    for other in shapes.values():
        for column in other.columns:
            if column.declared_by or column.kind is Kind.OWNER or shape.logical_name not in column.targets:
                continue
            if column.navigations:
                place = min(column.targets.index(shape.logical_name), len(column.navigations) - 1)
                name = _partner(other, column, shape.logical_name)
                back = column.navigations[place]
                yield (
                    f'        <NavigationProperty Name="{name}" Type="Collection(mscrm.{other.logical_name})" '
                    f'Partner="{back}" />\n'
                )


def _set(shape: Shape, shapes: Mapping[str, Shape]) -> str:
    if not shape.entity_set:
        return ""
    bindings = [
        f'          <NavigationPropertyBinding Path="{name}" Target="{target}" />\n'
        for column in shape.columns
        for name, target in _bound(column, shapes)
    ]
    return (
        f'        <EntitySet Name="{shape.entity_set}" EntityType="Microsoft.Dynamics.CRM.{shape.logical_name}">\n'
        f"{''.join(bindings)}        </EntitySet>\n"
    )


def _bound(column: Column, shapes: Mapping[str, Shape]) -> Iterable[tuple[str, str]]:
    if column.kind is Kind.OWNER:
        return [("ownerid", "owners")]
    pairs = zip(column.navigations, column.targets, strict=False)
    return [(name, shapes[target].entity_set) for name, target in pairs if target in shapes]
