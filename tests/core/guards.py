"""A Dataverse whose guard refuses some of what is asked: rights that the application lacks."""

import re
import threading

import httpx
from copies import IMPATIENT, Copy

from igh_sync_core import workflow
from igh_sync_core.config import Config
from igh_sync_core.report import RunReport
from igh_sync_core.sandbox import Sandbox
from igh_sync_core.sync.options import Options
from igh_sync_core.webapi.client import Client

REFUSAL = {"error": {"code": "0x80040220", "message": "SecLib::CheckPrivilege failed. PrivilegeName: prvReadEntity"}}
NOTHING = r"(?!)"


class Guard:
    """Stands before a sandbox, and counts how many requests are under way at once.

    Args:
        sandbox: What it guards; another guard for one.
        refused: Pattern of paths below the API root.
        status: How they are refused.
        meet: So many requests for attributes must be under way before the first one is answered.

    Attributes:
        refusals: How many requests were refused so far.
        has_met: Whether so many have met.
    """

    def __init__(self, sandbox: "Sandbox | Guard", *, refused: str = NOTHING, status: int = 403, meet: int = 1) -> None:
        self.sandbox, self.refused, self.status = sandbox, re.compile(refused), status
        self.meeting = threading.Barrier(meet)
        self.has_met = meet == 1
        self.refusals = 0

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer, or refuse to."""
        path = request.url.path.rpartition("/api/data/v9.2/")[2]
        if self.refused.search(path):
            self.refusals += 1
            return httpx.Response(self.status, json=REFUSAL)
        if not self.has_met and "AttributeMetadata" in path:
            self.meeting.wait(timeout=10)
            self.has_met = True
        return self.sandbox.handle(request)

    def connect(self, config: Config) -> Client:
        """Open the wire through it."""
        return Client(config, transport=httpx.MockTransport(self.handle), pace=IMPATIENT)

    def run(self, copy: Copy, **options: object) -> RunReport:
        """One run of a copy through it."""
        chosen = Options(connect=self.connect, **options)  # type: ignore[arg-type]
        return workflow.run_workflow(copy.config, copy.selection, chosen)
