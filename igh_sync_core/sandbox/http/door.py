"""The sandbox as an ASGI application: real HTTP in front of ``Sandbox.respond``."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from igh_sync_core.sandbox.http.control import Control
from igh_sync_core.sandbox.http.service import Sandbox
from igh_sync_core.sandbox.queries.routes import Request
from igh_sync_core.sandbox.replies import Reply

CHUNK = 1 << 20
"""Bytes handed to the server at a time, so that large pages flow instead of piling up."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Door:
    """Serves one sandbox, and beside it the controls of ``control``."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._control = Control(sandbox)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request; other kinds of connection are refused by returning."""
        if scope["type"] != "http":
            return
        request = _request(scope, await _body(receive))
        reply = await asyncio.to_thread(self._respond, request)
        if reply.delay_s:
            await asyncio.sleep(reply.delay_s)
        await _send(reply, send)

    def _respond(self, request: Request) -> Reply:
        return self._control.respond(request) or self._sandbox.respond(request)


def _request(scope: Message, body: bytes) -> Request:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    raw = scope["raw_path"].decode("latin-1")
    query = scope["query_string"].decode("latin-1")
    url = f"{scope['scheme']}://{headers.get('host', '')}{raw}"
    return Request.of(scope["method"], f"{url}?{query}" if query else url, headers, body)


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _send(reply: Reply, send: Send) -> None:
    """Send *reply*; a cut one stops early, whereupon the server closes the connection."""
    headers = reply.headers | {"Content-Length": str(len(reply.body))}
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": encoded})
    whole = reply.cut_after is None
    body = memoryview(reply.body[: reply.cut_after])
    for start in range(0, len(body), CHUNK):
        await send({"type": "http.response.body", "body": bytes(body[start : start + CHUNK]), "more_body": True})
    if whole:
        await send({"type": "http.response.body", "body": b""})
