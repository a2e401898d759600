"""What makers do to an organisation: columns, types, options, change tracking."""

from dataclasses import replace
from threading import RLock
from typing import TypedDict, Unpack

from igh_sync_core.sandbox.data.edm import cast
from igh_sync_core.sandbox.data.schema import ENGLISH, KIND_OF_EDM, Column, Kind, Option, OptionSet, retype
from igh_sync_core.sandbox.data.table import Table


class ColumnFacets(TypedDict, total=False):
    """What ``add_column`` takes beside name and type; see ``Column``."""

    kind: Kind
    options: OptionSet
    targets: tuple[str, ...]
    navigations: tuple[str, ...]
    max_length: int
    precision: int
    behavior: str
    fixed: object


class Editing:
    """The schema side of an organisation.

    Attributes:
        metadata_version: Moves with every edit of schema or labels; served as ``globalmetadataversion``.
        source: A ``$metadata`` document to serve unchanged until the first schema edit.
    """

    def __init__(self, source: bytes | None) -> None:
        self.lock = RLock()
        self.tables: dict[str, Table] = {}
        self.metadata_version = 6_012_567
        self.source = source

    def add_column(self, entity: str, name: str, edm_type: str, **facets: Unpack[ColumnFacets]) -> None:
        """Add a column; existing rows hold ``fixed``, or nothing, and are not touched."""
        with self.lock:
            kind = facets.get("kind", KIND_OF_EDM[edm_type])
            column = replace(Column(name=name, kind=kind), **facets)
            self._change_schema(entity, column)
            self.tables[entity].rows.edit(lambda values: values.update({name: column.fixed}))

    def remove_column(self, entity: str, name: str) -> None:
        """Remove a column and its values."""
        with self.lock:
            self.tables[entity].shape.drop(name)
            self._schema_changed()
            self.tables[entity].rows.edit(lambda values: values.pop(name, None))

    def change_type(self, entity: str, name: str, edm_type: str) -> None:
        """Give a column another type; values that fit no more become null."""
        with self.lock:
            self._change_schema(entity, retype(self.tables[entity].shape.by_name[name], edm_type))
            self.tables[entity].rows.edit(lambda values: values.update({name: cast(values.get(name), edm_type)}))

    def _change_schema(self, entity: str, column: Column) -> None:
        self.tables[entity].shape.put(column)
        self._schema_changed()

    def _schema_changed(self) -> None:
        self.metadata_version += 1
        self.source = None

    def set_change_tracking(self, entity: str, on: bool) -> None:  # noqa: FBT001 - reads like the maker's switch
        """Switch change tracking of a table."""
        with self.lock:
            self.tables[entity].shape.is_tracked = on
            self.metadata_version += 1

    def rename_option(self, entity: str, field: str, code: int, label: str, language: int = ENGLISH) -> None:
        """Change one label; rows and versions stay."""
        with self.lock:
            self._options(entity, field).options[code].labels[language] = label
            self.metadata_version += 1

    def add_option(self, entity: str, field: str, code: int, label: str) -> None:
        """Add an option with its English label."""
        with self.lock:
            self._options(entity, field).options[code] = Option({ENGLISH: label})
            self.metadata_version += 1

    def remove_option(self, entity: str, field: str, code: int) -> None:
        """Remove an option; rows that hold its code keep it, as Dataverse's do."""
        with self.lock:
            del self._options(entity, field).options[code]
            self.metadata_version += 1

    def _options(self, entity: str, field: str) -> OptionSet:
        options = self.tables[entity].shape.by_name[field].options
        if options is None:
            raise KeyError(field)
        return options
