"""The sandbox behind real HTTPS on loopback: uvicorn in a thread, with a certificate made for this run alone."""

import asyncio
import importlib.util
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import trustme
import uvicorn

from igh_sync_core.sandbox.data.organisation import Organisation
from igh_sync_core.sandbox.http.door import Door
from igh_sync_core.sandbox.http.service import Sandbox

HOST = "localhost"


@dataclass(frozen=True, slots=True)
class Server:
    """A running sandbox.

    Attributes:
        api_url: ``https://localhost:PORT``.
        ca_file: PEM of the authority that signed its certificate.
        sandbox: To inject faults, look at the log, and deny.
    """

    api_url: str
    ca_file: Path
    sandbox: Sandbox

    @property
    def organisation(self) -> Organisation:
        """The data, to be changed while the server runs."""
        return self.sandbox.organisation

    @property
    def client_id(self) -> str:
        """The registered app."""
        return self.sandbox.login.registration.client_id

    @property
    def client_secret(self) -> str:
        """Its secret."""
        return self.sandbox.login.registration.client_secret

    @property
    def authority(self) -> str:
        """``https://localhost:PORT/<tenant>``, as MSAL wants it."""
        return f"{self.api_url}/{self.sandbox.login.registration.tenant_id}"

    def environment(self) -> dict[str, str]:
        """Settings of the program under test; the tenant has to be found from the challenge."""
        return {
            "DATAVERSE_API_URL": self.api_url,
            "DATAVERSE_CLIENT_ID": self.client_id,
            "DATAVERSE_CLIENT_SECRET": self.client_secret,
            "DATAVERSE_AUTHORITY": self.api_url,
            "DATAVERSE_CA_FILE": str(self.ca_file),
        }


@contextmanager
def serve(organisation: Organisation, *, port: int = 0, latency_s: float = 0.0) -> Iterator[Server]:
    """Serve *organisation* over HTTPS until the block ends.

    Args:
        organisation: May be changed while it is served.
        port: 0 takes a free one.
        latency_s: Seconds added to each reply of the API.

    Raises:
        OSError: The port is taken.
    """
    with TemporaryDirectory(prefix="dataverse-sandbox-") as folder, _listen(port) as listener:
        url = f"https://{HOST}:{listener.getsockname()[1]}"
        sandbox = Sandbox(organisation, authority_host=url)
        sandbox.latency_s = latency_s
        files = _certify(Path(folder))
        with _running(uvicorn.Server(_config(sandbox, files)), listener):
            yield Server(url, files.ca, sandbox)


@contextmanager
def _listen(port: int) -> Iterator[socket.socket]:
    listener = socket.create_server(("127.0.0.1", port), backlog=256)
    # Accepted connections inherit it. asyncio does not set it on sockets made this way, and every reply, whose head
    # and body are written apart, would then wait some 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        yield listener
    finally:
        listener.close()


@dataclass(frozen=True, slots=True)
class _Files:
    ca: Path
    key: Path
    chain: Path


def _certify(folder: Path) -> _Files:
    files = _Files(folder / "ca.pem", folder / "key.pem", folder / "chain.pem")
    authority = trustme.CA()
    certificate = authority.issue_cert(HOST, "127.0.0.1")
    authority.cert_pem.write_to_path(str(files.ca))
    certificate.private_key_pem.write_to_path(str(files.key))
    files.chain.write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    return files


def _config(sandbox: Sandbox, files: _Files) -> uvicorn.Config:
    return uvicorn.Config(
        Door(sandbox),
        http="httptools" if importlib.util.find_spec("httptools") else "h11",
        loop="asyncio",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=1 << 17,
        ssl_keyfile=str(files.key),
        ssl_certfile=str(files.chain),
    )


@contextmanager
def _running(server: uvicorn.Server, listener: socket.socket) -> Iterator[None]:
    """*server* in a thread of its own, ready when the block starts and gone when it ends."""
    thread = Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), name="dataverse-sandbox", daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(10)
