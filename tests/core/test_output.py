"""The standard output of a command that its reader has closed, or that no disk takes."""

import os
import sys
from collections.abc import Callable

import pytest

from igh_sync_core.cli.output import Screen, write_out
from igh_sync_core.errors import ConfigError

WAYS: dict[str, Callable[[str], None]] = {"a table": lambda text: Screen().print(text), "a text": write_out}


@pytest.mark.parametrize("way", WAYS)
def test_whoever_has_heard_enough_ends_no_command(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "w", encoding="utf-8") as closed, open(os.devnull, "wb") as null:  # noqa: PTH123 - no path
        monkeypatch.setattr(sys, "stdout", closed)
        for _ in range(2):
            WAYS[way]("x " * 50_000)

        assert os.path.sameopenfile(closed.fileno(), null.fileno()), "what comes later goes there, and fails no more"


@pytest.mark.parametrize("way", WAYS)
def test_what_cannot_be_written_is_told_once(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123 - no file
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(ConfigError, match=r"^standard output: cannot be written \(No space left on device\)$"):
            WAYS[way]("x")


def test_a_text_is_written_just_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    write_out("a\tb [bold]" + "x" * 300)

    assert capsys.readouterr().out == "a\tb [bold]" + "x" * 300 + "\n"
