"""The model organisation: a health-R&D pipeline of products, trials, developers and the people behind them.

Twenty-six tables as the program's own list of entities names them, and what surrounds them in every organisation.
"""

from collections.abc import Iterable, Mapping

from igh_sync_core.sandbox.data.columns import (
    audit,
    choice,
    choices,
    currency,
    days,
    decimals,
    housekeeping,
    image,
    kept,
    lookup,
    memos,
    money,
    option_set,
    owned,
    plain,
    state,
    texts,
    title,
    version,
    wall_times,
    yes_no,
)
from igh_sync_core.sandbox.data.organisation import ManyToMany
from igh_sync_core.sandbox.data.schema import Column, Kind, Shape

REGIONS = option_set("vin_whoregion", "African|Americas|South-East Asia|European|Eastern Mediterranean", is_global=True)
STAGES = "Discovery|Preclinical|Phase 1|Phase 2|Phase 3|Registration|Approved|Stopped|~Abandonné"
GRADES = "Low|Medium|High|Not assessed"

CANDIDATE_CHOICES = (
    "producttype", "developmentstatus", "highestphase", "mechanism", "modality", "route", "formulation", "pathogen",
    "evidence", "riskrating", "accessplan", "ipstatus", "coldchain", "pricingtier", "reviewstatus", "confidentiality",
    "manufacturing", "regulatorypath", "prequalification", "genderfocus", "useclassification", "dosing", "endemicity",
)  # fmt: skip


def custom(logical_name: str, entity_set: str, *groups: Iterable[Column], is_tracked: bool = True) -> Shape:
    """A custom, user-owned table whose name column is ``vin_name``."""
    own = [column for group in groups for column in group]
    key = Column(name=f"{logical_name}id", kind=Kind.GUID)
    return Shape(
        logical_name=logical_name,
        entity_set=entity_set,
        key=key.name,
        columns=[title("vin_name"), *own, key, *audit(), *owned(), *state(logical_name), *housekeeping()],
        primary_name="vin_name",
        is_tracked=is_tracked,
    )


def candidate() -> Shape:
    """The widest table; every kind of column is in it."""
    name = "vin_candidate"
    graded = [choice(f"vin_{field}", GRADES, table=name, null_share=0.3) for field in CANDIDATE_CHOICES]
    several = [
        choices("vin_indications", "Treatment|Prevention|Diagnosis|Vector control|Elimination", table=name),
        choices("vin_agegroups", "Neonates|Infants|Children|Adolescents|Adults|Elderly", table=name),
        choices("vin_platforms", "mRNA|Viral vector|Protein|Small molecule|Antibody|Diagnostic strip", table=name),
    ]
    flags = [
        yes_no(f"vin_{field}", table=name)
        for field in ("isrepurposed", "ischildfriendly", "islisted", "hasorphanstatus", "isopenaccess")
    ]
    return custom(
        name,
        "vin_candidates",
        [choice("vin_status", STAGES, table=name), *graded, *several, *flags],
        [yes_no("vin_isarchived", table=name, labels=("Archived", "In use"))],
        texts("vin_code", "vin_alternativename", "vin_inn", "vin_tradename", "vin_sourceurl", "vin_contactemail"),
        texts("vin_externalid", "vin_casnumber", "vin_atccode", max_length=40),
        memos("vin_description", "vin_mechanismnotes", "vin_accessnotes", "vin_reviewcomment"),
        plain(Kind.INTEGER, "vin_year", "vin_numberoftrials", "vin_rank", "vin_daysinphase"),
        plain(Kind.DOUBLE, "vin_probabilityofsuccess", "vin_sitelatitude", "vin_sitelongitude"),
        plain(Kind.BIGINT, "vin_externalsequence"),
        decimals("vin_score", "vin_weight", precision=2),
        [*money("vin_fundingneeded", "vin_fundingreceived", "vin_unitprice"), *currency()],
        [*days("vin_startdate", "vin_approvaldate", "vin_patentexpiry"), *wall_times("vin_dataextractedon")],
        plain(Kind.DATETIME, "vin_lastreviewedon"),
        candidate_lookups(),
        image("vin_image"),
    )


