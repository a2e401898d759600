import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest
from pairs import write_pair
from wires import Time

from igh_sync_core.config import Config, load_config
from igh_sync_core.config.certificate import read_certificate
from igh_sync_core.errors import AuthError, ProtocolViolation
from igh_sync_core.sandbox import Fault, Server, health_organisation, serve
from igh_sync_core.sandbox.faults import Kind
from igh_sync_core.webapi.client import Client


@pytest.fixture(scope="module", name="server")
def running_server() -> Iterator[Server]:
    with serve(health_organisation(1_500)) as server:
        yield server


def settings_for(server: Server, **changes: object) -> Config:
    given: dict[str, object] = {
        "api_url": server.api_url,
        "client_id": server.client_id,
        "client_secret": server.client_secret,
        "scope": "",
        "sqlite_db_path": "x.db",
        "authority": server.api_url,
        "ca_file": str(server.ca_file),
    }
    return Config(**given | changes)  # type: ignore[arg-type]


def logins(server: Server) -> int:
    return sum(arrival.path.endswith("/token") for arrival in server.sandbox.log)


class TestOverHttps:
    def test_the_environment_of_the_server_is_enough_to_read_every_page(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        settings = load_config()

        with Client(settings) as client:
            url = f"{settings.api_root}vin_candidates?$select=vin_candidateid"
            pages = list(client.channel("vin_candidates", page_size=10).pages(url, track_changes=True))

        rows = sum(len(fetched.page.value) for fetched in pages)
        assert rows == server.organisation.count("vin_candidate") > 20
        assert [fetched.page.delta_link is None for fetched in pages] == [True] * (len(pages) - 1) + [False]
        assert all(fetched.server_date and fetched.page.metadata_version for fetched in pages)

    def test_a_token_that_dies_between_pages_loses_no_row_and_costs_one_login(self, server: Server) -> None:
        settings = settings_for(server)
        before = logins(server)
        with Client(settings) as client:
            channel = client.channel("vin_candidates", page_size=8)
            rows = 0
            for number, fetched in enumerate(channel.pages(f"{settings.api_root}vin_candidates")):
                rows += len(fetched.page.value)
                if number == 1:
                    server.sandbox.revoke_tokens()

        assert rows == server.organisation.count("vin_candidate") > 24
        assert logins(server) == before + 2

    def test_twenty_six_threads_over_one_client_log_in_once(self, server: Server) -> None:
        settings = settings_for(server)
        before = logins(server)
        with Client(settings) as client, ThreadPoolExecutor(26) as pool:
            ask = partial(Client.channel, client)
            replies = list(pool.map(lambda n: ask(str(n)).get(f"{settings.api_root}WhoAmI"), range(26)))

        assert {reply.status for reply in replies} == {200}
        assert logins(server) == before + 1

    def test_a_certificate_logs_in_for_real(self, server: Server, tmp_path: Path) -> None:
        path = write_pair(tmp_path, pfx=True, password=b"pw")
        server.sandbox.accept_certificate(read_certificate(str(path), "pw").public_certificate)
        settings = settings_for(server, client_secret="", certificate_file=str(path), certificate_password="pw")

        with Client(settings) as client:
            assert client.channel("x").get(f"{settings.api_root}WhoAmI").status == 200

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"client_secret": "wrong-guess"}, "AADSTS7000215"),
            ({"tenant_id": "11111111-2222-3333-4444-555555555555"}, "DATAVERSE_TENANT_ID"),
            ({"ca_file": None}, "is not trusted; set DATAVERSE_CA_FILE"),
            ({"authority": None}, "which is no known Microsoft login host"),
        ],
    )
    def test_what_is_wrong_is_said_at_once(self, server: Server, changes: dict[str, object], words: str) -> None:
        settings = settings_for(server, **changes)

        with Client(settings) as client, pytest.raises(AuthError) as caught:
            client.channel("x").get(f"{settings.api_root}WhoAmI")

        assert words in str(caught.value)
        assert "wrong-guess" not in str(caught.value)

    def test_trouble_on_the_way_loses_nothing(self, server: Server) -> None:
        settings = settings_for(server)
        for fault in (
            Fault(kind="throttle", match="/accounts", retry_after_s=0),
            Fault(kind="cut", match="/accounts"),
            Fault(kind="status", match="/accounts", status=502),
            Fault(kind="status", match="/accounts", status=500),
            Fault(kind="fewer", match="/accounts"),
        ):
            server.sandbox.faults.add(fault)
        with Client(settings, pace=Time().pace()) as client:
            channel = client.channel("accounts", page_size=100)
            keys = [
                json.loads(bytes(raw))["accountid"]
                for fetched in channel.pages(f"{settings.api_root}accounts?$select=accountid")
                for raw in fetched.page.value
            ]

        assert sorted(keys) == sorted(server.organisation.keys("account"))
        assert channel.requests > 4

    @pytest.mark.parametrize("kind", ["loop", "foreign_link", "missing_value", "not_json"])
    def test_a_lying_server_is_an_error_and_not_a_short_read(self, server: Server, kind: Kind) -> None:
        settings = settings_for(server)
        server.sandbox.faults.add(Fault(kind=kind, match="/accounts", skip=1, times=5))
        with Client(settings) as client, pytest.raises(ProtocolViolation):
            list(client.channel("accounts", page_size=20).pages(f"{settings.api_root}accounts"))

        server.sandbox.faults.clear()


def test_authorities_are_read_once_and_again_when_their_file_has_changed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(server.ca_file.read_bytes())
    settings, made, read = settings_for(server, ca_file=str(ca_file)), httpx.create_ssl_context, []

    def counted() -> object:
        read.append(1)
        return made()

    monkeypatch.setattr(httpx, "create_ssl_context", counted)
    for _again in range(2):
        Client(settings).close()
    assert len(read) == 1
    os.utime(ca_file, ns=(1, 1))
    Client(settings).close()
    assert len(read) == 2
