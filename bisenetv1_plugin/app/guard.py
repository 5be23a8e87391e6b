"""What every request has to pass before a server answers it: ASGI, whatever answers behind it."""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import contextmanager, suppress
from typing import Any, Awaitable, Callable, Dict, Iterable, Iterator

from bisenetv1_plugin.app.limits import Uploads
from bisenetv1_plugin.errors import InputError

# Of ASGI
Message = Dict[str, Any]
Scope = Dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Of a request that is no upload.
_SHORT = 1 << 16
# Of uploads at a time, and for how long each.
_UPLOADS, _UPLOAD_SECONDS = 32, 120
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^:/@\[\]\s]+)(?::\d{1,5})?", re.IGNORECASE)
_SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"SAMEORIGIN"),
)


def names_of(host: str, allowed: Iterable[str] = ()) -> frozenset[str]:
    """The names by which a server that listens on `host` may be called; the address of a connection is one more.

    Args:
        host (str): as `server.listen` takes it.
        allowed (list[str]): more names, of a web server that stands before it.
    """
    names = {host, *allowed}
    if host in ("0.0.0.0", "::"):
        own = socket.gethostname()
        names |= {own, socket.getfqdn(), f"{own}.local", *_LOOPBACK}
    elif host in _LOOPBACK or host.startswith("127."):
        names |= set(_LOOPBACK)
    return frozenset(name.lower() for name in names)


class Refused(Exception):
    """A request that is not answered: an HTTP status and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Guard:
    """Lets through what is asked under one of the server's own names, is short enough and has room.

    A page elsewhere whose name leads here (DNS rebinding) gives itself away by `Host`, one that only sends by `Origin`.
    Starlette's TrustedHostMiddleware knows a fixed list of hosts, and no origins.

    Args:
        app: ASGI, which answers.
        names (frozenset[str]): see `names_of`.
        allowed (list[str]): those of them that may be an origin though `Host` is another.
        uploads (Uploads): what must have room.
        max_bytes (int): of an upload.
        is_upload (callable): whether a path of the server takes uploads.
    """

    def __init__(
        self,
        app: Application,
        names: frozenset[str],
        allowed: Iterable[str],
        uploads: Uploads,
        max_bytes: int,
        is_upload: Callable[[str], bool],
    ) -> None:
        self._app, self._names, self._uploads = app, names, uploads
        self._allowed = frozenset(name.lower() for name in allowed)
        self._max_bytes, self._is_upload = max_bytes, is_upload
        self._coming: list[int] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":  # no server here speaks through websockets
            return await send({"type": "websocket.close", "code": 1008})
        answer, is_read = _Answer(send), False
        try:
            self._check_names(scope)
            length = self._length(scope)
            if scope["method"] == "POST":
                with self._room(scope, length) as room:
                    if room is not None:
                        await asyncio.to_thread(self._uploads.check_room, room)
                    is_read = True
                    await self._app(scope, _in_time(receive), answer)
            else:
                await self._app(scope, receive, answer)
        except Refused as error:
            if scope["method"] == "POST" and not is_read:
                await _read_out(receive)
            await answer.instead(error.status, str(error))
        except InputError as error:
            await answer.instead(507, str(error))
        except Exception:  # of the server behind: a request that it was not made for
            if answer.begun:
                raise
        await answer.instead(400, "This request cannot be answered.")

    @contextmanager
    def _room(self, scope: Scope, length: int) -> Iterator[int | None]:
        """Bytes of the uploads that are under way, with this one; None where it is none."""
        if not self._is_upload(scope["path"]):
            yield None
            return
        if len(self._coming) >= _UPLOADS:
            raise Refused(503, f"{_UPLOADS} files are being uploaded; try again.")
        self._coming.append(length)
        try:
            yield sum(self._coming)
        finally:
            self._coming.remove(length)

    def _check_names(self, scope: Scope) -> None:
        headers = scope["headers"]
        hosts = [value.decode("latin-1").lower() for key, value in headers if key == b"host"]
        # Of several servers on the way, each adds the name that it was asked by.
        given = b",".join(value for key, value in headers if key == b"x-forwarded-host").decode("latin-1").lower()
        forwarded = [host.strip() for host in given.split(",")] if given else []
        here = (scope.get("server") or ("",))[0]
        names = {*self._names, here} if here else self._names
        if len(hosts) != 1 or not {_name(host) for host in (*hosts, *forwarded)} <= names:
            raise Refused(421, "This server has no such name; if it should, start it with --allowed_hosts NAME.")
        for key, value in headers:
            if key == b"origin":
                origin = value.decode("latin-1").lower().partition("://")[2]
                if origin != hosts[0] and _name(origin) not in self._allowed:
                    raise Refused(
                        403,
                        "Pages of other servers are not answered; if this server has that name as well, start it with "
                        "--allowed_hosts NAME.",
                    )

    def _length(self, scope: Scope) -> int:
        """Bytes of the request's body."""
        headers = dict(scope["headers"])
        given = headers.get(b"content-length", b"0")
        most = self._max_bytes if self._is_upload(scope["path"]) else _SHORT
        if b"transfer-encoding" in headers or not given.isdigit():
            raise Refused(411, "A request has to say how many bytes it has.")
        if len(given) > 18 or int(given) > most:
            raise Refused(413, f"More than {most} bytes are not taken.")
        return int(given)


class _Answer:
    """`send` of ASGI, with headers that keep a browser from taking an answer for something else.

    An answer of status 500 is not sent: it is Starlette's for an exception, and no sentence.
    """

    def __init__(self, send: Send) -> None:
        self._send, self.begun = send, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] != 500:
            self.begun = True
            message = {**message, "headers": [*message.get("headers", ()), *_SAFE]}
        if self.begun:
            await self._send(message)

    async def instead(self, status: int, sentence: str) -> None:
        """Answer with a sentence, where there is no answer yet."""
        if not self.begun:
            content = sentence.encode()
            # Closed: who was refused may have sent more than is read.
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
            headers.append((b"content-length", str(len(content)).encode()))
            await self({"type": "http.response.start", "status": status, "headers": headers})
            await self({"type": "http.response.body", "body": content})


async def _read_out(receive: Receive) -> None:
    """Read what a refused request is still sending, a second long: who is cut off meanwhile does not hear why."""

    async def rest() -> None:
        while (await receive()).get("more_body"):
            pass

    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(rest(), 1)


def _in_time(receive: Receive) -> Receive:
    """`receive` of ASGI, for a body that has to come within its time."""
    end, whole = asyncio.get_running_loop().time() + _UPLOAD_SECONDS, False

    async def receive_in_time() -> Message:
        nonlocal whole
        if whole:
            return await receive()
        left = end - asyncio.get_running_loop().time()
        message = None
        with suppress(asyncio.TimeoutError):
            message = await asyncio.wait_for(receive(), max(left, 0))
        if message is None:
            raise Refused(408, f"An upload may take {_UPLOAD_SECONDS} seconds.")
        whole = not message.get("more_body", False)
        return message

    return receive_in_time


def _name(host: str) -> str | None:
    """The name in `NAME:PORT`, or None where it is none."""
    match = _HOST.fullmatch(host)
    return match["name"].strip("[]") if match else None