def candidate_lookups() -> list[Column]:
    """To one table, to either of two, and one that ``$metadata`` cannot explain."""
    return [
        lookup("vin_disease", "vin_disease", navigation="vin_Disease", null_share=0.05),
        lookup("vin_secondarydisease", "vin_disease", navigation="vin_SecondaryDisease", null_share=0.7),
        lookup("vin_product", "vin_product", navigation="vin_Product"),
        lookup("vin_developer", "vin_developer", navigation="vin_Developer"),
        lookup("vin_currentstage", "vin_rdstage", navigation="vin_CurrentStage"),
        lookup("vin_archetype", "vin_archetype", navigation="vin_Archetype"),
        lookup("vin_leadorganisation", "account", navigation="vin_LeadOrganisation"),
        lookup("vin_maincontact", "contact", navigation="vin_MainContact"),
        lookup("vin_sponsor", "account", "contact", navigation="vin_Sponsor"),
        kept("vin_legacyrecord", "contact", null_share=0.9, is_navigable=False),
    ]


def clinical_trial() -> Shape:
    """Wide too; its ``vin_status`` means something else than the candidate's."""
    name = "vin_clinicaltrial"
    fields = ("design", "allocation", "masking", "purpose", "intervention", "studytype", "outcome", "funding", "ethics")
    return custom(
        name,
        "vin_clinicaltrials",
        [choice("vin_status", "Planned|Recruiting|Completed|Terminated|Withdrawn", table=name)],
        [choice("vin_phase", "Phase 1|Phase 1/2|Phase 2|Phase 3|Phase 4", table=name)],
        [choice(f"vin_{field}", GRADES, table=name, null_share=0.4) for field in fields],
        [choices("vin_endpoints", "Safety|Immunogenicity|Efficacy|Mortality|Cost", table=name)],
        [yes_no("vin_hasresults", table=name), yes_no("vin_israndomised", table=name)],
        texts("vin_registryid", "vin_acronym", "vin_registryurl", "vin_principalinvestigator"),
        memos("vin_summary", "vin_eligibility", "vin_primaryoutcome"),
        plain(Kind.INTEGER, "vin_enrolment", "vin_sites", "vin_minimumage", "vin_maximumage"),
        [*days("vin_startdate", "vin_completiondate", "vin_resultsdate"), *money("vin_budget"), *currency()],
        [lookup("vin_candidate", "vin_candidate", navigation="vin_Candidate")],
        [lookup("vin_disease", "vin_disease", navigation="vin_Disease")],
        [lookup("vin_leadsponsor", "account", "contact", navigation="vin_LeadSponsor")],
        [lookup("vin_maincountry", "vin_country", navigation="vin_MainCountry")],
        plain(Kind.DATETIME, "vin_firstposted", "vin_lastupdateposted"),
    )


def pipeline() -> list[Shape]:
    """Tables of the domain beside candidates and trials."""
    return [*products(), *reference_tables()]


def products() -> list[Shape]:
    """Products, where they stand, who makes them, and where that was read."""
    stage = [
        lookup("vin_product", "vin_product", navigation="vin_Product", null_share=0),
        lookup("vin_rdstage", "vin_rdstage", navigation="vin_RDStage", null_share=0),
        *decimals("vin_cost", "vin_probability"),
    ]
    managed = Column(name="iscustomizable", kind=Kind.MANAGED, null_share=0)
    return [
        custom(
            "vin_product",
            "vin_products",
            [choice("vin_status", "Draft|Published|Retired", table="vin_product")],
            [choice("vin_producttype", "Vaccine|Drug|Diagnostic|Device|Vector control", table="vin_product")],
            [choices("vin_settings", "Hospital|Clinic|Community|Home", table="vin_product")],
            [lookup("vin_disease", "vin_disease", navigation="vin_Disease"), *memos("vin_description")],
            [*money("vin_price"), *currency(), lookup("vin_manufacturer", "account", navigation="vin_Manufacturer")],
        ),
        custom("vin_source", "vin_sources", texts("vin_url", "vin_publisher"), days("vin_publishedon"), [managed]),
        custom("vin_rdstageproduct", "vin_rdstageproducts", stage, days("vin_reachedon")),
        custom(
            "vin_developer",
            "vin_developers",
            [lookup("vin_account", "account", navigation="vin_Account"), *texts("vin_websiteurl")],
            [choice("vin_sector", "Public|Private|Academic|Non-profit", table="vin_developer")],
        ),
    ]


