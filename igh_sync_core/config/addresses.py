"""Pure facts about addresses: origin, API root, and whether an address lies under another.

Used before the network (settings) and on it (tokens and next links go to one origin only).
"""

import re
from functools import lru_cache
from urllib.parse import SplitResult, unquote, urlsplit

LATEST_API = "/api/data/v9.2/"

_API_PATH = re.compile(r"/api/data/v\d+\.\d+/?")
_DEFAULT_PORTS = {"https": 443, "http": 80}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def origin_of(url: str) -> str:
    """Scheme, host and port in lower case, the port only where it is not the scheme's own; "" for no address at all."""
    return _origin_of(_before_query(url))


@lru_cache(maxsize=256)
def _origin_of(address: str) -> str:
    parts = _split(address)
    host = parts.hostname
    if not parts.scheme or host is None:
        return ""
    bracketed = f"[{host}]" if ":" in host else host
    port = _port(parts)
    return f"{parts.scheme}://{bracketed}" + (f":{port}" if port and port != _DEFAULT_PORTS.get(parts.scheme) else "")


def api_root_of(url: str) -> str:
    """API root with its closing slash; the latest known version where the address names none."""
    path = _split(url).path
    return origin_of(url) + (path.rstrip("/") + "/" if _API_PATH.fullmatch(path) else LATEST_API)


def is_under(url: str, root: str) -> bool:
    """Whether an address has the root's origin and stays below its path, with no way up (``..``, encoded or not)."""
    return _is_under(_before_query(url), root)


@lru_cache(maxsize=256)
def _is_under(url: str, root: str) -> bool:
    if not root or origin_of(url) != origin_of(root) or "@" in _split(url).netloc:
        return False
    path = _split(url).path
    steps = re.split(r"[/\\]", unquote(path))
    return path.startswith(_split(root).path) and not {".", ".."} & set(steps)


def is_loopback(url: str) -> bool:
    """Whether an address stays on this machine."""
    return _split(url).hostname in _LOOPBACK


def find_url_fault(url: str, *, paths: str) -> str:
    """What is wrong with an address, as a remedy; "" when nothing is.

    Args:
        url: Address given by a user.
        paths: Regular expression that its path must match as a whole.
    """
    parts = _split(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or _port(parts) is None:
        return "is no address; write it like https://host"
    if parts.scheme == "http" and not is_loopback(url):
        return "must begin with https:// (plain http is for this machine only)"
    if "@" in parts.netloc:
        return "must not hold a user or password"
    if "?" in url or "#" in url:
        return "must end before any ? or #"
    if not re.fullmatch(paths, parts.path):
        return "has a path that does not belong there"
    return ""


def find_api_url_fault(url: str) -> str:
    """What is wrong with the address of an environment; "" when nothing is."""
    return find_url_fault(url, paths=rf"/?|{_API_PATH.pattern}")


def _before_query(url: str) -> str:
    """All that tells where an address leads: the same few come again and again, with queries that can be long."""
    return url.partition("?")[0]


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # an unclosed bracket of an IPv6 host
        return SplitResult("", "", "", "", "")


def _port(parts: SplitResult) -> int | None:
    """Port in use, 0 where it is the scheme's own; None where it is no number."""
    try:
        return parts.port or 0
    except ValueError:
        return None
