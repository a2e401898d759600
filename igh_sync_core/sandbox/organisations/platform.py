"""The tables that every organisation has: companies, people, users, teams, currencies, activities."""

from dataclasses import replace

from igh_sync_core.sandbox.data.columns import (
    audit,
    choice,
    currency,
    decimals,
    housekeeping,
    image,
    kept,
    lookup,
    memos,
    money,
    owned,
    plain,
    state,
    texts,
    title,
    wall_times,
    yes_no,
)
from igh_sync_core.sandbox.data.schema import ENGLISH, Column, Kind, Shape

ALLOWED = ("Do Not Allow", "Allow")


def system(
    logical_name: str, entity_set: str, columns: list[Column], *, name: str, ownership: str = "UserOwned"
) -> Shape:
    """A table of the platform whose key is named after it."""
    key = Column(name=f"{logical_name}id", kind=Kind.GUID)
    return Shape(
        logical_name=logical_name,
        entity_set=entity_set,
        key=key.name,
        columns=[*columns[:2], key, *columns[2:]],
        primary_name=name,
        ownership=ownership,
    )


def account() -> Shape:
    """Companies; they form trees, and some have a main contact."""
    table = "account"
    columns = [
        *texts("accountnumber", "telephone1", "emailaddress1", "websiteurl", "address1_city", "address1_country"),
        title("name"),
        choice("industrycode", "Accounting|Agriculture|Biotechnology|Brokers|Pharma|University", table=table),
        choice("accountcategorycode", "Preferred Customer|Standard", table=table),
        yes_no("donotemail", table=table, labels=ALLOWED),
        *memos("description"),
        *plain(Kind.INTEGER, "numberofemployees"),
        *plain(Kind.DOUBLE, "address1_latitude", "address1_longitude"),
        *money("revenue", "creditlimit"),
        *currency(),
        lookup("parentaccountid", "account", null_share=0.6),
        lookup("primarycontactid", "contact", null_share=0.4),
        *image("entityimage"),
        *audit(),
        *owned(),
        *state(table),
        *housekeeping(),
    ]
    return system(table, "accounts", columns, name="name")


def contact() -> Shape:
    """People; each belongs to a company or to another person."""
    table = "contact"
    columns = [
        title("fullname"),
        *texts("firstname", "lastname", "jobtitle", "emailaddress1", "telephone1", "mobilephone"),
        Column(name="birthdate", kind=Kind.DATE, behavior="DateOnly", null_share=0.5),
        choice("gendercode", "Male|Female|Other", table=table),
        choice("familystatuscode", "Single|Married|Divorced|Widowed", table=table),
        yes_no("donotemail", table=table, labels=ALLOWED),
        *memos("description"),
        lookup("parentcustomerid", "account", "contact", null_share=0.2),
        *audit(),
        *owned(),
        *state(table),
        *housekeeping(),
    ]
    return system(table, "contacts", columns, name="fullname")


def principal() -> Column:
    """The id that users and teams inherit; it equals their own."""
    return Column(name="ownerid", kind=Kind.GUID, declared_by="principal")


def users() -> list[Shape]:
    """``systemuser`` and ``team``: their key in ``$metadata`` is the inherited one."""
    user = [
        title("fullname"),
        *texts("firstname", "lastname", "internalemailaddress", "domainname", "title"),
        yes_no("isdisabled", table="systemuser", labels=("Disabled", "Enabled")),
        choice("accessmode", "Read-Write|Administrative|Read|Non-interactive", table="systemuser"),
        kept("businessunitid", "businessunit"),
        lookup("parentsystemuserid", "systemuser", null_share=0.7),
        *audit(),
    ]
    team = [title("name"), *memos("description"), kept("businessunitid", "businessunit"), *audit()]
    shapes = [system("systemuser", "systemusers", user, name="fullname", ownership="BusinessOwned")]
    shapes.append(system("team", "teams", team, name="name", ownership="BusinessOwned"))
    for shape in shapes:
        shape.base, shape.csdl_key = "principal", "ownerid"
        shape.columns.insert(0, principal())
        shape.reindex()
    return shapes


def settings() -> list[Shape]:
    """Business units, the organisation itself and currencies."""
    unit = [
        title("name"),
        *texts("divisionname"),
        lookup("parentbusinessunitid", "businessunit", null_share=0.2),
        *audit(),
    ]
    days_kept = Column(name="expirechangetrackingindays", kind=Kind.INTEGER, fixed=7)
    language = Column(name="languagecode", kind=Kind.INTEGER, fixed=ENGLISH)
    organization = [title("name"), days_kept, language, kept("basecurrencyid", "transactioncurrency"), *audit()]
    coin = [
        title("currencyname"),
        *texts("isocurrencycode", "currencysymbol", max_length=5, null_share=0),
        *plain(Kind.INTEGER, "currencyprecision"),
        *decimals("exchangerate", precision=12),
        *audit(),
        *state("transactioncurrency"),
    ]
    shapes = [
        system("businessunit", "businessunits", unit, name="name", ownership="BusinessOwned"),
        system("organization", "organizations", organization, name="name", ownership="OrganizationOwned"),
        system(
            "transactioncurrency", "transactioncurrencies", coin, name="currencyname", ownership="OrganizationOwned"
        ),
    ]
    shapes[1].is_tracked = False
    return shapes


def activities() -> list[Shape]:
    """``activitypointer`` is abstract and has a set all the same; ``task`` is the one activity here."""
    shared = [
        Column(name="activityid", kind=Kind.GUID, null_share=0),
        Column(name="subject", kind=Kind.STRING, max_length=400, null_share=0),
        Column(name="activitytypecode", kind=Kind.STRING, fixed="task"),
        *memos("description"),
        Column(name="scheduledend", kind=Kind.DATETIME, null_share=0.3),
        *wall_times("sortdate"),
        lookup("regardingobjectid", "account", "contact", "vin_candidate", "vin_clinicaltrial", null_share=0.3),
        *audit(),
        *owned(),
        *state("task"),
    ]
    inherited = [replace(column, declared_by="activitypointer") for column in shared]
    own = [*texts("category", "subcategory"), *plain(Kind.INTEGER, "percentcomplete"), *housekeeping()]
    task = Shape(
        logical_name="task", entity_set="tasks", key="activityid", columns=[*inherited, *own], primary_name="subject",
        base="activitypointer",
    )  # fmt: skip
    pointer = Shape(
        logical_name="activitypointer", entity_set="activitypointers", key="activityid", columns=shared,
        primary_name="subject", is_abstract=True, mirrors="task", is_tracked=False,
    )  # fmt: skip
    return [pointer, task]


def platform_shapes() -> list[Shape]:
    """All of them."""
    return [account(), contact(), *users(), *settings(), *activities()]