def reference_tables() -> list[Shape]:
    """Short lists that the others point at; some of them tracked, some not, one without any times."""
    region = Column(name="vin_whoregion", kind=Kind.PICKLIST, options=REGIONS)
    country = [lookup("vin_region", "vin_region", navigation="vin_Region"), *texts("vin_isocode", max_length=3), region]
    disease = [*texts("vin_icdcode"), *decimals("vin_dalys"), *memos("vin_description"), region]
    priority = [*texts("vin_code"), *plain(Kind.INTEGER, "vin_year"), *memos("vin_text")]
    parameter = [*decimals("vin_value", precision=10), *texts("vin_unit")]
    return [
        custom("vin_disease", "vin_diseases", disease),
        custom("vin_rdstage", "vin_rdstages", plain(Kind.INTEGER, "vin_order"), memos("vin_definition")),
        custom("vin_rdpriority", "vin_rdpriorities", priority, is_tracked=False),
        custom("vin_archetype", "vin_archetypes", decimals("vin_cost"), plain(Kind.DOUBLE, "vin_successrate")),
        without_times(custom("vin_clinicalusestatus", "vin_clinicalusestatuses", texts("vin_code"), is_tracked=False)),
        custom("vin_country", "vin_countries", country),
        custom("vin_region", "vin_regions", texts("vin_code"), is_tracked=False),
        custom("vin_capparameter", "vin_capparameters", parameter, is_tracked=False),
    ]


def without_times(shape: Shape) -> Shape:
    """*shape* without the columns that say when a row was made or changed."""
    for name in ("createdon", "modifiedon"):
        shape.drop(name)
    return shape


def many_to_many() -> list[ManyToMany]:
    """The N:N relationships by intersect table, in the order of the program's list."""
    ends = {
        "vin_vin_candidate_account": ("vin_candidate", "account"),
        "vin_vin_candidate_vin_rdpriority": ("vin_candidate", "vin_rdpriority"),
        "vin_vin_candidate_systemuser": ("vin_candidate", "systemuser"),
        "vin_vin_candidate_vin_country": ("vin_candidate", "vin_country"),
        "vin_vin_candidate_vin_region": ("vin_candidate", "vin_region"),
        "vin_vin_clinicaltrial_account": ("vin_clinicaltrial", "account"),
        "vin_vin_clinicaltrial_account_collaborator": ("vin_clinicaltrial", "account"),
        "vin_vin_clinicaltrial_vin_country": ("vin_clinicaltrial", "vin_country"),
    }
    return [
        ManyToMany(name, name, first, f"{first}id", second, f"{second}id") for name, (first, second) in ends.items()
    ]


def intersect(relationship: ManyToMany, shapes: Mapping[str, Shape]) -> Shape:
    """The hidden table of an N:N relationship: three ids and a version; tracked when both ends are."""
    name = relationship.intersect
    first = Column(name=relationship.attribute1, kind=Kind.GUID, targets=(relationship.entity1,), null_share=0)
    second = Column(name=relationship.attribute2, kind=Kind.GUID, targets=(relationship.entity2,), null_share=0)
    key = Column(name=f"{name}id", kind=Kind.GUID)
    tracked = shapes[relationship.entity1].is_tracked and shapes[relationship.entity2].is_tracked
    return Shape(
        logical_name=name,
        entity_set=f"{name}set",
        key=key.name,
        columns=[first, version(), key, second],
        is_tracked=tracked,
        is_intersect=True,
        ownership="None",
    )
