"""A Mermaid picture of the copied tables and what points at what."""

from collections.abc import Iterator, Sequence

from igh_sync_core.model import TableSpec
from igh_sync_core.references import Findings
from igh_sync_core.relations import relations_of

AUDIT = frozenset(
    f"_{name}_value"
    for name in ("createdby", "createdonbehalfby", "modifiedby", "modifiedonbehalfby", "ownerid", "owninguser")
)
"""Nearly every table has them, so they tell nothing; drawn only where they dangle."""


def relation_diagram(specs: Sequence[TableSpec], findings: Findings) -> str:
    """Tables as nodes, one arrow per pair of tables; what dangles is dotted and red, with its count."""
    return "\n".join(["flowchart LR", *_lines(specs, findings)])


def _lines(specs: Sequence[TableSpec], findings: Findings) -> Iterator[str]:
    dangling: dict[tuple[str, str], int] = {}
    for finding in findings.dangling:
        pair = finding.table, finding.referenced_table
        dangling[pair] = dangling.get(pair, 0) + finding.dangling_count
    pairs = {
        (relation.source.entity_set, relation.target.entity_set): None
        for relation in relations_of(specs)
        if relation.column not in AUDIT
    }
    for number, (source, target) in enumerate(pairs | dict.fromkeys(dangling)):
        count = dangling.get((source, target))
        yield f'  {source} -. "{count} dangling" .-> {target}' if count else f"  {source} --> {target}"
        if count:
            yield f"  linkStyle {number} stroke:#d33,color:#d33"
