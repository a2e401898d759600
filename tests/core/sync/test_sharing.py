"""One client per process and settings, for as long as somebody needs it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import httpx
import pytest
from sqlalchemy import event, select

from igh_sync_core.config import Config
from igh_sync_core.errors import ProtocolViolation
from igh_sync_core.inspection.estimate import count_records
from igh_sync_core.sandbox import Sandbox, health_organisation, serve
from igh_sync_core.sync.sharing import shared_client, shared_database
from igh_sync_core.webapi.client import Client
from igh_sync_core.webapi.pacing import Pace


def config_for(origin: str, **more: str) -> Config:
    return Config(origin, "app", "secret", "", "copy.db", **more)


def test_holders_at_one_time_share_a_client_and_later_ones_get_a_fresh_one() -> None:
    config, other = config_for("https://one.crm.dynamics.com"), config_for("https://two.crm.dynamics.com")

    with shared_client(config) as first:
        with shared_client(config_for("https://one.crm.dynamics.com")) as second, shared_client(other) as third:
            assert second is first
            assert third is not first
        with shared_client(config) as still:
            assert still is first
    with shared_client(config) as fresh:
        assert fresh is not first


def test_a_client_whose_run_was_interrupted_is_left_to_those_who_have_it() -> None:
    config = config_for("https://one.crm.dynamics.com")
    with shared_client(config) as first:
        with pytest.raises(KeyboardInterrupt), first.interruptible():
            raise KeyboardInterrupt
        with shared_client(config) as second, shared_client(config) as third:
            assert second is third is not first

    with shared_client(config) as fourth:
        assert fourth not in {first, second}


def test_only_who_opens_the_client_asks_for_its_pace() -> None:
    asked: list[str] = []

    def pace() -> Pace:
        asked.append("asked")
        return Pace()

    config = config_for("https://one.crm.dynamics.com")
    with shared_client(config, pace=pace), shared_client(config, pace=pace):
        pass

    assert asked == ["asked"]


def test_holders_at_one_time_share_a_database_and_its_connections(database_settings: dict[str, str]) -> None:
    config = Config("https://one.crm.dynamics.com", "app", "secret", "", **database_settings)
    connections: list[object] = []
    with shared_database(config) as first:
        event.listen(first.engine, "connect", lambda raw, _record: connections.append(raw))
        for _ in range(3):
            with shared_database(config) as again, again.reading() as conn:
                conn.execute(select(1))
                assert again is first
        assert len(connections) == 1
    with shared_database(config) as fresh:
        assert fresh is not first


def test_threads_log_in_once_between_them() -> None:
    together = Barrier(4)
    with serve(health_organisation(60)) as server:
        settings = {"authority": server.api_url, "ca_file": str(server.ca_file)}
        config = Config(server.api_url, server.client_id, server.client_secret, "", "copy.db", **settings)

        def ask(_: int) -> int:
            with shared_client(config) as client:
                together.wait(10)
                return client.channel("test").get(f"{config.api_root}WhoAmI").status

        with ThreadPoolExecutor(4) as pool:
            statuses = list(pool.map(ask, range(4)))

        logins = [one for one in server.sandbox.log if one.path.endswith("/token")]
    assert statuses == [200] * 4
    assert len(logins) == 1


def test_each_request_holds_a_place_at_the_turnstile_until_its_reply_is_read() -> None:
    events: list[str] = []

    @contextmanager
    def turnstile() -> Iterator[None]:
        events.append("in")
        yield
        events.append("out")

    with sandbox_client(Pace(turnstile=turnstile)) as client:
        client.channel("test").get(f"{client.config.api_root}WhoAmI")
        list(client.channel("test", page_size=2).pages(f"{client.config.api_root}vin_candidates"))

    assert events.count("in") > 2
    assert events == ["in", "out"] * (len(events) // 2)


def test_counts_come_by_name() -> None:
    organisation = health_organisation(300)
    with sandbox_client(Pace(), Sandbox(organisation)) as client:
        counts = count_records(client, ["vin_candidate", "account"])

    assert counts == {name: organisation.count(name) for name in ("vin_candidate", "account")}


def test_an_answer_without_counts_is_refused() -> None:
    sandbox = Sandbox(health_organisation(60))

    def respond(request: httpx.Request) -> httpx.Response:
        counted = "RetrieveTotalRecordCount" in request.url.path
        authorised = "authorization" in request.headers
        return httpx.Response(200, json={"value": []}) if counted and authorised else sandbox.handle(request)

    with client_over(httpx.MockTransport(respond), Pace()) as client, pytest.raises(ProtocolViolation):
        count_records(client, ["account"])


def sandbox_client(pace: Pace, sandbox: Sandbox | None = None) -> Client:
    return client_over(httpx.MockTransport((sandbox or Sandbox(health_organisation(300))).handle), pace)


def client_over(transport: httpx.BaseTransport, pace: Pace) -> Client:
    sandbox = Sandbox(health_organisation(60))
    registration = sandbox.login.registration
    config = Config("https://org.crm.dynamics.com", registration.client_id, registration.client_secret, "", "copy.db")
    return Client(config, transport=transport, pace=pace)
