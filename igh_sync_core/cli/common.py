"""What all commands share: settings from arguments, and expected failures as one line each."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from signal import SIG_DFL, SIGTERM, default_int_handler, getsignal, signal
from threading import current_thread, main_thread
from typing import NamedTuple, NoReturn

from igh_sync_core.cli import output
from igh_sync_core.config import Config
from igh_sync_core.config.entities import EntityConfig, find_named, load_entity_configs, load_optionsets_config
from igh_sync_core.config.faults import Faults
from igh_sync_core.config.settings import Faulty, read_config
from igh_sync_core.errors import ConfigError, SyncError
from igh_sync_core.store.engines import find_fault

INTERRUPTED = 130
_SHOWN = 5


class Parser(argparse.ArgumentParser):
    """An argument parser whose refusals are configuration faults like any other: one line, exit status 1."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise ConfigError([f"{message}; see {self.prog} --help"])


def count(most: int, *, least: int = 1) -> Callable[[str], int]:
    """Type of an argument that is a whole number from *least* to *most*."""

    def parse(text: str) -> int:
        if not (text.isdecimal() and least <= int(text) <= most):
            msg = f"{text!r} is no whole number from {least} to {most}"
            raise argparse.ArgumentTypeError(msg)
        return int(text)

    return parse


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Where the settings and the selection of tables come from."""
    parser.add_argument(
        "--env-file",
        metavar="FILE",
        help="settings as NAME=value lines, over those of the environment; else .env below them",
    )
    parser.add_argument(
        "--entities-config", metavar="FILE", help="tables to copy, as JSON (default: the package's own)"
    )


def add_hints(parser: argparse.ArgumentParser) -> None:
    """Choices named by hand."""
    parser.add_argument(
        "--optionsets-config", metavar="FILE", help="choice columns per table, as JSON, where metadata may not be read"
    )


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Some of the tables."""
    parser.add_argument("--entities", metavar="NAME", nargs="+", help="only these of the tables")


class Given(NamedTuple):
    """What the arguments of a command name.

    Attributes:
        config: The settings.
        entities: Tables to copy.
        hints: Choices named by hand.
    """

    config: Config
    entities: list[EntityConfig]
    hints: dict[str, list[str]]


def given(
    arguments: argparse.Namespace,
    read: Callable[[str | None], tuple[Config, Faulty]] = read_config,
    *,
    find_fault: Callable[[Config], str] = find_fault,
) -> Given:
    """Settings, tables and choices as the arguments say, and as many of them as the command has.

    Args:
        arguments: Of a parser with ``add_settings``.
        read: Reads the settings, and judges those that the command needs.
        find_fault: Judges the database by them.

    Raises:
        ConfigError: Lists every fault of all of them.
    """
    faults, named = Faults(), vars(arguments)
    config = _settings(faults, lambda: read(arguments.env_file), named.get("db_type"))
    if config is not None:
        faults.add(find_fault(config))
    every = faults.of(lambda: entities(arguments))
    selection = faults.of(lambda: only(every, named.get("entities"))) if every else None
    hints = faults.of(lambda: load_optionsets_config(named.get("optionsets_config")))
    if faults.found or config is None or every is None or selection is None or hints is None:
        raise ConfigError(faults.found)
    _, unknown = find_named(every, hints)
    for name in unknown:
        told = f"{name!r} is not in the entities file, so it is ignored"
        sys.stderr.write(f"warning: {named['optionsets_config']}: {told}\n")
    return Given(config, selection, hints)


def _settings(faults: Faults, read: Callable[[], tuple[Config, Faulty]], kind: str | None) -> Config | None:
    found = faults.of(read)
    if found is None:
        return None
    config, wrong = found
    faults.add(*wrong)
    return faults.of(lambda: with_database(config, kind)) or config


def entities(arguments: argparse.Namespace) -> list[EntityConfig]:
    """Tables to copy, as the arguments say."""
    return load_entity_configs(arguments.entities_config)


def only(selection: Sequence[EntityConfig], names: Sequence[str] | None) -> list[EntityConfig]:
    """The entities named, by logical name or entity set; all of them where none is named.

    Raises:
        ConfigError: A name is in none of them.
    """
    found, unknown = find_named(selection, names or ())
    if unknown:
        it_has = f"is not in the entities file; it has {_some(selection)}"
        raise ConfigError([f"--entities: {name!r} {it_has}" for name in unknown])
    return found


def _some(entities: Sequence[EntityConfig]) -> str:
    names = ", ".join(entity.name for entity in entities[:_SHOWN])
    return f"{names} and {len(entities) - _SHOWN} more" if len(entities) > _SHOWN else names


def with_database(config: Config, kind: str | None) -> Config:
    """The same settings, for the engine demanded on the command line."""
    if kind == "sqlite":
        return replace(config, postgres_connection_string=None)
    if kind == "postgresql" and not config.postgres_connection_string:
        raise ConfigError(["--db-type postgresql: POSTGRES_CONNECTION_STRING is not set; set it to the database's URL"])
    return config


@contextmanager
def heeding_termination() -> Iterator[None]:
    """Let SIGTERM, with which services and containers are stopped, end a command in order, as Ctrl-C does.

    Not where somebody has said already what it does, nor beside the main thread, the only one that may.
    """
    if current_thread() is not main_thread() or getsignal(SIGTERM) is not SIG_DFL:
        yield
        return
    signal(SIGTERM, default_int_handler)
    try:
        yield
    finally:
        signal(SIGTERM, SIG_DFL)


def run_command(command: Callable[[], int], *, interrupted: str = "interrupted") -> int:
    """Run a command; expected failures become a line each on the error stream, and exit status 1.

    Args:
        command: Gives the exit status.
        interrupted: What to say when Ctrl-C or a termination ends it.
    """
    output.spell_what_encodings_lack()
    try:
        with heeding_termination():
            return command()
    except ConfigError as exc:
        for fault in exc.faults:
            sys.stderr.write(f"error: {fault}\n")
    except SyncError as exc:
        sys.stderr.write(f"error: {exc}\n")
    except KeyboardInterrupt:
        sys.stderr.write(f"{interrupted}\n")
        return INTERRUPTED
    return 1
