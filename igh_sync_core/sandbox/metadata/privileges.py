"""What rights there are per table, and which of them the sync user holds.

Shapes are those of a captured definition (``Privileges``) and of ``RetrieveUserPrivilegesResponse`` in a captured
``$metadata``.
"""

import re
from collections.abc import Iterable, Mapping

from igh_sync_core.sandbox.data.schema import Shape
from igh_sync_core.sandbox.metadata.labels import Json, metadata_id

HELD = re.compile(r"systemusers\(([0-9a-fA-F-]{36})\)/Microsoft\.Dynamics\.CRM\.RetrieveUserPrivileges(?:\(\))?")
KINDS = ("Create", "Read", "Write", "Delete", "Assign", "Share", "Append", "AppendTo")


def defined(shape: Shape) -> list[Json]:
    """The rights that exist for a table, as its definition names them."""
    return [
        {
            "CanBeBasic": True,
            "CanBeDeep": True,
            "CanBeGlobal": True,
            "CanBeLocal": True,
            "CanBeEntityReference": False,
            "CanBeParentEntityReference": False,
            "CanBeRecordFilter": False,
            "Name": f"prv{kind}{shape.logical_name}",
            "PrivilegeId": privilege_id(shape, kind),
            "PrivilegeType": kind,
        }
        for kind in KINDS
    ]


def held(shapes: Iterable[Shape], depths: Mapping[str, str], unit: str | None) -> list[Json]:
    """The right to read each of *shapes*, at the depth of *depths* or else of the whole organisation."""
    return [
        {
            "Depth": depths.get(shape.logical_name, "Global"),
            "PrivilegeId": privilege_id(shape, "Read"),
            "BusinessUnitId": unit,
        }
        for shape in shapes
    ]


def privilege_id(shape: Shape, kind: str) -> str:
    """The id of one right."""
    return metadata_id("privilege", f"prv{kind}{shape.logical_name}")
