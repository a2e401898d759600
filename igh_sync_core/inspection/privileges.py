"""How much the application user's roles let it see.

A role that reads less than the whole organisation hides records without an error, and change tracking needs the whole
organisation anyway. Source of the depths:
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/reference/retrieveuserprivileges
"""

import msgspec
from msgspec import Struct

from igh_sync_core.errors import SourceError
from igh_sync_core.webapi.client import Channel

_DEPTHS = ("Basic", "Local", "Deep", "Global")
"""Least first: own records, own business unit, that and those below, the whole organisation."""


class Privilege(Struct, rename="pascal"):
    """A right, as the definition of a table names it, or as a user holds it.

    Attributes:
        privilege_id: Its id, the same in both.
        depth: How far it reaches, by name or number; "" where that is not told, as in definitions.
        privilege_type: ``Read``, ``Write``…, in definitions.
    """

    privilege_id: str
    depth: str | int = ""
    privilege_type: str = ""

    @property
    def rank(self) -> int:
        """Depth as a number, 3 for the whole organisation; -1 for a depth of another kind."""
        if isinstance(self.depth, int):
            return self.depth if self.depth in range(len(_DEPTHS)) else -1
        return _DEPTHS.index(self.depth) if self.depth in _DEPTHS else -1

    @property
    def is_known(self) -> bool:
        """Whether the depth is one of those that can be compared."""
        return self.rank >= 0

    @property
    def is_everything(self) -> bool:
        """Whether it reaches the whole organisation."""
        return self.rank == len(_DEPTHS) - 1

    @property
    def name(self) -> str:
        """The depth as the Web API names it."""
        return _DEPTHS[self.rank] if self.is_known else str(self.depth)


class _Held(Struct, rename="pascal"):
    role_privileges: tuple[Privilege, ...] = ()


_HELD = msgspec.json.Decoder(_Held)


def ask_held(channel: Channel, api_root: str, user: str) -> dict[str, Privilege] | None:
    """Ask what a user may do, by all its roles together.

    Args:
        channel: The wire.
        api_root: Root of the Web API, ending in "/".
        user: Its id.

    Returns:
        By privilege id the one that reaches farthest, none for a user without any; None where that is not told.
    """
    url = f"{api_root}systemusers({user})/Microsoft.Dynamics.CRM.RetrieveUserPrivileges()"
    try:
        held = _HELD.decode(channel.get(url).body).role_privileges
    except (SourceError, msgspec.DecodeError):
        return None
    return {one.privilege_id: one for one in sorted(held, key=lambda one: one.rank)}
