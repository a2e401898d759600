"""Labels and options as definitions spell them."""

from collections.abc import Mapping
from uuid import NAMESPACE_OID, uuid5

from igh_sync_core.sandbox.data.schema import CODED, ENGLISH, Column, Kind, Option, OptionSet

Json = dict[str, object]


def metadata_id(*path: str) -> str:
    """The id of a piece of metadata; the same for the same *path* in every organisation of ours."""
    return str(uuid5(NAMESPACE_OID, "/".join(path)))


def label(labels: Mapping[int, str], *path: str) -> Json:
    """A Label: all languages, and the caller's own (ENGLISH), null where it is missing."""
    all_of_them: list[Json] = [
        {
            "Label": text,
            "LanguageCode": language,
            "IsManaged": False,
            "MetadataId": metadata_id(*path, str(language)),
            "HasChanged": None,
        }
        for language, text in labels.items()
    ]
    own = next((one for one in all_of_them if one["LanguageCode"] == ENGLISH), None)
    return {"LocalizedLabels": all_of_them, "UserLocalizedLabel": own}


def option_set(column: Column, options: OptionSet, *path: str) -> Json:
    """The OptionSet of *column*: ``Options``, or the two of a yes/no column, which has no such list."""
    name = options.name
    head: Json = {
        "MetadataId": metadata_id("optionset", name),
        "Name": name,
        "IsGlobal": options.is_global,
        "IsCustomOptionSet": True,
        "OptionSetType": "Boolean" if column.kind is Kind.BOOLEAN else column.kind.value.removeprefix("MultiSelect"),
        "DisplayName": label({ENGLISH: column.attribute}, *path),
    }
    if column.kind is Kind.BOOLEAN:
        return head | {
            "TrueOption": option(column, 1, options.options[1], *path),
            "FalseOption": option(column, 0, options.options[0], *path),
        }
    return head | {"Options": [option(column, code, each, *path) for code, each in options.options.items()]}


def option(column: Column, code: int, option: Option, *path: str) -> Json:
    """One option; those of states and status reasons say more."""
    extra: Json = {}
    if column.kind is Kind.STATE:
        name = option.labels.get(ENGLISH, "")
        extra = {
            "@odata.type": "#Microsoft.Dynamics.CRM.StateOptionMetadata",
            "DefaultStatus": code + 1,
            "InvariantName": name,
        }
    if column.kind is Kind.STATUS:
        kind = "#Microsoft.Dynamics.CRM.StatusOptionMetadata"
        extra = {"@odata.type": kind, "State": option.state, "TransitionData": None}
    return extra | {
        "Value": code,
        "Color": None,
        "IsManaged": False,
        "ExternalValue": None,
        "ParentValues": [],
        "Tag": None,
        "IsHidden": False,
        "MetadataId": None,
        "HasChanged": None,
        "Label": label(option.labels, *path, str(code)),
        "Description": {"LocalizedLabels": [], "UserLocalizedLabel": None},
    }


def has_options(column: Column) -> bool:
    """Whether definitions describe options of *column*."""
    return column.kind in CODED and column.options is not None
