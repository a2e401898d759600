"""The ``$filter`` language: from text to a tree of conditions.

Understood: ``eq ne gt ge lt le and or not ()``, ``contains startswith endswith``, and the functions ``In``,
``ContainValues`` and ``DoesNotContainValues`` of ``Microsoft.Dynamics.CRM``. What the trees mean is in
``conditions``.
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final, NamedTuple

from msgspec import DecodeError, json

from igh_sync_core.sandbox.replies import refuse

CRM: Final = "Microsoft.Dynamics.CRM."
MAX_CONDITIONS: Final = 500
_NAMES: Final = json.Decoder(list[str])

TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>'(?:[^']|'')*')
    | (?P<guid>[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12})
    | (?P<moment>\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2}))
    | (?P<day>\d{4}-\d{2}-\d{2})
    | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    | (?P<list>\[[^\]]*\])
    | (?P<name>@?[A-Za-z_][\w./]*)
    | (?P<sign>[(),=])
    )""",
    re.VERBOSE,
)


class Literal(NamedTuple):
    """A constant: its kind (``string guid moment day number bool null``) and its value."""

    kind: str
    value: object


class Compare(NamedTuple):
    """``path operator literal``."""

    path: str
    operator: str
    literal: Literal


class Text(NamedTuple):
    """``contains``, ``startswith`` or ``endswith``."""

    function: str
    path: str
    text: str


class Among(NamedTuple):
    """``In`` (exact), ``ContainValues`` or ``DoesNotContainValues`` (of a multi-select)."""

    function: str
    path: str
    values: tuple[str, ...]


class Junction(NamedTuple):
    """``and`` or ``or`` of conditions."""

    operator: str
    parts: "tuple[Condition, ...]"


class Negation(NamedTuple):
    """``not``."""

    part: "Condition"


Condition = Compare | Text | Among | Junction | Negation
Token = tuple[str, str]


def parse(text: str, aliases: Mapping[str, str] | None = None) -> Condition:
    """The conditions in *text*; *aliases* gives the text behind ``@p1``.

    Raises:
        Refusal: 400, not understood or more than 500 conditions.
    """
    parser = _Parser(_tokens(text), aliases or {})
    condition = parser.disjunction()
    parser.expect("")
    if parser.conditions > MAX_CONDITIONS:
        message = f"Number of conditions in query exceeded maximum limit of {MAX_CONDITIONS}."
        refuse(message, "0x8004430C")
    return condition


def _tokens(text: str) -> list[Token]:
    tokens: list[Token] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        found = TOKEN.match(text, at)
        if found is None:
            refuse(f"Syntax error: character '{text[at]}' is not valid at position {at} in '{text}'.")
        tokens.append((str(found.lastgroup), found[str(found.lastgroup)]))
        at = found.end()
    return [*tokens, ("end", "")]


class _Parser:
    def __init__(self, tokens: list[Token], aliases: Mapping[str, str]) -> None:
        self._tokens = tokens
        self._aliases = aliases
        self._at = 0
        self.conditions = 0

    def peek(self) -> str:
        return self._tokens[self._at][1]

    def take(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def expect(self, text: str) -> None:
        kind, found = self.take()
        if found != text or (not text and kind != "end"):
            refuse(f"Syntax error: '{text or 'end of filter'}' expected, '{found}' found.")

    def disjunction(self) -> Condition:
        return self._joined("or", self.conjunction)

    def conjunction(self) -> Condition:
        return self._joined("and", self.term)

    def _joined(self, operator: str, part: Callable[[], Condition]) -> Condition:
        parts = [part()]
        while self.peek() == operator:
            self.take()
            parts.append(part())
        return parts[0] if len(parts) == 1 else Junction(operator, tuple(parts))

    def term(self) -> Condition:
        kind, text = self.take()
        if text == "not":
            return Negation(self.term())
        if text == "(":
            inner = self.disjunction()
            self.expect(")")
            return inner
        if kind != "name":
            refuse(f"Syntax error: a property name was expected, '{text}' found.")
        return self._function(text) if self.peek() == "(" else self._comparison(text)

    def _comparison(self, path: str) -> Condition:
        operator = self.take()[1]
        if operator not in {"eq", "ne", "gt", "ge", "lt", "le"}:
            refuse(f"The query operator '{operator}' is not supported.")
        self.conditions += 1
        return Compare(path, operator, self._literal())

    def _literal(self) -> Literal:
        kind, text = self.take()
        if text.startswith("@"):
            return literal(*_tokens(self._alias(text))[0])
        if kind == "name" and self._tokens[self._at][0] == "string":
            return Literal("string", _unquote(self.take()[1]))
        return literal(kind, text)

    def _alias(self, name: str) -> str:
        if name not in self._aliases:
            refuse(f"The parameter alias '{name}' has no value.")
        return self._aliases[name]

    def _function(self, name: str) -> Condition:
        self.expect("(")
        if name in {"contains", "startswith", "endswith"}:
            return self._text(name)
        if name in {f"{CRM}In", f"{CRM}ContainValues", f"{CRM}DoesNotContainValues"}:
            return self._among(name.removeprefix(CRM))
        return refuse(f"An unknown function with name '{name}' was found.")

    def _text(self, name: str) -> Condition:
        path = self.take()[1]
        self.expect(",")
        text = self._literal()
        self.expect(")")
        self.conditions += 1
        return Text(name, path, str(text.value))

    def _among(self, name: str) -> Condition:
        arguments = dict([self._argument(), self._second_argument()])
        self.expect(")")
        values = _list(arguments["PropertyValues"])
        self.conditions += len(values)
        return Among(name, _unquote(arguments["PropertyName"]), values)

    def _second_argument(self) -> tuple[str, str]:
        self.expect(",")
        return self._argument()

    def _argument(self) -> tuple[str, str]:
        name = self.take()[1]
        self.expect("=")
        text = self.take()[1]
        return name, self._alias(text) if text.startswith("@") else text


def literal(kind: str, text: str) -> Literal:
    """The constant that one token stands for."""
    if kind == "string":
        return Literal("string", _unquote(text))
    if kind == "number":
        return Literal("number", Decimal(text))
    if kind in {"guid", "moment", "day"}:
        return Literal(kind, text)
    if text in {"true", "false"}:
        return Literal("bool", text == "true")
    if text == "null":
        return Literal("null", None)
    return refuse(f"Could not find a property named '{text}' or a literal of that form.")


def _unquote(text: str) -> str:
    return text[1:-1].replace("''", "'") if text[:1] == "'" else text


def _list(text: str) -> tuple[str, ...]:
    """``['a','b']`` or ``["a","b"]``; an apostrophe inside single quotes breaks it, as it does in Dataverse."""
    if "'" in text and '"' not in text:
        if re.fullmatch(r"\[\s*('[^']*'\s*(,\s*'[^']*'\s*)*)?\]", text) is None:
            refuse("Invalid JSON. A comma character ',' was expected in scope 'Array'.")
        return tuple(re.findall(r"'([^']*)'", text))
    try:
        return tuple(_NAMES.decode(text))
    except DecodeError as exc:
        refuse(f"Invalid JSON. {exc}")
