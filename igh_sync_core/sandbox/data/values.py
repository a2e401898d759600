"""Plausible values for health-R&D rows, from a seeded random source.

One *variant* is a whole row without its key, version and times; see ``population`` for how variants become rows.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random

from igh_sync_core.sandbox.data.clock import stamp
from igh_sync_core.sandbox.data.population import Link
from igh_sync_core.sandbox.data.schema import POINTING, Column, Kind, OptionSet

LEXICON = """
    malaria vaccine trial phase dose cohort placebo antigen adjuvant dengue assay regimen paediatric oral safety
    endpoint screening Chagas leishmaniasis tuberculosis field strain monoclonal recombinant efficacy ring nasal
    liposome peptide mRNA schistosomiasis cholera Abidjan São_Paulo naïve résumé double-blind crossover biomarker
    β-lactam kinetics
"""
WORDS = LEXICON.split()
GIVEN = ("Aïcha", "Wei", "Nadia", "John", "Søren", "Maria", "Kofi", "Priya", "Luis", "Hannah", "Tuan", "Zeynep", "Omar")
FAMILY = (
    "O'Brien",
    "Mbeki",
    "Nguyễn",
    "García",
    "Smith",
    "Okafor",
    "Kowalska",
    "Haddad",
    "Tanaka",
    "Ferreira",
    "Lindqvist",
)
FIRST_DAY = date(2009, 1, 1)
PIXEL = b"\x89PNG\r\n\x1a\n"


def invent(column: Column, random: Random) -> object:
    """A value for *column*, None with the column's own likelihood; lookups are not decided here."""
    if column.fixed is not None:
        return column.fixed
    if random.random() < column.null_share:
        return None
    return INVENTORS[column.kind](column, random)


def _text(column: Column, random: Random) -> str:
    name = column.name
    if "email" in name:
        return f"{random.choice(FAMILY).lower()}{random.randrange(999)}@example.org"
    if "url" in name or "website" in name:
        return f"https://example.org/{random.choice(WORDS)}/{random.randrange(10_000)}?a=1&b=2"
    if "phone" in name or "fax" in name:
        return f"+41 22 {random.randrange(100, 999)} {random.randrange(1000, 9999)}"
    if name in {"firstname", "lastname", "fullname"}:
        return f"{random.choice(GIVEN)} {random.choice(FAMILY)}" if name == "fullname" else random.choice(FAMILY)
    text = " ".join(random.choice(WORDS) for _ in range(random.randrange(1, 5)))
    return f"{text} {random.randrange(1000)}"[: column.max_length or 100]


def _memo(column: Column, random: Random) -> str:
    words = [random.choice(WORDS) for _ in range(random.randrange(6, 40))]
    words.insert(3, 'said "100 % safe",\r\n')
    return " ".join(words)[: column.max_length or 2000]


def _options(column: Column) -> OptionSet:
    if column.options is None:
        msg = f"column {column.name} has no options"
        raise ValueError(msg)
    return column.options


def _choice(column: Column, random: Random) -> object:
    return random.choice(list(_options(column).options))


def _choices(column: Column, random: Random) -> str:
    codes = list(_options(column).options)
    chosen = random.sample(codes, random.randrange(1, min(4, len(codes)) + 1))
    return ",".join(str(code) for code in sorted(chosen))


def _decimal(column: Column, random: Random) -> Decimal:
    digits = column.precision or 2
    if column.name == "exchangerate":
        return Decimal(random.randrange(700_000, 1_400_000)).scaleb(-6).quantize(Decimal(1).scaleb(-digits))
    return Decimal(random.randrange(10**6)).scaleb(-2).quantize(Decimal(1).scaleb(-digits))


def _moment(_column: Column, random: Random) -> str:
    start = datetime(2015, 1, 1, tzinfo=UTC)
    return stamp(start + timedelta(seconds=random.randrange(9 * 365 * 86_400)))


def _day(_column: Column, random: Random) -> str:
    return (FIRST_DAY + timedelta(days=random.randrange(6000))).isoformat()


def _guid(_column: Column, random: Random) -> str:
    digits = f"{random.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _managed(column: Column, random: Random) -> dict[str, object]:
    return {"Value": random.getrandbits(1) == 1, "CanBeChanged": True, "ManagedPropertyLogicalName": column.name}


INVENTORS: Mapping[Kind, Callable[[Column, Random], object]] = {
    Kind.STRING: _text,
    Kind.MEMO: _memo,
    Kind.PICKLIST: _choice,
    Kind.STATE: _choice,
    Kind.STATUS: _choice,
    Kind.MULTISELECT: _choices,
    Kind.BOOLEAN: lambda _column, random: random.getrandbits(1) == 1,
    Kind.INTEGER: lambda _column, random: random.randrange(-5, 50_000),
    Kind.BIGINT: lambda _column, random: random.randrange(1 << 53, 1 << 62),
    Kind.DECIMAL: _decimal,
    Kind.MONEY: _decimal,
    Kind.DOUBLE: lambda _column, random: round(random.uniform(-180, 180), 5),
    Kind.DATETIME: _moment,
    Kind.DATE: _day,
    Kind.GUID: _guid,
    Kind.IMAGE: lambda _column, random: b64encode(PIXEL + random.randbytes(24)).decode(),
    Kind.MANAGED: _managed,
}


def invent_row(
    columns: Sequence[Column], random: Random, *, variant: int, table: str, slots: Callable[[str], int]
) -> dict[str, object]:
    """One variant: every column by name, lookups as ``Link``.

    Args:
        columns: All columns of the table.
        random: Consumed; the same state gives the same row.
        variant: Its number; rows of a table point only at earlier rows of the same table, so never in a circle.
        table: Logical name of the table.
        slots: How many rows of a block of a table may be pointed at; 0 for tables without rows.
    """
    row: dict[str, object] = {}

    def limit(target: str) -> int:
        return min(slots(target), variant) if target == table else slots(target)

    for column in columns:
        if column.kind in POINTING or column.targets:
            row[column.name] = _point(column, random, limit=limit)
        else:
            row[column.name] = invent(column, random)
    _reconcile(row, columns)
    return row


def _point(column: Column, random: Random, *, limit: Callable[[str], int]) -> Link | None:
    targets = [target for target in column.targets if limit(target) > 0]
    if not targets or random.random() < column.null_share:
        return None
    target = random.choice(targets)
    return Link(target, random.randrange(limit(target)))


def _reconcile(row: dict[str, object], columns: Sequence[Column]) -> None:
    """Make columns agree that Dataverse itself keeps in step."""
    owner = row.get("_ownerid_value")
    if isinstance(owner, Link) and "_owninguser_value" in row:
        row["_owninguser_value"] = owner if owner.table == "systemuser" else None
        row["_owningteam_value"] = owner if owner.table == "team" else None
    for column in columns:
        base = f"{column.name}_base"
        if column.kind is Kind.MONEY and base in row:
            row[base] = None if row[column.name] is None else _converted(row[column.name], row.get("exchangerate"))
        if column.kind is Kind.STATUS and "statecode" in row:
            row["statecode"] = _options(column).options[_as_int(row[column.name])].state
    if any(column.kind is Kind.MONEY for column in columns) and row.get("exchangerate") is None:
        row["exchangerate"] = Decimal("1.000000000000")


def _converted(amount: object, rate: object) -> Decimal:
    factor = rate if isinstance(rate, Decimal) and rate else Decimal(1)
    return (Decimal(str(amount)) / factor).quantize(Decimal("1.0000000000"))


def _as_int(code: object) -> int:
    return int(str(code))
