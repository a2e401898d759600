r"""Files of ``NAME=value`` lines, such as ``.env``: what they say, and which of their lines cannot be understood.

Their rules are those of python-dotenv, and so what people know: a value without quotes is literal and ends before a
blank with ``#``; in single quotes ``\\`` and ``\'`` are one sign each; in double quotes ``\n``, ``\t`` and their like
mean what they mean in a program. But ``${...}`` is not expanded, since secrets hold such signs.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from igh_sync_core.errors import ConfigError

_NAME = re.compile(r"[\w.-]+")
"""What may be a name, if only to other programs; anything else is a line gone wrong, which may hold a secret."""
_SHOWN = 5


@dataclass(frozen=True)
class Line:
    """One that says nothing: a fault, or of another program's language.

    Attributes:
        number: Where it is, from 1.
        text: May hold a secret; not to be shown.
        name: Of a name without ``=``, as Docker and python-dotenv know it; "" for anything else.
    """

    number: int
    text: str = field(repr=False)
    name: str = field(default="", repr=False)


@dataclass(frozen=True)
class EnvFile:
    """What a file says.

    Attributes:
        values: Text by name, settings and others; "" for one without.
        called: How faults name it.
        not_understood: Every line that says nothing.
    """

    values: dict[str, str]
    called: str = ""
    not_understood: tuple[Line, ...] = ()

    def fault_of(self, lines: Iterable[Line]) -> str:
        """That some of its lines are not understood, by number and never by content; "" for none."""
        return _fault(self.called, [one.number for one in lines])


def read_env_file(path: Path, *, called: str) -> EnvFile:
    """Read a file.

    Args:
        path: Where it is.
        called: How faults name it.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig") as stream:
            bindings = list(parse_stream(stream))
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        fault = f"{called}: cannot be read ({why}); it must be a file with NAME=value lines"
        raise ConfigError([fault]) from exc
    values = {one.key: (one.value or "").strip() for one in bindings if one.key}
    return EnvFile(values, called, tuple(_not_understood(bindings)))


def _not_understood(bindings: list[Binding]) -> Iterator[Line]:
    for one in bindings:
        is_name = one.key is not None and _NAME.fullmatch(one.key) is not None
        is_understood = one.key is None or (is_name and one.value is not None)
        if one.error or not is_understood:
            text = one.original.string
            # A line is parsed along with the blank ones above it.
            number = one.original.line + text[: len(text) - len(text.lstrip())].count("\n")
            yield Line(number, text, one.key if one.key and is_name else "")


def _fault(called: str, lines: list[int]) -> str:
    if not lines:
        return ""
    numbers = ", ".join(map(str, lines[:_SHOWN]))
    which = f"line {numbers} is" if len(lines) == 1 else f"lines {numbers} are"
    more = f" (and {len(lines) - _SHOWN} more)" if len(lines) > _SHOWN else ""
    return f"{called}: {which} not understood{more}; write NAME=value, and close every quote that is opened"
