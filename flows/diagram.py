"""A Mermaid picture of the copied tables and what points at what."""

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby

from igh_sync_core.model import TableSpec
from igh_sync_core.related.references import Findings
from igh_sync_core.related.relations import relations_of

BOTH_ENDS = 2
AUDIT = frozenset(
    f"_{name}_value"
    for name in ("createdby", "createdonbehalfby", "modifiedby", "modifiedonbehalfby", "ownerid", "owninguser")
)
"""Nearly every table has them, so they tell nothing; drawn only where they dangle."""


def relation_diagram(specs: Sequence[TableSpec], findings: Findings) -> str:
    """Tables as nodes, one arrow per pair of tables; what dangles is dotted and red, with its count.

    The table of an N:N relationship is an arrow with two heads, unless something dangles in it.
    """
    return "\n".join(["flowchart LR", *_lines(specs, findings)])


def _lines(specs: Sequence[TableSpec], findings: Findings) -> Iterator[str]:
    dangling: dict[tuple[str, str], int] = {}
    for finding in findings.dangling:
        pair = finding.table, finding.referenced_table
        dangling[pair] = dangling.get(pair, 0) + finding.dangling_count
    broken = {source for source, _ in dangling}
    arrows = dict.fromkeys(arrow for arrow in _arrows(specs, broken) if arrow[::2] not in dangling)
    for source, sign, target in arrows:
        yield f"  {source} {sign} {target}"
    for number, ((source, target), count) in enumerate(dangling.items(), start=len(arrows)):
        yield f'  {source} -. "{count:,} dangling" .-> {target}'
        yield f"  linkStyle {number} stroke:#d33,color:#d33"


def _arrows(specs: Sequence[TableSpec], broken: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """Table, sign and table of what does not dangle or not only."""
    drawn = (relation for relation in relations_of(specs) if relation.column not in AUDIT)
    for source, relations in groupby(drawn, key=lambda relation: relation.source):
        targets = [relation.target.entity_set for relation in relations]
        if source.is_intersect and len(targets) == BOTH_ENDS and source.entity_set not in broken:
            yield targets[0], "<-->", targets[1]
        else:
            yield from ((source.entity_set, "-->", target) for target in targets)
