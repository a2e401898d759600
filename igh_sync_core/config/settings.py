"""Where to read from, as whom, and where to store: the settings, and every fault of them at once.

First stop of the road; nothing here touches the network. A value holds in this order: a file named by hand, the
environment, a ``.env`` in the working directory, the default.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from igh_sync_core.config.addresses import api_root_of, origin_of
from igh_sync_core.config.checks import find_database_faults, find_faults, find_misspelt, is_of_settings
from igh_sync_core.config.env_file import EnvFile, Line, read_env_file
from igh_sync_core.errors import ConfigError


@dataclass(frozen=True)
class Setting:
    """One line of the settings table.

    Attributes:
        name: Environment variable.
        attribute: Field of ``Config`` that it fills.
        meaning: What it is, in one sentence without a full stop.
        default: Value when unset; "" where there is none.
        default_note: What happens when unset, for people; "" where the setting must be given.
    """

    name: str
    attribute: str
    meaning: str
    default: str = ""
    default_note: str = ""


SETTINGS = (
    Setting(
        "DATAVERSE_API_URL",
        "api_url",
        "Address of the environment, such as https://org.crm.dynamics.com, with or without /api/data/v9.2",
    ),
    Setting("DATAVERSE_CLIENT_ID", "client_id", "Application (client) id of the app registration"),
    Setting(
        "DATAVERSE_CLIENT_SECRET",
        "client_secret",
        "Client secret of the app registration",
        default_note="a certificate is used instead",
    ),
    Setting("DATAVERSE_SCOPE", "scope", "Scope asked for", default_note="origin of the address + /.default"),
    Setting("DATAVERSE_TENANT_ID", "tenant_id", "Tenant id or domain", default_note="asked from the environment"),
    Setting(
        "DATAVERSE_AUTHORITY",
        "authority",
        "Login host, such as https://login.microsoftonline.us, with or without the tenant",
        default_note="asked from the environment",
    ),
    Setting(
        "DATAVERSE_CERTIFICATE_FILE",
        "certificate_file",
        "PEM or .pfx file with certificate and private key, in place of a secret",
        default_note="a secret is used instead",
    ),
    Setting(
        "DATAVERSE_CERTIFICATE_PASSWORD",
        "certificate_password",
        "Password of that file",
        default_note="the file has none",
    ),
    Setting(
        "DATAVERSE_CA_FILE",
        "ca_file",
        "PEM file with further trusted certificate authorities",
        default_note="the usual ones only",
    ),
    Setting("SQLITE_DB_PATH", "sqlite_db_path", "SQLite file to write", "dataverse.db", "dataverse.db"),
    Setting(
        "POSTGRES_CONNECTION_STRING",
        "postgres_connection_string",
        "postgresql://user:password@host/database; wins over SQLite",
        default_note="SQLite is used",
    ),
)
"""Every setting, in the order people meet them; the README and the help texts are made from it."""

_OF_DATABASE = tuple(one for one in SETTINGS if not one.name.startswith("DATAVERSE_"))

Faulty: TypeAlias = tuple[str, ...]
"""One text per fault, each with its remedy; empty where nothing is wrong."""


@dataclass(frozen=True)
class Config:
    """Everything a run must be told; frozen, and shows no secret.

    Construct it by hand or with ``load_config``; only the latter checks it, so give one made by hand to ``validate``.

    Attributes:
        api_url: Origin of the environment, or its API root.
        client_id: Application id.
        client_secret: Its secret; "" when a certificate logs in.
        scope: Scope to ask for; "" becomes the origin + ``/.default``.
        sqlite_db_path: SQLite file, or None.
        postgres_connection_string: PostgreSQL URL, or None; wins when both are set.
        tenant_id: GUID or domain; None to ask the environment.
        authority: Login host with or without tenant; None to ask the environment.
        certificate_file: PEM or .pfx file in place of the secret, or PEM text itself.
        certificate_password: Of that file.
        ca_file: Certificate authorities trusted beside the usual ones.
    """

    api_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str
    sqlite_db_path: str | None = None
    postgres_connection_string: str | None = field(default=None, repr=False)
    tenant_id: str | None = field(default=None, kw_only=True)
    authority: str | None = field(default=None, kw_only=True)
    certificate_file: str | None = field(default=None, kw_only=True, repr=False)
    certificate_password: str | None = field(default=None, kw_only=True, repr=False)
    ca_file: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Fill in the scope that every environment has, and the home folder that ``~`` stands for."""
        if not self.scope and self.api_url:
            object.__setattr__(self, "scope", f"{self.origin}/.default")
        for name in ("certificate_file", "ca_file"):
            if path := getattr(self, name):
                at_home = os.path.expanduser(path)  # noqa: PTH111 - pathlib raises where there is no such home
                object.__setattr__(self, name, at_home)

    @property
    def origin(self) -> str:
        """Scheme, host and port: ``https://org.crm.dynamics.com``."""
        return origin_of(self.api_url)

    @property
    def api_root(self) -> str:
        """Where entity sets live, with its slash: ``https://org.crm.dynamics.com/api/data/v9.2/``."""
        return api_root_of(self.api_url)

    def get_db_type(self) -> Literal["sqlite", "postgresql"]:
        """Which engine the copy lives in; PostgreSQL wins when both are set."""
        return "postgresql" if self.postgres_connection_string else "sqlite"


