"""Behind an HTTPS proxy: what it gets to see, with a real tunnel through it."""

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Thread

import httpx
import pytest
from copies import config_of
from wires import Time, until

from igh_sync_core.errors import Interrupted
from igh_sync_core.sandbox import Fault, Server, health_organisation, serve
from igh_sync_core.webapi.client import Client
from igh_sync_core.webapi.interruption import Interruption


class Proxy:
    """Opens tunnels on one port of this machine, and keeps the first line of each request in clear.

    Attributes:
        asked: Those lines.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._open: list[socket.socket] = []
        Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        for one in (self._listening, *self._open):
            one.close()

    def _serve(self) -> None:
        try:
            while True:
                Thread(target=self._tunnel, args=(self._listening.accept()[0],), daemon=True).start()
        except OSError:
            """Closed."""

    def _tunnel(self, near: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += near.recv(4096)
        self.asked.append(head.partition(b"\r\n")[0].decode())
        host, _, port = self.asked[-1].split(" ")[1].rpartition(":")
        if not port.isdecimal():
            near.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            return
        far = socket.create_connection((host, int(port)))
        self._open += [near, far]
        near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        Thread(target=_pass_on, args=(near, far), daemon=True).start()
        _pass_on(far, near)


def _pass_on(source: socket.socket, to: socket.socket) -> None:
    try:
        while piece := source.recv(65_536):
            to.sendall(piece)
        to.shutdown(socket.SHUT_WR)
    except OSError:
        """One end is gone."""


@pytest.fixture(name="proxy")
def running_proxy() -> Iterator[Proxy]:
    proxy = Proxy()
    yield proxy
    proxy.close()


@pytest.fixture(scope="module", name="server")
def running_server() -> Iterator[Server]:
    with serve(health_organisation(300)) as server:
        yield server


def through(proxy: Proxy, server: Server) -> httpx.HTTPTransport:
    trust = ssl.create_default_context(cafile=str(server.ca_file))
    return httpx.HTTPTransport(verify=trust, proxy=proxy.address)


def test_every_connection_is_asked_for_by_host_and_port_and_no_address_leaves_in_clear(
    proxy: Proxy, server: Server, tmp_path: Path
) -> None:
    config, together = config_of(server, tmp_path / "copy.db"), Barrier(3)
    query = "accounts?$select=name&$filter=name ne 'a%2Fb'".replace(" ", "%20")

    def ask(client: Client) -> int:
        together.wait(10)
        return client.channel("accounts").get(f"{config.api_root}{query}").status

    server.sandbox.latency_s = 0.3  # or the first connection might serve all of them
    with (
        Client(config, transport=through(proxy, server), pace=Time().pace(attempts=1)) as client,
        ThreadPoolExecutor(3) as pool,
    ):
        assert [*pool.map(ask, [client] * 3)] == [200] * 3

    assert len(proxy.asked) > 1
    assert set(proxy.asked) == {f"CONNECT {config.origin.removeprefix('https://')} HTTP/1.1"}
    assert server.sandbox.log[-1].query == query.partition("?")[2]


def test_an_interruption_ends_what_waits_for_a_reply_through_the_tunnel(
    proxy: Proxy, server: Server, tmp_path: Path
) -> None:
    config, interruption = config_of(server, tmp_path / "copy.db"), Interruption()
    server.sandbox.faults.add(Fault(kind="slow", match="contacts", delay_s=20.0))
    with (
        Client(config, transport=through(proxy, server), interruption=interruption) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(client.channel("x").get, f"{config.api_root}contacts?$top=1")
        assert until(lambda: any(one.path.endswith("contacts") for one in server.sandbox.log))
        interruption.set()

        assert isinstance(waiting.exception(timeout=5), Interrupted)
