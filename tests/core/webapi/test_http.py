import ssl
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from copies import config_of

from igh_sync_core.errors import ConfigError
from igh_sync_core.sandbox import health_organisation, serve
from igh_sync_core.webapi.http import _trust, check_environment, open_http


@pytest.mark.parametrize("content", [None, "no certificate"], ids=["gone", "no PEM"])
def test_authorities_of_the_environment_that_cannot_be_read_are_a_wrong_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "authorities.pem"
    if content:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    _trust.cache_clear()

    with pytest.raises(ConfigError, match=rf"SSL_CERT_FILE: {file} cannot be used .* or unset it"):
        check_environment()


def test_authorities_of_the_environment_are_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with serve(health_organisation(rows=100)) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.ca_file))
        _trust.cache_clear()
        with open_http(replace(config_of(server, tmp_path / "copy.db"), ca_file=None)) as http:
            assert http.get(f"{server.api_url}/api/data/v9.2/WhoAmI").status_code == httpx.codes.UNAUTHORIZED
        _trust.cache_clear()


def test_connections_of_several_threads_do_not_change_what_they_share(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """OpenSSL frees the list of protocols when it is named again, while another connection may be copying it."""
    named: list[list[str]] = []
    name = ssl.SSLContext.set_alpn_protocols

    def noted(context: ssl.SSLContext, protocols: Iterable[str]) -> None:
        named.append([*protocols])
        name(context, named[-1])

    monkeypatch.setattr(ssl.SSLContext, "set_alpn_protocols", noted)
    with serve(health_organisation(rows=100)) as server:
        for _ in range(2):
            with open_http(config_of(server, tmp_path / "copy.db")) as http:
                for _ in range(2):
                    http.get(server.api_url, headers={"Connection": "close"})

    assert named == [["http/1.1"]]
