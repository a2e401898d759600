"""What the command refuses: one line each, exit status 1, and nothing left behind."""

import io
import sys
import tempfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    temporary_settings,
)
from prefect_processes import free_port
from rich.console import Console

from flows.command import LEAST_ROWS, main
from flows.demonstration import ENTITY, demonstrate
from flows.outcome import SyncFailed
from flows.sync_dataverse import sync_dataverse
from igh_sync_core.report import EntityReport, RunReport
from igh_sync_core.sandbox import Server, health_organisation


def refused(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command ends with."""
    status = main(sync_dataverse, arguments)
    shown = capsys.readouterr()
    assert (status, shown.out) == (1, "")
    (line,) = shown.err.splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bogus"], "unrecognized arguments: --bogus; see python -m flows.sync_dataverse --help"),
        (["--sandbox", "--rows", "0"], "argument --rows: '0' is no whole number from 100 to"),
        (["--sandbox", "--rows", "-5"], "argument --rows: "),
        (["--save-blocks", "Bad Name"], "--save-blocks: 'Bad Name' is no name for a block"),
        (["--rows", "2000"], "--rows: has a meaning beside --sandbox only; see python -m flows.sync_dataverse --help"),
        (
            ["--sandbox", "--reconcile", "--entities", "x"],
            "--entities, --reconcile: without meaning beside --sandbox; ",
        ),
        (["--sandbox", "--save-blocks", "x"], "--save-blocks: without meaning beside --sandbox; "),
        (["--save-blocks", "x", "--entities-file", "y"], "--entities-file: without meaning beside --save-blocks; "),
        (["--entities-file", ""], "argument --entities-file: is empty; leave it out, or name one"),
        (["--save-blocks", ""], "argument --save-blocks: is empty; leave it out, or name one"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str], words: str, dataverse: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in refused(*arguments, capsys=capsys)
    assert dataverse.sandbox.log == []


def test_what_the_encoding_of_the_output_lacks_is_spelled(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding="ascii"))
    failed = EntityReport(entity="account", table="accounts", status="failed", error="Zugriff verweigert: f\u00fcr")

    def fail(**_options: object) -> None:
        msg = "account failed"
        raise SyncFailed(msg, RunReport(run_id="one", entities=(failed,)))

    assert main(fail, []) == 1
    sys.stdout.flush()
    assert rb"Zugriff verweigert: f\xfcr" in output.getvalue()


def test_a_demonstration_that_cannot_begin_leaves_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    with pytest.raises(ValueError, match="need at least"):
        demonstrate(lambda: RunReport(run_id="none"), rows=3, console=Console())

    assert not list(tmp_path.glob("igh-sync-*"))


@pytest.mark.usefixtures("dataverse")
@pytest.mark.parametrize("arguments", [["--save-blocks", "x"], []])
def test_a_server_that_does_not_answer_is_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with temporary_settings({PREFECT_API_URL: f"{address}/api", PREFECT_CLIENT_MAX_RETRIES: 0}):
        line = refused(*arguments, capsys=capsys)

    assert line.startswith(f"PREFECT_API_URL: {address} does not answer (")
    assert "unset PREFECT_API_URL" in line


@pytest.mark.usefixtures("dataverse")
@pytest.mark.parametrize("arguments", [["--save-blocks", "x"], []])
def test_no_server_and_none_to_be_started_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with temporary_settings({PREFECT_API_URL: None, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False}):
        line = refused(*arguments, capsys=capsys)

    assert line.startswith("no Prefect server may be started; set PREFECT_API_URL to a server, or let PREFECT_SERVER_")


@pytest.mark.parametrize("arguments", [["--save-blocks", "x"], []])
def test_an_address_without_its_scheme_is_one_line(
    arguments: list[str], dataverse: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    with temporary_settings({PREFECT_API_URL: "127.0.0.1:4200/api"}):
        line = refused(*arguments, capsys=capsys)

    assert line == "PREFECT_API_URL: is no address; write it like http://127.0.0.1:4200/api"
    assert dataverse.sandbox.log == []


@pytest.mark.usefixtures("dataverse")
@pytest.mark.parametrize("arguments", [["--save-blocks", "x"], []])
def test_a_server_that_is_not_prefects_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{other.server_port}"
        with temporary_settings({PREFECT_API_URL: f"{address}/api"}):
            status = main(sync_dataverse, arguments)
        other.shutdown()

    last = capsys.readouterr().err.splitlines()[-1]
    assert status == 1
    assert last.startswith(f"PREFECT_API_URL: {address} answers with status 404 when asked for its health; ")


@pytest.mark.usefixtures("prefect_api")
def test_what_fails_for_another_reason_keeps_its_traceback() -> None:
    def flow(**_options: Any) -> None:
        msg = "unexpected"
        raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="unexpected"):
        main(flow, [])


def test_the_least_sandbox_has_enough_to_change() -> None:
    assert len(health_organisation(LEAST_ROWS).keys(ENTITY)) >= 3
