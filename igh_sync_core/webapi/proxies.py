"""Proxies as the environment names them: judged before anything is sent, and never asked for this machine itself."""

import os
import ssl
from collections.abc import Mapping
from importlib.util import find_spec
from urllib.request import getproxies

import httpx

from igh_sync_core.errors import ConfigError

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
"""Hosts to which no proxy leads."""

_SCHEMES = ("http", "https", "all")
_SOCKS = {"socks5", "socks5h"}
_LAST_PORT = 65_535
_KINDS = {"http", "https"} | _SOCKS


def direct() -> dict[str, None]:
    """What httpx takes as mounts, so that it asks for this machine without a proxy."""
    return {f"all://[{host}]" if ":" in host else f"all://{host}": None for host in THIS_MACHINE}


def check() -> None:
    """See that those in use can be used; sends nothing.

    Raises:
        ConfigError: Names each variable at fault with a remedy, and no address, which may hold a password.
    """
    named = getproxies()
    if not named or "*" in _exempt(named):
        return
    faults = [f"{_variable(scheme)} {fault}" for scheme in _SCHEMES if (fault := _fault(named.get(scheme, "")))]
    if not faults and not _is_accepted():  # the addresses are well, so that only the exemptions are left
        faults = [f"{_variable('no')} holds what is no host; write it like localhost,10.0.0.7,.corp.example"]
    if faults:
        raise ConfigError(faults)


def exempt_this_machine() -> None:
    """Let whoever in this process or its children heeds the environment ask for this machine without a proxy, too."""
    named = getproxies()
    if not any(named.get(scheme) for scheme in _SCHEMES):
        return
    exempt = _exempt(named)
    missing = [host for host in THIS_MACHINE if host not in exempt]
    if missing and "*" not in exempt:
        # Where both are set, it wins over NO_PROXY.
        os.environ["no_proxy"] = ",".join(filter(None, [named.get("no", ""), *missing]))


def _exempt(named: Mapping[str, str]) -> list[str]:
    """Hosts to which none leads, as the environment has them; ``*`` by itself is all of them, ``*.corp`` is not."""
    return [host.strip() for host in named.get("no", "").split(",")]


def _fault(address: str) -> str:
    if not address:
        return ""
    try:
        proxy = httpx.URL(address if "://" in address else f"http://{address}")
    except httpx.InvalidURL:
        proxy = httpx.URL()
    if not proxy.host or (proxy.port or 0) > _LAST_PORT:
        return "is no address of a proxy; write it like http://host:3128, or unset it"
    if proxy.scheme not in _KINDS:
        return "names a proxy of an unknown kind; it must begin with http://, https://, socks5:// or socks5h://"
    if proxy.scheme in _SOCKS and find_spec("socksio") is None:
        return "names a SOCKS proxy, which needs a package more; pip install 'httpx[socks]', or unset it"
    return ""


def _is_accepted() -> bool:
    try:
        httpx.Client(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)).close()
    except (httpx.InvalidURL, ValueError):
        return False
    return True


def _variable(scheme: str) -> str:
    """The environment's own spelling; small letters win where both are set."""
    name = f"{scheme}_proxy"
    spelt = [each for each in (name, name.upper()) if os.environ.get(each)]
    return spelt[0] if spelt else f"the system's {scheme} proxy"
