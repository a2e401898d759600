"""What waits for a server that has not begun to answer, over real connections."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from copies import config_of
from wires import until

from igh_sync_core.errors import Interrupted
from igh_sync_core.sandbox import Fault, Server, health_organisation, serve
from igh_sync_core.webapi.client import Client, Pace
from igh_sync_core.webapi.interruption import Interruption

LONG_S = 20.0


@pytest.fixture(name="server")
def running_server() -> Iterator[Server]:
    with serve(health_organisation(100)) as server:
        yield server


@pytest.mark.parametrize("has_served", [False, True], ids=["new", "served before"])
def test_an_interruption_ends_the_requests_whose_replies_have_not_begun(
    server: Server, tmp_path: Path, *, has_served: bool
) -> None:
    config, interruption = config_of(server, tmp_path / "copy.db"), Interruption()
    server.sandbox.faults.add(Fault(kind="slow", match="contacts", times=9, delay_s=LONG_S))
    pace = Pace(attempts=1, first_attempts=1)
    with Client(config, pace=pace, interruption=interruption) as client, ThreadPoolExecutor(2) as pool:
        if has_served:
            client.channel("x").get(f"{config.api_root}accounts?$top=1")
        ask = client.channel("x").get
        waiting = [pool.submit(ask, f"{config.api_root}contacts?$top={number}") for number in (1, 2)]
        assert until(lambda: sum(one.path.endswith("contacts") for one in server.sandbox.log) == len(waiting))
        begun = time.monotonic()
        interruption.set()
        errors = [one.exception() for one in waiting]

        assert time.monotonic() - begun < LONG_S / 4
        assert [type(error) for error in errors] == [Interrupted, Interrupted]
        with pytest.raises(Interrupted):
            ask(f"{config.api_root}accounts?$top=1")
