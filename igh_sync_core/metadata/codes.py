"""The codes that a multi-select's text lists: ``"2,3,8"``. Pure.

Source: https://learn.microsoft.com/power-apps/developer/data-platform/multi-select-picklist
"""

import re
from functools import lru_cache

_CODES = re.compile(r"-?\d+(, ?-?\d+)*", re.ASCII)
_LARGEST = 2**31 - 1


@lru_cache(maxsize=8192)
def codes_in(text: str) -> tuple[int, ...]:
    """The codes, each once, in their order; none in an empty text.

    Raises:
        ValueError: It holds something else.
    """
    if not text:
        return ()
    codes = tuple(dict.fromkeys(map(int, text.split(",")))) if _CODES.fullmatch(text) else ()
    if not codes or max(map(abs, codes)) > _LARGEST:
        msg = "holds something else than option codes"
        raise ValueError(msg)
    return codes


def are_codes(text: str) -> bool:
    """Whether a text lists one code or several."""
    try:
        return bool(codes_in(text))
    except ValueError:
        return False
