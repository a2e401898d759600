import os

import httpx
import pytest
from copies import config_of
from wires import Time

from igh_sync_core.errors import ConfigError
from igh_sync_core.sandbox import health_organisation, serve
from igh_sync_core.webapi import proxies
from igh_sync_core.webapi.client import Client

NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
PROXY = "http://proxy:3128"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that whatever a test leaves there is gone after it
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def put(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"ALL_PROXY": "http://svc:hunter2@[::1:3128"}, "ALL_PROXY is no address of a proxy; write it like http://"),
        ({"https_proxy": "http://"}, "https_proxy is no address of a proxy"),
        ({"HTTP_PROXY": "svc:hunter2@proxy:99999"}, "HTTP_PROXY is no address of a proxy"),
        ({"HTTPS_PROXY": "ftp://svc:hunter2@proxy:21"}, "HTTPS_PROXY names a proxy of an unknown kind; it must begin"),
        ({"ALL_PROXY": "socks5://svc:hunter2@proxy:1080"}, "ALL_PROXY names a SOCKS proxy, .* pip install 'httpx"),
        ({"NO_PROXY": "[::1", "HTTPS_PROXY": "http://proxy:1"}, "NO_PROXY holds what is no host"),
    ],
)
def test_one_that_cannot_be_used_is_a_wrong_setting_that_tells_no_password(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], words: str
) -> None:
    put(monkeypatch, **values)
    monkeypatch.setattr(proxies, "find_spec", lambda _name: None)

    with pytest.raises(ConfigError, match=words) as caught:
        proxies.check()

    assert "hunter2" not in str(caught.value)


def test_all_that_are_wrong_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, HTTPS_PROXY="ftp://proxy", ALL_PROXY="http://")

    with pytest.raises(ConfigError) as caught:
        proxies.check()

    assert [fault.split()[0] for fault in caught.value.faults] == ["HTTPS_PROXY", "ALL_PROXY"]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"HTTPS_PROXY": "http://svc:hunter2@proxy.corp:3128"},
        {"all_proxy": "proxy.corp:3128"},
        {"HTTPS_PROXY": "ftp://proxy", "NO_PROXY": "*"},
        {"HTTPS_PROXY": "http://proxy", "NO_PROXY": "localhost, .corp.example,10.0.0.0/8,::1"},
    ],
)
def test_one_that_can_be_used_is_taken(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    put(monkeypatch, **values)

    proxies.check()


def test_a_dataverse_on_this_machine_is_asked_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    put(monkeypatch, HTTPS_PROXY="http://127.0.0.1:9", ALL_PROXY="http://127.0.0.1:9")
    with serve(health_organisation(100)) as server:
        config = config_of(server, tmp_path_factory.mktemp("copy") / "copy.db")
        with Client(config, pace=Time().pace(attempts=1, first_attempts=1)) as client:
            assert client.channel("x").get(f"{config.api_root}WhoAmI").status == httpx.codes.OK


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, None),
        ({"HTTPS_PROXY": PROXY}, "localhost,127.0.0.1,::1"),
        ({"all_proxy": PROXY, "NO_PROXY": ".corp"}, ".corp,localhost,127.0.0.1,::1"),
        ({"http_proxy": PROXY, "no_proxy": "127.0.0.1,x", "NO_PROXY": "y"}, "127.0.0.1,x,localhost,::1"),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "x, *"}, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "*.corp"}, "*.corp,localhost,127.0.0.1,::1"),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "x, localhost"}, "x, localhost,127.0.0.1,::1"),
    ],
)
def test_others_in_the_process_are_told_so_and_what_was_exempt_stays_so(
    monkeypatch: pytest.MonkeyPatch, before: dict[str, str], after: str | None
) -> None:
    put(monkeypatch, **before)
    proxies.exempt_this_machine()
    proxies.exempt_this_machine()

    assert os.environ.get("no_proxy") == after
