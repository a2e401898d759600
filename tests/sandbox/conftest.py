"""A small organisation, a sandbox on it, and a client that is logged in."""

from collections.abc import Iterator

import httpx
import pytest

from igh_sync_core.sandbox import Organisation, Sandbox, health_organisation

ORIGIN = "https://org.crm.dynamics.com"


@pytest.fixture
def organisation() -> Organisation:
    return health_organisation(1_000)


@pytest.fixture
def sandbox(organisation: Organisation) -> Sandbox:
    return Sandbox(organisation)


@pytest.fixture
def api(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with httpx.Client(
        transport=httpx.MockTransport(sandbox.handle),
        base_url=f"{ORIGIN}/api/data/v9.2/",
        headers={"Authorization": f"Bearer {sandbox.issue_token(ORIGIN)}"},
    ) as client:
        yield client
