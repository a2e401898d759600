"""Faults: each does what it is named for, as often as it was asked to."""

import time

import httpx
import pytest

from igh_sync_core.sandbox import Fault, Sandbox
from igh_sync_core.sandbox.faults import THROTTLED


@pytest.mark.parametrize("code", list(THROTTLED))
def test_throttling(api: httpx.Client, sandbox: Sandbox, code: str) -> None:
    sandbox.faults.add(Fault(kind="throttle", code=code, retry_after_s=27))

    reply = api.get("accounts")

    assert (reply.status_code, reply.headers["Retry-After"]) == (429, "27")
    assert reply.json()["error"]["code"] == code
    assert "x-ms-ratelimit-burst-remaining-xrm-requests" not in reply.headers
    assert api.get("accounts").headers["x-ms-dop-hint"] == "4"


def test_faults_wait_their_turn_and_match_their_path(api: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(kind="status", match="accounts", skip=1, times=2))

    statuses = [api.get(url).status_code for url in ("accounts", "contacts", "accounts", "accounts", "accounts")]

    assert statuses == [200, 200, 503, 503, 200]


def test_gateways_answer_html_and_the_database_json(api: httpx.Client, sandbox: Sandbox) -> None:
    for status in (502, 504, 500):
        sandbox.faults.add(Fault(kind="status", status=status))

    replies = [api.get("accounts") for _ in range(3)]

    assert [reply.status_code for reply in replies] == [502, 504, 500]
    assert replies[0].text.startswith("<html>")
    assert replies[2].json()["error"]["code"] == "0x80044151"


def test_cut_body_ends_in_a_protocol_error(api: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(kind="cut"))
    received: list[bytes] = []

    with api.stream("GET", "accounts") as reply, pytest.raises(httpx.RemoteProtocolError):
        received.extend(reply.iter_raw())
    assert received[0].startswith(b'{"@odata.context"')


def test_spoiled_pages(api: httpx.Client, sandbox: Sandbox) -> None:
    prefer = {"Prefer": "odata.maxpagesize=4"}
    plain = api.get("accounts", headers=prefer).json()
    for kind in ("missing_value", "loop", "foreign_link", "duplicates", "fewer", "not_json"):
        sandbox.faults.add(Fault(kind=kind))

    missing, loop, foreign, doubled, fewer, html = (api.get("accounts", headers=prefer) for _ in range(6))

    assert "value" not in missing.json()
    assert api.get(loop.json()["@odata.nextLink"], headers=prefer).json()["value"] == plain["value"]
    assert foreign.json()["@odata.nextLink"].startswith("https://collector.example.net/api/data/v9.2/accounts")
    assert doubled.json()["value"] == [*plain["value"], plain["value"][0]]
    assert fewer.json()["value"] == plain["value"][:2]
    assert (html.status_code, html.text[:6]) == (200, "<html>")


def test_slow_first_byte(api: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(kind="slow", delay_s=0.05))

    start = time.perf_counter()
    assert api.get("accounts").status_code == 200
    assert time.perf_counter() - start >= 0.05
