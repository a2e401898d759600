"""Read the ``$metadata`` document as a stream: bytes in, a frozen ``Csdl`` out.

Rules of this file:

- Memory holds what is kept, never the document: expat pushes events, no tree is built.
- A DTD ends the parse at once, so no entity can be declared, expanded or fetched.
- An element counts only below its right parent, because ComplexTypes have properties too and annotations nest anything.

Source: https://learn.microsoft.com/power-apps/developer/data-platform/webapi/web-api-service-documents
"""

from collections.abc import Callable, Iterable
from sys import intern
from typing import NoReturn
from xml.parsers import expat

import msgspec

from igh_sync_core.errors import ProtocolViolation, SourceUnavailable
from igh_sync_core.metadata.csdl import Csdl, EntityType, Navigation
from igh_sync_core.model import EntitySet

_ROOT = "http://docs.oasis-open.org/odata/ns/edmx Edmx"
_EDM = "http://docs.oasis-open.org/odata/ns/edm"


def parse_csdl(chunks: Iterable[bytes]) -> Csdl:
    """Parse a whole ``$metadata`` document.

    Args:
        chunks: The document cut anywhere, even within a character; consumed once, one chunk held at a time.

    Returns:
        All entity types and entity sets. ComplexTypes, enums, functions, actions and annotations are passed over.

    Raises:
        ProtocolViolation: Not XML, not CSDL (an HTML page, say), or it declares a DTD.
        SourceUnavailable: It is cut short; asked again, it may come whole.
    """
    reader = _Reader()
    parser = reader.parser()
    try:
        for chunk in chunks:
            parser.Parse(chunk)
    except expat.ExpatError as error:
        msg = f"$metadata is not well-formed XML: {error}"
        raise ProtocolViolation(msg) from error
    try:
        parser.Parse(b"", True)  # noqa: FBT003 - expat takes no keywords
    except expat.ExpatError as error:
        msg = f"$metadata is cut short, its last element is never closed: {error}"
        raise SourceUnavailable(msg) from error
    return reader.csdl()


class _Reader:
    """Collects types and sets from expat's events; does not hold the parser, so no reference circle is left behind."""

    def __init__(self) -> None:
        self._types: dict[str, EntityType] = {}
        self._sets: dict[EntitySet, str] = {}
        self._path: list[str] = []
        self._key: list[str] = []
        self._properties: list[tuple[str, str]] = []
        self._navigations: list[Navigation] = []
        self._open_type: dict[str, str] = {}
        self._starts: dict[tuple[str, ...], Callable[[dict[str, str]], None]] = {
            ("Schema", "EntityType"): self._start_type,
            ("EntityType", "Key", "PropertyRef"): self._add_key,
            ("EntityType", "Property"): self._add_property,
            ("EntityType", "NavigationProperty"): self._add_navigation,
            ("EntityType", "NavigationProperty", "ReferentialConstraint"): self._bind_navigation,
            ("EntityContainer", "EntitySet"): self._add_set,
        }

    def parser(self) -> expat.XMLParserType:
        """A fresh expat parser that reports here."""
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        return parser

    def csdl(self) -> Csdl:
        """What was read; call it after the last event."""
        if not self._types:
            msg = "$metadata declares no entity type"
            raise ProtocolViolation(msg)
        return Csdl(types=self._types, sets=self._sets)

    def _start(self, tag: str, found: dict[str, str]) -> None:
        if not self._path and tag != _ROOT:
            msg = f"$metadata is not CSDL: its root element is {tag.rpartition(' ')[2]!r}, not OData's 'Edmx'"
            raise ProtocolViolation(msg)
        namespace, _, local = tag.rpartition(" ")
        self._path.append(local if namespace == _EDM else tag)
        start = self._starts.get(tuple(self._path[-2:])) or self._starts.get(tuple(self._path[-3:]))
        if start is not None:
            start(found)

    def _end(self, _tag: str) -> None:
        if self._path.pop() == "EntityType" and self._path[-1:] == ["Schema"]:
            self._finish_type(_attribute(self._open_type, "Name"))

    def _start_type(self, found: dict[str, str]) -> None:
        self._open_type = found

    def _finish_type(self, name: str) -> None:
        if name in self._types:
            msg = f"$metadata declares entity type {name!r} twice"
            raise ProtocolViolation(msg)
        base = self._open_type.get("BaseType")
        self._types[name] = EntityType(
            name=intern(name),
            base=None if base is None else _local(base),
            is_abstract=self._open_type.get("Abstract") == "true",
            key=tuple(self._key),
            properties=tuple(self._properties),
            navigations=tuple(self._navigations),
        )
        for members in (self._key, self._properties, self._navigations):
            members.clear()

    def _add_key(self, found: dict[str, str]) -> None:
        self._key.append(_name(found))

    def _add_property(self, found: dict[str, str]) -> None:
        self._properties.append((_name(found), intern(_attribute(found, "Type"))))

    def _add_navigation(self, found: dict[str, str]) -> None:
        declared = _attribute(found, "Type")
        self._navigations.append(Navigation(_name(found), _local(declared), declared.startswith("Collection(")))

    def _bind_navigation(self, found: dict[str, str]) -> None:
        column, referenced = _attribute(found, "Property"), _attribute(found, "ReferencedProperty")
        unbound = self._navigations.pop()
        bound = msgspec.structs.replace(unbound, column=intern(column), referenced=intern(referenced))
        self._navigations.append(bound)

    def _add_set(self, found: dict[str, str]) -> None:
        self._sets[EntitySet(_name(found))] = _local(_attribute(found, "EntityType"))


def _refuse_doctype(name: str, _system: str | None, _public: str | None, _has_subset: object) -> NoReturn:
    what = "is an HTML page" if name.lower() == "html" else "declares a DTD, which is refused"
    msg = f"$metadata {what}"
    raise ProtocolViolation(msg)


def _attribute(found: dict[str, str], name: str) -> str:
    if name not in found:
        msg = f"$metadata: an element lacks its {name!r} attribute (it has {sorted(found)})"
        raise ProtocolViolation(msg)
    return found[name]


def _name(found: dict[str, str]) -> str:
    return intern(_attribute(found, "Name"))


def _local(type_name: str) -> str:
    """``account`` from ``mscrm.account``, ``Microsoft.Dynamics.CRM.account`` or ``Collection(mscrm.account)``."""
    return intern(type_name.removeprefix("Collection(").removesuffix(")").rpartition(".")[2])
