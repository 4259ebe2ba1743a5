"""An ordinary ASGI app, for real servers. The last segment of the path decides:

echo      JSON: method, path, query, length and sha256 of the body, pid
stream    ?n=3&pause=0.2: lines, one by one; sse: the same as events
ws        a WebSocket: every message comes back; "close" closes it with code 4000
"""

import asyncio
import hashlib
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    last = scope["path"].rpartition("/")[2]
    if scope["type"] == "websocket":
        await websocket(receive, send)
    elif last == "echo":
        body = json.dumps(await echo(scope, receive)).encode()
        await head(send, 200, b"application/json", (b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.body", "body": body})
    elif last in ("stream", "sse"):
        await stream(scope, send, sse=last == "sse")
    else:
        await head(send, 404, b"text/plain", (b"content-length", b"5"))
        await send({"type": "http.response.body", "body": b"none\n"})


async def lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            print("goodbye", flush=True)
            return


async def head(send: Send, status: int, kind: bytes, *more: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), *more]})


async def echo(scope: Scope, receive: Receive) -> dict[str, Any]:
    length, digest, more = 0, hashlib.sha256(), True
    while more:
        message = await receive()
        piece, more = message.get("body", b""), message.get("more_body", False)
        length += len(piece)
        digest.update(piece)
    return {
        "method": scope["method"],
        "path": scope["path"],
        "query": scope["query_string"].decode(),
        "length": length,
        "sha256": digest.hexdigest(),
        "pid": os.getpid(),
    }


async def stream(scope: Scope, send: Send, *, sse: bool) -> None:
    asked = parse_qs(scope["query_string"].decode())
    await head(send, 200, b"text/event-stream" if sse else b"text/plain")
    form = b"data: line %d\n\n" if sse else b"line %d\n"
    for n in range(int(asked["n"][0])):
        if n:
            await asyncio.sleep(float(asked["pause"][0]))
        await send({"type": "http.response.body", "body": form % n, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def websocket(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif message["type"] == "websocket.disconnect":
            return
        elif message.get("text") == "close":
            return await send({"type": "websocket.close", "code": 4000, "reason": "as you wish"})
        else:
            await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})
