"""The standard output of a command: whoever reads it may stop early, and what cannot be written there is told."""

import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from rich.console import Console

from igh_sync_core.errors import ConfigError


class Screen(Console):
    """Where a command shows what it has found; lines are not cut.

    Raises:
        ConfigError: From ``print``: it cannot be written, such as on a full disk.
    """

    def __init__(self) -> None:
        super().__init__(soft_wrap=True)

    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401 - Console's own signature
        """Show something; see ``Console.print``."""
        try:
            super().print(*objects, **options)
        except OSError as exc:
            raise _lost(exc) from exc

    def on_broken_pipe(self) -> None:
        """Whoever reads has heard enough, as ``head`` has; the exit status tells all the same how it ended."""
        self.quiet = True
        _let_go()


def _let_go() -> None:
    """Write to standard output no more; what is left of it would fail once more at the end of the process."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _lost(error: OSError) -> ConfigError:
    _let_go()
    return ConfigError([f"standard output: cannot be written ({error.strerror})"])


def must_be_open() -> None:
    """See that there is a standard output, before a command does what it is asked to print there.

    Raises:
        ConfigError: Whoever started the command has closed it.
    """
    if sys.stdout is None:
        raise ConfigError(["standard output is closed; leave it open, or send it to a file"])


def write_out(text: str) -> None:
    """Write a text just as it is, and a line break.

    Raises:
        ConfigError: As ``must_be_open``, and as ``Screen.print``.
    """
    must_be_open()
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _let_go()
    except OSError as exc:
        raise _lost(exc) from exc


def write_report(path: str | None, text: str) -> None:
    """Write a report to a file, if one is named.

    Raises:
        ConfigError: It cannot be written.
    """
    if path is None:
        return
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as exc:
        raise ConfigError([f"{path}: cannot be written ({exc.strerror})"]) from exc


def spell_what_encodings_lack() -> None:
    """Let signs that the output's encoding lacks be spelled, as on the error stream; Python would fail on them."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
