"""A bare connection to the local Dataverse, and what it is asked before anything is measured."""

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx

from igh_sync_core.config.entities import load_entity_configs
from igh_sync_core.sandbox.data.population import VARIANTS
from igh_sync_core.webapi.odata import prefer

TIMEOUT_S = 120.0


@contextmanager
def open_wire(settings: Mapping[str, str]) -> Iterator[httpx.Client]:
    """A client that is logged in to the local Dataverse of the settings."""
    origin = settings["DATAVERSE_API_URL"]
    trust = httpx.create_ssl_context(verify=settings["DATAVERSE_CA_FILE"])
    with httpx.Client(verify=trust, timeout=TIMEOUT_S) as wire:
        challenge = wire.get(f"{origin}/api/data/v9.2/").headers["www-authenticate"]
        authority = re.findall(r"authorization_uri=(\S+)/oauth2", challenge)[0]
        form = {
            "grant_type": "client_credentials",
            "client_id": settings["DATAVERSE_CLIENT_ID"],
            "client_secret": settings["DATAVERSE_CLIENT_SECRET"],
            "scope": f"{origin}/.default",
        }
        token = wire.post(f"{authority}/oauth2/v2.0/token", data=form).raise_for_status().json()["access_token"]
        wire.headers = httpx.Headers({"Authorization": f"Bearer {token}", "Accept": "application/json"})
        yield wire


def have_rows(settings: Mapping[str, str]) -> None:
    """Have the local Dataverse make up its rows, with labels and without, as Dataverse has its own before it is asked.

    It makes them up when it is first asked for them, one after another, which is a tenth of a small first load; once
    it has made up so many of a table, all others are made of them.
    """
    with open_wire(settings) as wire, ThreadPoolExecutor(8) as pool:

        def ask(table: str) -> None:
            address = f"{settings['DATAVERSE_API_URL']}/api/data/v9.2/{table}"
            for annotations in (True, False):
                wish = prefer(page_size=VARIANTS, annotations=annotations)
                wire.get(address, headers={"Prefer": wish}).raise_for_status()

        list(pool.map(ask, [entity.api_name for entity in load_entity_configs()]))
