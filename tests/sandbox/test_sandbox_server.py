"""The HTTPS door: real TLS, real MSAL, real cuts."""

import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import msal
import pytest
import trustme
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.x509 import load_pem_x509_certificate

from igh_sync_core.sandbox import Fault, Server, health_organisation, serve


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(health_organisation(400)) as running:
        yield running


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with Form(verify=ssl.create_default_context(cafile=server.ca_file), base_url=server.api_url) as client:
        yield client


class Form(httpx.Client):
    """MSAL hands its certificate assertion over as bytes, which httpx alone would send as ``b'...'``."""

    def post(self, url: Any, *, data: Any = None, **rest: Any) -> httpx.Response:
        texts = {name: each.decode() if isinstance(each, bytes) else each for name, each in (data or {}).items()}
        return super().post(url, data=texts, **rest)


def log_in(server: Server, http: httpx.Client, credential: object) -> dict[str, object]:
    app = msal.ConfidentialClientApplication(
        server.client_id,
        client_credential=credential,
        authority=server.authority,
        instance_discovery=False,
        http_client=http,
    )
    return dict(app.acquire_token_for_client([f"{server.api_url}/.default"]))


def test_msal_gets_a_token_that_opens_the_api(server: Server, http: httpx.Client) -> None:
    result = log_in(server, http, server.client_secret)

    assert result["expires_in"] == 3599
    reply = http.get("/api/data/v9.2/WhoAmI", headers={"Authorization": f"Bearer {result['access_token']}"})
    assert reply.status_code == 200
    assert reply.json()["UserId"] in server.organisation.keys("systemuser")


def test_msal_reports_a_wrong_secret_as_entra_words_it(server: Server, http: httpx.Client) -> None:
    result = log_in(server, http, "wrong")

    assert result["error"] == "invalid_client"
    assert "AADSTS7000215" in str(result["error_description"])


def test_cut_body_reaches_the_client_as_a_broken_connection(server: Server, http: httpx.Client) -> None:
    server.sandbox.faults.add(Fault(kind="cut", match="accounts"))
    headers = {"Authorization": f"Bearer {server.sandbox.issue_token(server.api_url)}"}

    with pytest.raises(httpx.RemoteProtocolError):
        http.get("/api/data/v9.2/accounts", headers=headers)
    assert http.get("/api/data/v9.2/accounts", headers=headers).status_code == 200


def test_msal_logs_in_with_a_registered_certificate_alone(server: Server, http: httpx.Client) -> None:
    certificate = trustme.CA(key_type=trustme.KeyType.RSA).issue_cert("app", key_type=trustme.KeyType.RSA)
    pem = certificate.cert_chain_pems[0].bytes()
    credential = {
        "private_key": certificate.private_key_pem.bytes().decode(),
        "thumbprint": load_pem_x509_certificate(pem).fingerprint(SHA1()).hex(),  # noqa: S303
    }

    refused = log_in(server, http, credential)
    server.sandbox.accept_certificate(pem)
    accepted = log_in(server, http, credential)

    assert refused["error"] == "invalid_client"
    assert "access_token" in accepted
