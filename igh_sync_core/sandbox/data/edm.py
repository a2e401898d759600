"""Moving values from one Edm type to another, when a column changes its type."""

from collections.abc import Callable, Mapping
from decimal import Decimal

CASTS: Mapping[str, Callable[[str], object]] = {
    "Edm.String": str,
    "Edm.Int16": int,
    "Edm.Int32": int,
    "Edm.Int64": int,
    "Edm.Decimal": Decimal,
    "Edm.Double": float,
}


def cast(value: object, edm_type: str) -> object:
    """*value* as *edm_type*, or None where it has no place there."""
    if value is None or isinstance(value, tuple):
        return None
    try:
        return CASTS[edm_type](str(value))
    except (KeyError, ValueError, ArithmeticError):
        return None
