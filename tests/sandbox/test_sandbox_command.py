"""The command: ready line, control door, clean end."""

import json
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from igh_sync_core.sandbox.cli import main

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def settings() -> Iterator[dict[str, str]]:
    command = [sys.executable, "-m", "igh_sync_core.sandbox.cli", "--rows", "300", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own command
        assert process.stdout
        yield json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(20) == 0
        finally:
            process.kill()  # or the suite would wait for ever where interrupts are ignored, as in jobs of some shells


@pytest.fixture
def http(settings: dict[str, str]) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cafile=settings["DATAVERSE_CA_FILE"])
    with httpx.Client(verify=context, base_url=settings["DATAVERSE_API_URL"]) as client:
        yield client


def test_parent_changes_the_data_and_counts_requests(http: httpx.Client, settings: dict[str, str]) -> None:
    challenged = http.get("/api/data/v9.2/")
    changed = http.post("/sandbox/change", json={"changed": 0.1, "deleted": 0.1, "inserted": 0.1})
    slower = http.post("/sandbox/latency", json={"seconds": 0.01})
    wrong = http.post("/sandbox/latency", json={"seconds": "much"})
    counters = http.get("/sandbox/requests").json()

    assert settings["DATAVERSE_AUTHORITY"] in challenged.headers["WWW-Authenticate"]
    assert min(changed.json().values()) > 0
    assert (slower.json(), wrong.status_code) == ({"seconds": 0.01}, 400)
    assert counters["statuses"] == {"401": 1}


def test_unusable_options_end_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rows", "3"]) == 1
    assert "need at least" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--bogus"],
        ["--rows", "many"],
        ["--port", "100000"],
        *(["--latency-ms", wrong] for wrong in ("-1", "nan", "inf", "much")),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dataverse-sandbox: ")
