"""What is wrong with the settings: each fault names the setting and the remedy, and never a secret."""

import re
import ssl
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from urllib.parse import urlsplit

import psycopg
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from igh_sync_core.config.addresses import find_api_url_fault, find_url_fault
from igh_sync_core.config.certificate import describe_source, is_pem, read_certificate

_GUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_DOMAIN = r"([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,}"
_ALIKE = 0.94
"""Of two names: one letter too many or too few; in those of 17 letters or more also a wrong one, or two exchanged."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TENANT = re.compile(f"{_GUID}|{_DOMAIN}")


def find_faults(values: Mapping[str, str]) -> Iterator[str]:
    """Every fault of the settings, in the order of the settings table.

    Args:
        values: Text of every setting by its environment name; "" for one that is not set.
    """
    for find in (_api_url, _client_id, _credentials, _scope, _tenant, _authority, _certificate, _ca_file):
        yield from find(values)
    yield from _control_characters({name: text for name, text in values.items() if name.startswith("DATAVERSE_")})
    yield from find_database_faults(values)


def find_database_faults(values: Mapping[str, str]) -> Iterator[str]:
    """Those of the settings that say where the copy is; of *values* no others need be there."""
    url, path = values["POSTGRES_CONNECTION_STRING"], values["SQLITE_DB_PATH"]
    if not url and not path:
        yield "SQLITE_DB_PATH is missing; set it to a file, or POSTGRES_CONNECTION_STRING to use PostgreSQL"
    elif not url and path == ":memory:":
        yield "SQLITE_DB_PATH :memory: is no file; give the path of one, since a copy lives on from run to run"
    elif url and not _is_postgres(url):
        yield (
            "POSTGRES_CONNECTION_STRING is malformed; write it like postgresql://user:password@host:5432/database, "
            "with @ in the password as %40, / as %2F and ? as %3F"
        )
    elif url:
        yield from _unknown_parameters(url)
    yield from _control_characters({"SQLITE_DB_PATH": path, "POSTGRES_CONNECTION_STRING": url})


def _control_characters(values: Mapping[str, str]) -> Iterator[str]:
    r"""In a file, a Windows path in double quotes ("C:\new\table.db") or a quote closed lines later; else as pasted."""
    for name, text in values.items():
        if not _is_one_line(text):
            yield (
                f"{name} holds a line break, a tab or another such sign; take it out. In a file of settings, a "
                "backslash in double quotes makes one: write the value without quotes, and close every quote you open"
            )


def _is_one_line(text: str) -> bool:
    """Whether it is, or PEM text; the rest may have swallowed a secret of the next line, and is not shown."""
    return is_pem(text) or not _CONTROL.search(text)


def find_misspelt(names: Collection[str], missing: Collection[str]) -> Iterator[str]:
    """A fault for every name that nearly is one of the settings which are missing, in alphabetical order.

    Lower case for upper and dashes for underscores are misspelt, too.

    Args:
        names: What is set beside the settings; most of it is other programs'.
        missing: Settings that are not given.
    """
    for name in sorted(names):
        likened = re.sub(r"[-.]", "_", name.upper())
        family = [one for one in missing if likened.startswith(one.partition("_")[0] + "_")]
        # Nearly all names have none, and would be taken apart for nothing.
        for meant in get_close_matches(likened, family, n=1, cutoff=_ALIKE) if family else ():
            yield f"{name} is no setting; did you mean {meant}?"


def is_of_settings(line: str, names: Collection[str]) -> bool:
    """Whether a line of a file that anybody may have written speaks of ours, rightly spelt or not.

    Args:
        line: Its text, in whatever language.
        names: All settings.
    """
    upper = line.upper()
    likened = re.sub("[-. ]", "_", upper)
    families = {name.partition("_")[0] for name in names}  # of which one begins the addresses of databases, too
    return any(name in likened for name in names) or any(family in upper for family in families)


def _api_url(values: Mapping[str, str]) -> Iterator[str]:
    url = values["DATAVERSE_API_URL"]
    if not url:
        yield "DATAVERSE_API_URL is missing; set it to the environment's address, such as https://org.crm.dynamics.com"
    elif fault := find_api_url_fault(url):
        yield f"DATAVERSE_API_URL {fault}, such as https://org.crm.dynamics.com or https://org.crm.dynamics.com/api/data/v9.2"


def _client_id(values: Mapping[str, str]) -> Iterator[str]:
    if not values["DATAVERSE_CLIENT_ID"]:
        yield "DATAVERSE_CLIENT_ID is missing; set it to the application (client) id of the app registration"


def _credentials(values: Mapping[str, str]) -> Iterator[str]:
    secret, certificate = values["DATAVERSE_CLIENT_SECRET"], values["DATAVERSE_CERTIFICATE_FILE"]
    if not secret and not certificate:
        yield "DATAVERSE_CLIENT_SECRET is missing; set it, or DATAVERSE_CERTIFICATE_FILE to log in with a certificate"
    elif secret and certificate:
        yield "DATAVERSE_CLIENT_SECRET and DATAVERSE_CERTIFICATE_FILE are both set; unset the one not meant"


def _scope(values: Mapping[str, str]) -> Iterator[str]:
    if (scope := values["DATAVERSE_SCOPE"]) and not scope.endswith("/.default"):
        yield "DATAVERSE_SCOPE must end with /.default; unset it to have the right one made from the address"


def _tenant(values: Mapping[str, str]) -> Iterator[str]:
    if (tenant := values["DATAVERSE_TENANT_ID"]) and not _TENANT.fullmatch(tenant):
        yield "DATAVERSE_TENANT_ID is neither a GUID nor a domain; unset it to have it asked from the environment"


def _authority(values: Mapping[str, str]) -> Iterator[str]:
    authority, tenant = values["DATAVERSE_AUTHORITY"], values["DATAVERSE_TENANT_ID"]
    if not authority:
        return
    if not authority.startswith("https://"):
        yield "DATAVERSE_AUTHORITY must begin with https://, such as https://login.microsoftonline.com"
    elif fault := find_url_fault(authority, paths=f"/?|/({_TENANT.pattern})/?"):
        yield f"DATAVERSE_AUTHORITY {fault}, such as https://login.microsoftonline.com or the same with /<tenant>"
    elif tenant and urlsplit(authority).path.strip("/").lower() not in {"", tenant.lower()}:
        yield "DATAVERSE_AUTHORITY names another tenant than DATAVERSE_TENANT_ID; unset one of them"


def _certificate(values: Mapping[str, str]) -> Iterator[str]:
    path, password = values["DATAVERSE_CERTIFICATE_FILE"], values["DATAVERSE_CERTIFICATE_PASSWORD"]
    if password and not path:
        yield "DATAVERSE_CERTIFICATE_PASSWORD is set without DATAVERSE_CERTIFICATE_FILE; set both or neither"
    if path and _is_one_line(path):
        try:
            read_certificate(path, password or None)
        except ValueError as exc:
            yield f"DATAVERSE_CERTIFICATE_FILE {describe_source(path)} {exc}"


def _ca_file(values: Mapping[str, str]) -> Iterator[str]:
    path = values["DATAVERSE_CA_FILE"]
    if path and _is_one_line(path):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
        except OSError as exc:  # ssl.SSLError is one
            why = "holds no PEM certificate" if isinstance(exc, ssl.SSLError) else f"cannot be read ({exc.strerror})"
            yield f"DATAVERSE_CA_FILE {path} {why}; give a PEM file of certificate authorities"


def _unknown_parameters(url: str) -> Iterator[str]:
    """Those that are none of libpq's: the driver would refuse them late, or take them for settings of its own."""
    for name in sorted(make_url(url).query.keys() - _parameters()):
        yield (
            f"POSTGRES_CONNECTION_STRING: {name} is no parameter of a PostgreSQL connection; "
            "settings go into options, such as ?options=-csearch_path%3Dbronze for a schema"
        )


def _parameters() -> set[str]:
    return {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}


def _is_postgres(url: str) -> bool:
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        return False
    # A password with a bare "@" or "/" ends up in the host, and from there in messages.
    is_clean = not set(parts.host or "") & set("@/?#") and "@" not in (parts.database or "")
    return is_clean and not _is_cut(url) and parts.drivername.split("+")[0] in {"postgresql", "postgres"}


def _is_cut(url: str) -> bool:
    """Whether a password with a bare "?" was taken for parameters, whose names are told."""
    query = url.partition("?")[2]
    return "@" in query and not {part.partition("=")[0] for part in query.split("&")} <= _parameters()
