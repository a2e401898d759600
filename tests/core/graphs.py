"""Small organisations whose references a test chooses one by one, and what must follow from them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.sandbox import Organisation
from igh_sync_core.sandbox.data.columns import lookup
from igh_sync_core.sandbox.data.organisation import ManyToMany
from igh_sync_core.sandbox.organisations.health import custom, intersect
from igh_sync_core.sandbox.organisations.platform import platform_shapes

Node = tuple[str, str]
"""Logical name and key."""

FILTERED = ("account", "contact", "systemuser")
SELECTION = (
    EntityConfig("vin_study", "vin_studies"),
    EntityConfig("vin_study_systemuser", "vin_study_systemuserset"),
    EntityConfig("account", "accounts", filtered=True),
    EntityConfig("contact", "contacts", filtered=True),
    EntityConfig("systemuser", "systemusers", filtered=True),
)
COLUMNS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "vin_study": {
        "_vin_sponsor_value": ("account", "contact"),
        "_vin_site_value": ("account",),
        "_ownerid_value": ("systemuser", "team"),
    },
    "vin_study_systemuser": {"vin_studyid": ("vin_study",), "systemuserid": ("systemuser",)},
    "account": {
        "_parentaccountid_value": ("account",),
        "_primarycontactid_value": ("contact",),
        "_ownerid_value": ("systemuser", "team"),
    },
    "contact": {"_parentcustomerid_value": ("account", "contact"), "_ownerid_value": ("systemuser", "team")},
    "systemuser": {"_parentsystemuserid_value": ("systemuser",)},
    "team": {},
}
"""Where each column of a table may point."""


def key_of(table: str, number: int) -> str:
    """The key of a table's n-th record; equal numbers give ids that differ in the table alone."""
    return f"{tuple(COLUMNS).index(table) + 1:08x}-0000-0000-0000-{number:012x}"


@dataclass
class Graph:
    """Records and where their columns point; pointing at records that do not exist is allowed."""

    edges: dict[Node, dict[str, Node]] = field(default_factory=dict)

    def add(self, table: str, number: int, **columns: Node) -> Node:
        node = table, key_of(table, number)
        self.edges[node] = dict(columns)
        return node

    def closure(self, start: Iterable[str] = ("vin_study", "vin_study_systemuser")) -> dict[str, set[str]]:
        """Keys per filtered table that can be reached from the whole tables, found one record at a time."""
        open_nodes = [node for node in self.edges if node[0] in start]
        met = set(open_nodes)
        while open_nodes:
            for target in self.edges[open_nodes.pop()].values():
                if target in self.edges and target[0] != "team" and target not in met:
                    met.add(target)
                    open_nodes.append(target)
        return {table: {key for name, key in met if name == table} for table in FILTERED}

    def dangling(self, stored: Mapping[str, set[str]]) -> dict[tuple[str, str, str], int]:
        """References per table, column and target that lead nowhere, counted over what is stored."""
        found: dict[tuple[str, str, str], int] = {}
        for (table, key), columns in self.edges.items():
            if table in stored and key not in stored[table]:
                continue
            for column, target in columns.items() if table != "team" else ():
                if target[0] != "team" and target not in self.edges:
                    relation = table, column, target[0]
                    found[relation] = found.get(relation, 0) + 1
        return found

    def organisation(self) -> Organisation:
        """A Dataverse with these records and no others."""
        relationship = ManyToMany(
            "vin_study_systemuser", "vin_study_systemuser", "vin_study", "vin_studyid", "systemuser", "systemuserid"
        )
        columns = [lookup("vin_sponsor", "account", "contact"), lookup("vin_site", "account")]
        shapes = [*platform_shapes(), custom("vin_study", "vin_studies", columns)]
        shapes.append(intersect(relationship, {shape.logical_name: shape for shape in shapes}))
        organisation = Organisation(shapes, {"organization": 1}, seed=1, relationships=[relationship])
        for (table, key), columns_ in self.edges.items():
            organisation.insert(table, {organisation.tables[table].shape.key: key, **columns_})
        return organisation


def from_picks(sizes: Mapping[str, int], picks: Iterator[int]) -> Graph:
    """A graph whose every column points where the next pick says: nowhere, at a record, or at one that is missing."""
    graph = Graph()
    for table, columns in COLUMNS.items():
        for number in range(sizes.get(table, 0)):
            chosen = {column: _target(targets, sizes, next(picks)) for column, targets in columns.items()}
            graph.add(table, number, **{column: target for column, target in chosen.items() if target is not None})
    return graph


def _target(targets: Sequence[str], sizes: Mapping[str, int], pick: int) -> Node | None:
    if pick % 4 == 0:
        return None
    table = targets[pick % len(targets)]
    return table, key_of(table, (pick // 8) % (sizes.get(table, 0) + 1))
