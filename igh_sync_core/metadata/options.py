"""Option sets: what the codes of choice, state, status, yes/no and multi-select columns mean, in every language.

Five requests per table, one for each metadata class: a cast to their common base is refused.

Source: https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query-metadata-web-api
"""

from collections.abc import Iterator

from msgspec import Struct
from msgspec.json import Decoder

from igh_sync_core.metadata.listing import cast_url, decode_items
from igh_sync_core.model import LogicalName, Option, OptionKind

UNKNOWN_LANGUAGE = 0

_EXPANDS = {
    OptionKind.PICKLIST: "OptionSet($select=Options,IsGlobal,Name),GlobalOptionSet($select=Options,Name)",
    OptionKind.MULTISELECT: "OptionSet($select=Options),GlobalOptionSet($select=Options)",
    OptionKind.STATE: "OptionSet($select=Options)",
    OptionKind.STATUS: "OptionSet($select=Options)",
    OptionKind.BOOLEAN: "OptionSet($select=TrueOption,FalseOption)",
}


class OptionSet(Struct, frozen=True):
    """The options of one column.

    Attributes:
        entity: Logical name of the table.
        field: Column name.
        kind: Which metadata class the column is of.
        options: In the vendor's order, one for each code and language, so (code, language) is distinct.
    """

    entity: LogicalName
    field: str
    kind: OptionKind
    options: tuple[Option, ...] = ()


class _LocalizedLabel(Struct, frozen=True, rename="pascal"):
    language_code: int
    label: str | None = None


class _Label(Struct, frozen=True, rename="pascal"):
    localized_labels: tuple[_LocalizedLabel, ...] | None = None
    user_localized_label: _LocalizedLabel | None = None

    def by_language(self) -> dict[int, str]:
        """Text by LCID; the caller's own label only adds a language that the list lacks."""
        listed = self.localized_labels or ()
        own = () if self.user_localized_label is None else (self.user_localized_label,)
        texts: dict[int, str] = {}
        for localized in (*listed, *own):
            texts.setdefault(localized.language_code, localized.label or "")
        return texts


class _Option(Struct, frozen=True, rename="pascal"):
    value: int
    label: _Label | None = None

    def labels(self) -> dict[int, str]:
        """Text by LCID; one empty text in no language where there is no label, so that the code is kept."""
        texts = {} if self.label is None else self.label.by_language()
        return texts or {UNKNOWN_LANGUAGE: ""}


class _OptionSet(Struct, frozen=True, rename="pascal"):
    options: tuple[_Option, ...] | None = None
    false_option: _Option | None = None
    true_option: _Option | None = None

    def members(self) -> tuple[_Option, ...]:
        """All options; a yes/no set has its two in place of a list."""
        two = (self.false_option, self.true_option)
        return self.options or tuple(option for option in two if option is not None)


class _Attribute(Struct, frozen=True, rename="pascal"):
    logical_name: str
    option_set: _OptionSet | None = None
    global_option_set: _OptionSet | None = None

    def members(self) -> tuple[_Option, ...]:
        """Options of the local set, or of the global one where the local set is null or empty."""
        sets = (self.option_set, self.global_option_set)
        return next((members for one in sets if one is not None and (members := one.members())), ())


_ATTRIBUTE = Decoder(_Attribute)


def options_url(logical_name: LogicalName, kind: OptionKind) -> str:
    """Address of a table's option sets of one kind; SchemaError for a name that is no identifier."""
    return f"{cast_url(logical_name, kind.value)}?$select=LogicalName&$expand={_EXPANDS[kind]}"


def parse_options(body: bytes, *, entity: LogicalName, kind: OptionKind) -> tuple[OptionSet, ...]:
    """Decode the reply to ``options_url``.

    Args:
        body: The reply.
        entity: The table that was asked about; replies do not repeat it reliably.
        kind: The kind that was asked for.

    Returns:
        One set for each column in the reply's order. An option without any label keeps its code, with language 0 and
        an empty label.

    Raises:
        ProtocolViolation: Malformed, or an option has no code.
    """
    found = decode_items(body, _ATTRIBUTE, what=kind.value)
    return tuple(
        OptionSet(entity, attribute.logical_name, kind, tuple(_flatten(entity, attribute))) for attribute in found
    )


def _flatten(entity: LogicalName, attribute: _Attribute) -> Iterator[Option]:
    seen: set[int] = set()
    for member in attribute.members():
        if member.value in seen:
            continue
        seen.add(member.value)
        for language, label in member.labels().items():
            yield Option(entity, attribute.logical_name, member.value, language, label)
