"""Short ways to write columns down, and the columns that nearly every table has."""

from collections.abc import Iterator

from igh_sync_core.sandbox.data.schema import ENGLISH, FRENCH, Column, Kind, Option, OptionSet

FIRST_CODE = 100_000_000
"""Where Dataverse starts to number the options of a custom choice."""


def plain(kind: Kind, *names: str, null_share: float = 0.1) -> list[Column]:
    """Columns of one kind that need nothing but a name."""
    return [Column(name=name, kind=kind, null_share=null_share) for name in names]


def texts(*names: str, max_length: int = 100, null_share: float = 0.1) -> list[Column]:
    """Single-line texts."""
    return [Column(name=name, kind=Kind.STRING, max_length=max_length, null_share=null_share) for name in names]


def memos(*names: str) -> list[Column]:
    """Long texts, empty in every second row."""
    return [Column(name=name, kind=Kind.MEMO, max_length=4000, null_share=0.5) for name in names]


def title(name: str) -> Column:
    """The primary name; never empty."""
    return Column(name=name, kind=Kind.STRING, max_length=200, null_share=0)


def decimals(*names: str, precision: int = 4) -> list[Column]:
    """Exact numbers, served with *precision* digits after the point."""
    return [Column(name=name, kind=Kind.DECIMAL, precision=precision) for name in names]


def money(*names: str) -> Iterator[Column]:
    """Amounts, each with its shadow in the base currency."""
    for name in names:
        yield Column(name=name, kind=Kind.MONEY, precision=4)
        yield Column(name=f"{name}_base", kind=Kind.MONEY, precision=10, is_writable=False)


def currency() -> list[Column]:
    """What a table with amounts has beside them."""
    rate = Column(name="exchangerate", kind=Kind.DECIMAL, precision=12, null_share=0)
    return [rate, lookup("transactioncurrencyid", "transactioncurrency", null_share=0)]


def wall_times(*names: str) -> list[Column]:
    """Dates with time that know no time zone."""
    return [Column(name=name, kind=Kind.DATETIME, behavior="TimeZoneIndependent") for name in names]


def days(*names: str) -> list[Column]:
    """Dates without time."""
    return [Column(name=name, kind=Kind.DATE, behavior="DateOnly") for name in names]


def option_set(name: str, labels: str, *, is_global: bool = False) -> OptionSet:
    """Options from labels separated by ``|``, in English and French; a label after ``~`` exists in French alone."""
    options = {FIRST_CODE + number: Option(_languages(label)) for number, label in enumerate(labels.split("|"))}
    return OptionSet(name, options, is_global)


def _languages(label: str) -> dict[int, str]:
    return {FRENCH: label[1:]} if label.startswith("~") else {ENGLISH: label, FRENCH: f"{label} (fr)"}


def choice(name: str, labels: str, *, table: str, null_share: float = 0.15) -> Column:
    """A choice of its own; its options are named after table and column."""
    return Column(name=name, kind=Kind.PICKLIST, options=option_set(f"{table}_{name}", labels), null_share=null_share)


def choices(name: str, labels: str, *, table: str) -> Column:
    """A multi-select choice."""
    options = option_set(f"{table}_{name}", labels)
    return Column(name=name, kind=Kind.MULTISELECT, options=options, null_share=0.25)


def yes_no(name: str, *, table: str, labels: tuple[str, str] = ("Yes", "No")) -> Column:
    """A yes/no column; *labels* of true and false."""
    options = {1: Option({ENGLISH: labels[0], FRENCH: "Oui"}), 0: Option({ENGLISH: labels[1], FRENCH: "Non"})}
    return Column(name=name, kind=Kind.BOOLEAN, options=OptionSet(f"{table}_{name}", options), null_share=0.05)


def lookup(attribute: str, *targets: str, navigation: str = "", null_share: float = 0.2) -> Column:
    """A lookup that users set; *navigation* has the schema name's casing, polymorphic ones one name per target."""
    name = navigation or attribute
    navigations = (name,) if len(targets) == 1 else tuple(f"{name}_{target}" for target in targets)
    kind = Kind.CUSTOMER if targets == ("account", "contact") else Kind.LOOKUP
    column = f"_{attribute}_value"
    return Column(name=column, kind=kind, targets=targets, navigations=navigations, null_share=null_share)


def kept(attribute: str, *targets: str, null_share: float = 0.0, is_navigable: bool = True) -> Column:
    """A lookup that Dataverse keeps; without *is_navigable* ``$metadata`` has no navigation for it."""
    navigations = (attribute,) * len(targets) if is_navigable else ()
    column = f"_{attribute}_value"
    return Column(
        name=column,
        kind=Kind.LOOKUP,
        targets=targets,
        navigations=navigations,
        is_writable=False,
        null_share=null_share,
    )


def image(name: str) -> list[Column]:
    """An image column and the three that come with it."""
    return [
        Column(name=name, kind=Kind.IMAGE, null_share=0.9),
        Column(name=f"{name}id", kind=Kind.GUID, null_share=0.9),
        Column(name=f"{name}_timestamp", kind=Kind.BIGINT, null_share=0.9),
        Column(name=f"{name}_url", kind=Kind.STRING, null_share=0.9),
    ]


def audit() -> list[Column]:
    """Who and when; *modifiedon* and *versionnumber* come from the row's position while it is untouched."""
    return [
        Column(name="createdon", kind=Kind.DATETIME, null_share=0),
        kept("createdby", "systemuser"),
        Column(name="modifiedon", kind=Kind.DATETIME, null_share=0),
        kept("modifiedby", "systemuser"),
        kept("createdonbehalfby", "systemuser", null_share=0.95),
        kept("modifiedonbehalfby", "systemuser", null_share=0.95),
        version(),
    ]


def version() -> Column:
    """The database-wide row version."""
    return Column(name="versionnumber", kind=Kind.BIGINT, null_share=0)


def state(table: str) -> list[Column]:
    """Active or inactive, and why."""
    states = {0: Option({ENGLISH: "Active", FRENCH: "Actif"}), 1: Option({ENGLISH: "Inactive", FRENCH: "Inactif"})}
    reasons = {
        1: Option({ENGLISH: "Active", FRENCH: "Actif"}, 0),
        2: Option({ENGLISH: "Inactive", FRENCH: "Inactif"}, 1),
    }
    return [
        Column(name="statecode", kind=Kind.STATE, options=OptionSet(f"{table}_statecode", states), null_share=0),
        Column(name="statuscode", kind=Kind.STATUS, options=OptionSet(f"{table}_statuscode", reasons), null_share=0),
    ]


def owned() -> list[Column]:
    """Ownership by a user or a team."""
    return [
        Column(
            name="_ownerid_value",
            kind=Kind.OWNER,
            targets=("systemuser", "team"),
            navigations=("ownerid",),
            null_share=0,
        ),
        kept("owningbusinessunit", "businessunit"),
        kept("owninguser", "systemuser"),
        kept("owningteam", "team"),
    ]


def housekeeping() -> list[Column]:
    """Columns of every custom table that are empty most of the time."""
    numbers = plain(Kind.INTEGER, "importsequencenumber", "timezoneruleversionnumber", null_share=0.8)
    rare = plain(Kind.DATETIME, "overriddencreatedon", null_share=0.9)
    return [*numbers, *plain(Kind.INTEGER, "utcconversiontimezonecode", null_share=0.97), *rare]
