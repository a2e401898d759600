"""Faults to inject: what the network, the gateway or a busy server does to a reply."""

from dataclasses import dataclass
from http import HTTPStatus
from threading import Lock
from typing import Literal

from igh_sync_core.sandbox.replies import Refusal, Reply

Kind = Literal[
    "throttle", "status", "slow", "cut", "not_json", "missing_value", "loop", "foreign_link", "duplicates", "fewer"
]  # fmt: skip

THROTTLED = {
    "0x80072322": "Number of requests exceeded the limit of 6000 over time window of 300 seconds.",
    "0x80072321": (
        "Combined execution time of incoming requests exceeded limit of 1,200,000 milliseconds over time window of "
        "300 seconds. Decrease number of concurrent requests or reduce the duration of requests and try again later."
    ),
    "0x80072326": "Number of concurrent requests exceeded the limit of 52.",
}
GATEWAY = "<html><head><title>{0} {1}</title></head><body><center><h1>{0} {1}</h1></center></body></html>"
REASONS = {502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Time-out"}


@dataclass(slots=True, kw_only=True)
class Fault:
    """Something that goes wrong with requests.

    Attributes:
        kind: ``throttle`` (429), ``status`` (500 is a SQL timeout in JSON, other codes a gateway's HTML), ``slow``
            first byte, ``cut`` body, ``not_json`` with 200, ``missing_value``, ``loop`` and ``foreign_link`` (next
            links), ``duplicates`` (the first row of a page comes twice), ``fewer`` rows than asked.
        match: Part of path and query; "" matches all.
        times: Requests to spoil.
        skip: Matching requests to leave alone first.
        status: For ``status``.
        code: For ``throttle``; one of three.
        retry_after_s: For ``throttle`` and 503; None sends no such header.
        delay_s: For ``slow``.
    """

    kind: Kind
    match: str = ""
    times: int = 1
    skip: int = 0
    status: int = 503
    code: str = "0x80072322"
    retry_after_s: int | None = 1
    delay_s: float = 1.0


class FaultPlan:
    """The faults still to come; safe to use from several threads."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = Lock()

    def add(self, fault: Fault) -> None:
        """Queue *fault*; it is counted down by the requests it matches."""
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._faults.clear()

    def take(self, target: str) -> Fault | None:
        """The fault for a request, or None; *target* is its path and query."""
        with self._lock:
            for fault in self._faults:
                if fault.match not in target or fault.times <= 0:
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None


def replacement(fault: Fault) -> Reply | None:
    """The reply that *fault* gives in place of an answer, or None when it spoils the answer instead."""
    retry = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
    if fault.kind == "throttle":
        reply = Refusal(429, fault.code, THROTTLED[fault.code]).reply(is_annotated=False)
        reply.headers |= retry
        return reply
    if fault.kind == "not_json":
        return Reply(200, b"<html><body>Please sign in</body></html>", {"Content-Type": "text/html"})
    if fault.kind != "status":
        return None
    if fault.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return Refusal(500, "0x80044151", "SQL timeout expired.").reply(is_annotated=False)
    body = GATEWAY.format(fault.status, REASONS.get(fault.status, "Error")).encode()
    named = retry if fault.status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Reply(fault.status, body, {"Content-Type": "text/html", **named})


def spoil(fault: Fault, reply: Reply) -> None:
    """Delay or cut *reply*."""
    if fault.kind == "slow":
        reply.delay_s += fault.delay_s
    if fault.kind == "cut":
        reply.cut_after = len(reply.body) // 2


def spoil_rows(fault: Fault, rows: list[bytes]) -> list[bytes]:
    """Rows of a page, the first one twice when that is the fault."""
    return [*rows, rows[0]] if fault.kind == "duplicates" and rows else rows


def spoil_link(fault: Fault, next_link: str | None, *, own: str) -> str | None:
    """A next link that leads back to its own page, or to a host that is not ours."""
    if fault.kind == "loop":
        return own
    if fault.kind == "foreign_link":
        path = own.split("/api/data/", 1)[1]
        return f"https://collector.example.net/api/data/{path}"
    return next_link
