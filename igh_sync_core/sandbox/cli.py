"""``dataverse-sandbox``: a local Dataverse to try the program on."""

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from signal import SIGTERM, default_int_handler, signal
from threading import Event
from typing import NoReturn

from msgspec import json

from igh_sync_core.sandbox.data.organisation import Organisation
from igh_sync_core.sandbox.http.server import Server, serve
from igh_sync_core.sandbox.organisations.from_metadata import organisation_from_metadata
from igh_sync_core.sandbox.organisations.model import health_organisation

MOST_PORTS = 65_535
MOST_LATENCY_MS = 600_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C; prints the settings to export first.

    Returns:
        0, or 1 with one line on the error stream when the arguments are wrong or the port is taken.
    """
    try:
        options = _parser().parse_args(arguments)
        organisation = _organisation(options)
        with serve(organisation, port=options.port, latency_s=options.latency_ms / 1000) as server:
            _announce(server, as_json=options.json)
            _wait()
    except (OSError, ValueError) as exc:
        sys.stderr.write(f"dataverse-sandbox: {exc}\n")
        return 1
    return 0


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Refuse the command line as anything else is refused: by one line and exit status 1."""
        msg = f"{message}; see {self.prog} --help"
        raise ValueError(msg)


def _parser() -> ArgumentParser:
    parser = _Parser(prog="dataverse-sandbox", description="A local Dataverse over HTTPS, with invented data.")
    parser.add_argument("--rows", type=int, default=2_000, help="rows over all tables (default: 2000)")
    parser.add_argument("--seed", type=int, default=7, help="the same seed gives the same rows (default: 7)")
    parser.add_argument("--port", type=_port, default=0, help="port on loopback (default: a free one)")
    parser.add_argument("--metadata", type=Path, help="a real $metadata file to take the tables from")
    parser.add_argument("--latency-ms", type=_latency, default=0.0, help="milliseconds added to each reply")
    parser.add_argument("--json", action="store_true", help="print the settings as one line of JSON")
    return parser


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) <= MOST_PORTS):
        msg = f"{text!r} is no port from 0 to {MOST_PORTS}"
        raise ArgumentTypeError(msg)
    return int(text)


def _latency(text: str) -> float:
    try:
        latency = float(text)
    except ValueError:
        latency = -1
    if not 0 <= latency <= MOST_LATENCY_MS:
        msg = f"{text!r} is no number of milliseconds from 0 to {MOST_LATENCY_MS}"
        raise ArgumentTypeError(msg)
    return latency


def _organisation(options: Namespace) -> Organisation:
    if options.metadata is None:
        return health_organisation(options.rows, seed=options.seed)
    return organisation_from_metadata(options.metadata.read_bytes(), rows=options.rows, seed=options.seed)


def _announce(server: Server, *, as_json: bool) -> None:
    if as_json:
        lines = [json.encode(server.environment()).decode()]
    else:
        lines = [f"export {name}={quote(value)}" for name, value in server.environment().items()]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    if not as_json:
        sys.stderr.write("Serving until Ctrl-C.\n")


def _wait() -> None:
    """Until Ctrl-C, or until a parent process terminates us: both end in order."""
    signal(SIGTERM, default_int_handler)
    try:
        Event().wait()
    except KeyboardInterrupt:
        sys.stderr.write("\n")


if __name__ == "__main__":
    sys.exit(main())
