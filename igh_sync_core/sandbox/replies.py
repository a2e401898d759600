"""Replies of the sandbox, and the refusals that become replies."""

from dataclasses import dataclass, field
from typing import Final, NoReturn

from msgspec import json

JSON_TYPE: Final = "application/json; odata.metadata=minimal"
BAD_ODATA: Final = "0x80060888"


@dataclass(slots=True)
class Reply:
    """One HTTP reply.

    Attributes:
        delay_s: Seconds before the first byte.
        cut_after: Bytes of the body after which the connection drops; None for a whole body.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    cut_after: int | None = None


class Refusal(Exception):
    """The request is answered with an OData error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    def reply(self, *, is_annotated: bool) -> Reply:
        """The error body; with annotations asked for, it carries what Dataverse adds then."""
        error: dict[str, str] = {"code": self.code, "message": str(self)}
        if is_annotated:
            error |= {
                "@Microsoft.PowerApps.CDS.HelpLink": f"http://go.microsoft.com/fwlink/?LinkID=398563&error={self.code}",
                "@Microsoft.PowerApps.CDS.TraceText": "",
                "@Microsoft.PowerApps.CDS.InnerError.Message": str(self),
            }
        return json_reply({"error": error}, status=self.status)


def json_reply(content: object, *, status: int = 200) -> Reply:
    """*content* as OData JSON."""
    return Reply(status, json.encode(content), {"Content-Type": JSON_TYPE, "OData-Version": "4.0"})


def refuse(message: str, code: str = BAD_ODATA, *, status: int = 400) -> NoReturn:
    """Answer with an OData error; by default the one for a request that is no good OData.

    Raises:
        Refusal: Always.
    """
    raise Refusal(status, code, message)


def refuse_property(name: str, type_name: str) -> NoReturn:
    """Answer that the type has no such column."""
    refuse(f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.{type_name}'.")


def refuse_segment(segment: str) -> NoReturn:
    """Answer that the path leads nowhere."""
    refuse(f"Resource not found for the segment '{segment}'.", status=404)
