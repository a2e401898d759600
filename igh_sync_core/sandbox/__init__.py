"""A local Dataverse: for trying the program, for its tests and for its benchmarks.

It is written from the vendor's documents and shares no code with the program, so that each checks the other.
"""

from .control import Change, change_rows
from .faults import Fault, FaultPlan
from .metadata_organisation import organisation_from_metadata
from .model_organisation import health_organisation
from .organisation import Organisation
from .server import Server, serve
from .service import Arrival, Sandbox
from .table import Table

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
