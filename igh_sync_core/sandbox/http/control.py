"""The control door: a parent process changes a running sandbox through ``/sandbox/…`` on the same port.

``POST /sandbox/change`` ``{"changed": 0.01, "deleted": 0.002, "inserted": 0.001, "entities": null}`` — shares of each
table's rows; ``POST /sandbox/latency`` ``{"seconds": 0.05}``; ``GET /sandbox/requests`` for counters. Loopback only,
without login.
"""

from collections import Counter
from collections.abc import Sequence
from random import Random

from msgspec import DecodeError, Struct, ValidationError, json

from igh_sync_core.sandbox.data.chance import seeded
from igh_sync_core.sandbox.data.organisation import Organisation
from igh_sync_core.sandbox.data.schema import Kind, Shape
from igh_sync_core.sandbox.data.values import invent
from igh_sync_core.sandbox.http.service import Sandbox
from igh_sync_core.sandbox.queries.routes import Request
from igh_sync_core.sandbox.replies import Reply


class Change(Struct):
    """Shares (0 to 1) of rows to change, delete and insert; of all tables that take changes, or of those named."""

    changed: float = 0.0
    deleted: float = 0.0
    inserted: float = 0.0
    entities: list[str] | None = None
    seed: int = 1


class Latency(Struct):
    """Seconds to add to each reply."""

    seconds: float = 0.0


_CHANGE = json.Decoder(Change)
_LATENCY = json.Decoder(Latency)


class Control:
    """Carries out what the control door is asked."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def respond(self, request: Request) -> Reply | None:
        """The answer, or None when the request is for somebody else."""
        if not request.path.startswith("/sandbox/"):
            return None
        try:
            return _json(self._act(request.method, request.path.removeprefix("/sandbox/"), request.body))
        except (DecodeError, ValidationError, KeyError) as exc:
            return _json({"error": str(exc)}, status=400)

    def _act(self, method: str, name: str, body: bytes) -> dict[str, object]:
        match method, name:
            case "POST", "change":
                return dict(change_rows(self._sandbox.organisation, _CHANGE.decode(body)))
            case "POST", "latency":
                self._sandbox.latency_s = _LATENCY.decode(body).seconds
                return {"seconds": self._sandbox.latency_s}
            case "GET", "requests":
                return self._counters()
            case _:
                raise KeyError(name)

    def _counters(self) -> dict[str, object]:
        log = list(self._sandbox.log)
        statuses = Counter(str(arrival.status) for arrival in log)
        paths = Counter(arrival.path.rpartition("/")[2] for arrival in log)
        return {
            "requests": len(log),
            "bytes": self._sandbox.bytes_sent,
            "tokens": self._sandbox.login.issued,
            "statuses": dict(statuses),
            "paths": dict(paths),
        }


def _json(content: object, *, status: int = 200) -> Reply:
    return Reply(status, json.encode(content), {"Content-Type": "application/json"})


def change_rows(organisation: Organisation, change: Change) -> Counter[str]:
    """Change, delete and insert shares of rows, at random but the same for the same *change*.

    N:N rows are never changed, as in Dataverse; deletions leave out what other rows point at, so no reference dangles.

    Returns:
        How many rows were ``changed``, ``deleted`` and ``inserted``.
    """
    random = seeded(change.seed)
    done: Counter[str] = Counter()
    targets = {
        target for table in organisation.tables.values() for column in table.shape.columns for target in column.targets
    }
    for name, table in organisation.tables.items():
        if table.shape.mirrors or name == "organization" or name not in (change.entities or [name]):
            continue
        with organisation.lock:
            keys = organisation.keys(name)
            if name not in targets:
                done["deleted"] += _delete(organisation, name, _draw(keys, change.deleted, random))
            if not table.shape.is_intersect:
                done["changed"] += _update(
                    organisation, name, _draw(organisation.keys(name), change.changed, random), random
                )
                done["inserted"] += _insert(organisation, table.shape, round(len(keys) * change.inserted), random)
    return done


def _draw(keys: Sequence[str], share: float, random: Random) -> list[str]:
    return random.sample(keys, min(len(keys), round(len(keys) * share)))


def _delete(organisation: Organisation, name: str, keys: Sequence[str]) -> int:
    for key in keys:
        organisation.delete(name, key)
    return len(keys)


def _update(organisation: Organisation, name: str, keys: Sequence[str], random: Random) -> int:
    shape = organisation.tables[name].shape
    columns = [
        column for column in shape.columns if column.kind in {Kind.STRING, Kind.INTEGER, Kind.PICKLIST, Kind.DATE}
    ]
    columns = [column for column in columns if column.fixed is None and not column.declared_by]
    for key in keys:
        chosen = random.sample(columns, min(2, len(columns)))
        organisation.update(name, key, {column.name: invent(column, random) for column in chosen})
    return len(keys)


def _insert(organisation: Organisation, shape: Shape, count: int, random: Random) -> int:
    apart = {shape.key, shape.csdl_key, "versionnumber", "modifiedon", "createdon"}
    columns = [column for column in shape.columns if not column.targets and column.name not in apart]
    for _ in range(count):
        organisation.insert(shape.logical_name, {column.name: invent(column, random) for column in columns})
    return count