def load_config(env_file: str | None = None, *, given: Mapping[str, str] | None = None) -> Config:
    """Read the settings and check them all.

    Args:
        env_file: File of ``NAME=value`` lines that wins over the environment; a blank value there unsets, and where it
            names a database, the environment names none. Without it a ``.env`` in the working directory, if there is
            one, fills what the environment lacks; lines there that are another program's pass.
        given: Values by field of ``Config``, which win over everything; "" leaves a field unset.

    Raises:
        ConfigError: Lists every fault: missing, misspelt, malformed or contradictory settings, unreadable files.
    """
    config, faults = read_config(env_file, given=given)
    if faults:
        raise ConfigError(faults)
    return config


def read_config(env_file: str | None = None, *, given: Mapping[str, str] | None = None) -> tuple[Config, Faulty]:
    """The settings as they are, and every fault of them; for those who have more to check before they tell.

    Args:
        env_file: As for ``load_config``.
        given: As for ``load_config``.

    Raises:
        ConfigError: The file cannot be read.
    """
    sources, fields = _read_sources(env_file), dict(given or {})
    config = _config_of(sources.values, fields)
    lines = _lines_gone_wrong(sources, is_enough=_is_enough(config))
    return config, (*_faults_of(sources, lines, fields, SETTINGS), *validate(config))


def read_database(env_file: str | None = None) -> tuple[Config, Faulty]:
    """The same for those who ask the database alone: only its settings are checked, the others may be missing."""
    sources = _read_sources(env_file)
    config = _config_of(sources.values, {})
    lines = _lines_gone_wrong(sources, is_enough=True)  # there is a file by default
    return config, (*_faults_of(sources, lines, {}, _OF_DATABASE), *find_database_faults(_by_name(config)))


def _config_of(values: Mapping[str, str], fields: Mapping[str, str]) -> Config:
    found = {setting.attribute: values.get(setting.name) or setting.default for setting in SETTINGS} | dict(fields)
    required = {"api_url", "client_id", "client_secret", "scope"}
    return Config(**{name: value if name in required else value or None for name, value in found.items()})  # type: ignore[arg-type]  # every field is text


@dataclass(frozen=True)
class _Sources:
    """What file and environment say.

    Attributes:
        values: What holds, by name: settings and others; nothing blank.
        file: What the file says by itself; of no name where there is none.
        is_named: Whether it is a file named by hand.
    """

    values: dict[str, str]
    file: EnvFile
    is_named: bool


def _is_enough(config: Config) -> bool:
    """Whether everything is there without which nothing can be read."""
    return bool(config.api_url and config.client_id and (config.client_secret or config.certificate_file))


def _lines_gone_wrong(sources: _Sources, *, is_enough: bool) -> list[Line]:
    """Lines that are meant for us and say nothing: in a file named by hand all of them.

    A ``.env`` may be another program's, whose language is its own. One of its lines counts if it speaks of a setting,
    or if one is missing that it may have been meant to be; a name and no more does if it nearly is a setting's.
    """
    if sources.is_named:
        return list(sources.file.not_understood)
    names = [one.name for one in SETTINGS]
    return [
        line
        for line in sources.file.not_understood
        if (any(find_misspelt([line.name], names)) if line.name else not is_enough or is_of_settings(line.text, names))
    ]


def _faults_of(
    sources: _Sources, lines: Sequence[Line], fields: Mapping[str, str], wanted: Iterable[Setting]
) -> Iterator[str]:
    """Lines that are not understood, and names that nearly are those of settings which nobody gave.

    What else file and environment hold is of others. A named file must not say its own wrongly, whoever else does.
    """
    asked = [one.name for one in wanted if one.attribute not in fields]
    if asked and (fault := sources.file.fault_of(lines)):
        yield fault
    own = _filled(sources.file.values) if sources.is_named else {}
    found = [*_misspelt(own, asked), *_misspelt(sources.values, asked)]
    yield from dict.fromkeys(found)


def _misspelt(values: Mapping[str, str], asked: Iterable[str]) -> Iterator[str]:
    return find_misspelt(values.keys() - {one.name for one in SETTINGS}, [name for name in asked if name not in values])


def validate(config: Config) -> Faulty:
    """Every fault of a configuration, in the order of the settings table; empty when it is usable.

    Each names its setting and the remedy, and shows no secret. Reads the certificate and CA files.
    """
    return tuple(find_faults(_by_name(config)))


def _by_name(config: Config) -> dict[str, str]:
    return {setting.name: getattr(config, setting.attribute) or "" for setting in SETTINGS}


def _read_sources(env_file: str | None) -> _Sources:
    environment = _filled(os.environ)
    if env_file is not None:
        named = read_env_file(Path(env_file), called=f"--env-file {env_file}")
        return _Sources(_beside(named.values, environment) | _filled(named.values), named, is_named=True)
    path = Path(".env")
    implicit = read_env_file(path, called=".env") if path.is_file() else EnvFile({})
    return _Sources(_filled(implicit.values) | environment, implicit, is_named=False)


def _beside(named: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """What of the environment a named file leaves: a blank there unsets, and its database is not to be another."""
    hidden = set(named)
    of_database = {one.name for one in _OF_DATABASE}
    if of_database & _filled(named).keys():
        hidden |= of_database
    return {name: value for name, value in environment.items() if name not in hidden}


def _filled(values: Mapping[str, str]) -> dict[str, str]:
    """Everything that holds something, settings and others; blank ones count as not given."""
    return {name: value.strip() for name, value in values.items() if value.strip()}
