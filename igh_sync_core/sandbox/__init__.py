"""A local Dataverse: for trying the program, for its tests and for its benchmarks.

It is written from the vendor's documents and shares no code with the program, so that each checks the other.
"""

from igh_sync_core.sandbox.data.organisation import Organisation
from igh_sync_core.sandbox.data.table import Table
from igh_sync_core.sandbox.faults import Fault, FaultPlan
from igh_sync_core.sandbox.http.control import Change, change_rows
from igh_sync_core.sandbox.http.server import Server, serve
from igh_sync_core.sandbox.http.service import Arrival, Sandbox
from igh_sync_core.sandbox.organisations.from_metadata import organisation_from_metadata
from igh_sync_core.sandbox.organisations.model import health_organisation

__all__ = [
    "Arrival",
    "Change",
    "Fault",
    "FaultPlan",
    "Organisation",
    "Sandbox",
    "Server",
    "Table",
    "change_rows",
    "health_organisation",
    "organisation_from_metadata",
    "serve",
]
