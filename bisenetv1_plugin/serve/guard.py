"""Access checks and limits for every request, as an ASGI wrapper around any application."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import re
import socket
from contextlib import contextmanager, suppress
from typing import Any, Awaitable, Callable, Container, Iterable, Iterator, MutableMapping

from bisenetv1_plugin.errors import InputError

# ASGI's types
Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Limits of a request without a file.
_MAX_BYTES, _MAX_SECONDS = 1 << 16, 120
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^:/@\[\]\s]+)(?::\d{1,5})?", re.IGNORECASE)
_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"SAMEORIGIN"),
)


def names_of(host: str, allowed: Iterable[str] = ()) -> frozenset[str]:
    """The names that requests to a server on `host` may use; a `Guard` adds the address of the connection.

    Args:
        host: as in `server.listen`.
        allowed: more names, such as that of a web server in front.
    """
    names = {host, *allowed}
    if host in ("0.0.0.0", "::"):
        own = socket.gethostname()
        names |= {own, socket.getfqdn(), f"{own}.local", *_LOOPBACK}
    elif host in _LOOPBACK or host.startswith("127."):
        names |= set(_LOOPBACK)
    return frozenset(name.lower() for name in names)


class Refusal(Exception):
    """A refused request: an HTTP status, a sentence, and after how many seconds to try again, if that can help."""

    def __init__(self, status: int, sentence: str, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers: list[tuple[bytes, bytes]] = []
        if retry_after is not None:
            self.headers.append((b"retry-after", str(retry_after).encode()))
        if status == 401:  # `Basic` makes browsers ask for a password
            self.headers += [(b"www-authenticate", b"Bearer"), (b"www-authenticate", b'Basic realm="bisenetv1"')]


class UploadSlots:
    """Limits of the uploads to a path, and a count of those in progress.

    Args:
        max_bytes: size of a request.
        count: requests at a time, from the first byte of the request to the last byte of the answer.
        seconds: time for a request to arrive.
        check_room: called in a thread with the bytes of all uploads in progress; raises an InputError if there is no
            room for them.
    """

    def __init__(
        self,
        max_bytes: int,
        count: int,
        seconds: float = 120,
        check_room: Callable[[int], object] | None = None,
    ) -> None:
        self.max_bytes, self.count, self.seconds, self.check_room = max_bytes, count, seconds, check_room
        self._lengths: list[int] = []

    @property
    def in_progress(self) -> int:
        """The number of uploads in progress."""
        return len(self._lengths)

    @contextmanager
    def slot(self, length: int) -> Iterator[int]:
        """Take a slot for an upload of `length` bytes; yields the bytes of all uploads in progress.

        Raises:
            Refusal: no slot is free.
        """
        if len(self._lengths) >= self.count:
            raise Refusal(503, f"{self.count} files are being uploaded; try again.", retry_after=1)
        self._lengths.append(length)
        try:
            yield sum(self._lengths)
        finally:
            self._lengths.remove(length)


class Guard:
    """Passes on requests that use a name of this server, have the token, are short enough and find a free slot.

    `Host` shows a page of another site whose name was pointed at this server (DNS rebinding). `Origin` shows a page of
    another site that sends requests here. Starlette's TrustedHostMiddleware has a fixed list of hosts, and no origins.

    Args:
        app: the ASGI application.
        names: see `names_of`.
        allowed: the names that may also be an `Origin` when `Host` is a different name.
        uploads: returns the `UploadSlots` of a path, or None for a path that takes no files.
        token: what every request must send, as a bearer token or as the password of any user.
        open_paths: paths that need no token.
        failure: status and sentence of the answer when the application raises.

    Attributes:
        ending (bool): whether the server is stopping; every answer then closes its connection.
    """

    def __init__(
        self,
        app: Application,
        names: frozenset[str],
        allowed: Iterable[str],
        uploads: Callable[[str], UploadSlots | None],
        token: str | None = None,
        open_paths: Container[str] = (),
        failure: tuple[int, str] = (400, "This request cannot be answered."),
    ) -> None:
        self._app, self._names, self._uploads, self._failure = app, names, uploads, failure
        self._allowed = frozenset(name.lower() for name in allowed)
        self._token, self._open_paths = token, open_paths
        self.ending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":  # no server here uses websockets
            return await send({"type": "websocket.close", "code": 1008})
        answer, is_read = _Answer(send, self), False
        try:
            self._check_names(scope)
            self._check_token(scope)
            uploads = self._uploads(scope["path"])
            length = _length(scope, uploads.max_bytes if uploads else _MAX_BYTES)
            if scope["method"] == "POST" and uploads:
                with uploads.slot(length) as total:
                    if uploads.check_room:
                        await asyncio.to_thread(uploads.check_room, total)
                    is_read = True
                    await self._app(scope, _with_deadline(receive, uploads.seconds), answer)
            elif scope["method"] == "POST":
                is_read = True
                await self._app(scope, _with_deadline(receive, _MAX_SECONDS), answer)
            else:
                await self._app(scope, receive, answer)
        except Refusal as error:
            if scope["method"] == "POST" and not is_read:
                await _drain(receive)
            await answer.send_sentence(error.status, str(error), error.headers)
        except InputError as error:
            await answer.send_sentence(507, str(error))
        except Exception:  # the application, such as Gradio, cannot handle this request
            if answer.begun:
                raise
        await answer.send_sentence(*self._failure)

    def _check_token(self, scope: Scope) -> None:
        if self._token is None or scope["path"] in self._open_paths:
            return
        values = [value for key, value in scope["headers"] if key == b"authorization"]
        if len(values) != 1 or not hmac.compare_digest(_token(values[0]), self._token.encode()):
            raise Refusal(401, "This server requires its token: send it as `Authorization: Bearer TOKEN`.")

    def _check_names(self, scope: Scope) -> None:
        headers = scope["headers"]
        hosts = [value.decode("latin-1").lower() for key, value in headers if key == b"host"]
        # Each web server in front adds the name that the request used for it.
        joined = b",".join(value for key, value in headers if key == b"x-forwarded-host").decode("latin-1").lower()
        forwarded = [host.strip() for host in joined.split(",")] if joined else []
        own = (scope.get("server") or ("",))[0]
        names = {*self._names, own} if own else self._names
        if len(hosts) != 1 or not {_name(host) for host in (*hosts, *forwarded)} <= names:
            raise Refusal(421, "This server has no such name; if it should, start it with --allowed_hosts NAME.")
        for key, value in headers:
            if key == b"origin":
                origin = value.decode("latin-1").lower().partition("://")[2]
                if origin != hosts[0] and _name(origin) not in self._allowed:
                    raise Refusal(
                        403,
                        "Requests from pages of other servers are refused; if this server has that name too, start it "
                        "with --allowed_hosts NAME.",
                    )


def _length(scope: Scope, max_bytes: int) -> int:
    """The length of the request's body, in bytes."""
    headers = dict(scope["headers"])
    value = headers.get(b"content-length", b"0")
    if b"transfer-encoding" in headers or not value.isdigit():
        raise Refusal(411, "A request must state its length: send `Content-Length`.")
    if len(value) > 18 or int(value) > max_bytes:
        raise Refusal(413, f"This request may have at most {max_bytes} bytes.")
    return int(value)


def _token(authorization: bytes) -> bytes:
    """The bearer token in an `Authorization` header, or the password of any user; else empty."""
    scheme, _, rest = authorization.partition(b" ")
    if scheme.lower() == b"bearer":
        return rest.strip()
    if scheme.lower() == b"basic":
        with suppress(binascii.Error):
            return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
    return b""


class _Answer:
    """ASGI's `send`, with security headers.

    It drops answers of status 500, which Starlette sends for an exception: the `Guard` sends its own sentence.
    """

    def __init__(self, send: Send, guard: Guard) -> None:
        self._send, self._guard, self.begun = send, guard, False

    async def __call__(self, message: Message) -> None:
        if message["type"] != "http.response.start":
            if self.begun:
                await self._send(message)
        elif message["status"] != 500:
            await self._begin(message["status"], list(message.get("headers", ())))

    async def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.begun = True
        if self._guard.ending and (b"connection", b"close") not in headers:
            headers.append((b"connection", b"close"))
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *_SECURITY_HEADERS]})

    async def send_sentence(self, status: int, sentence: str, more: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Answer with a sentence, unless an answer has begun."""
        if not self.begun:
            content = sentence.encode()
            # Close the connection: the client may have sent more than was read.
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
            headers += [(b"content-length", str(len(content)).encode()), *more]
            await self._begin(status, headers)
            await self._send({"type": "http.response.body", "body": content})


async def _drain(receive: Receive) -> None:
    """Read the rest of a refused request for up to a second: a client that is cut off does not read the answer."""

    async def rest() -> None:
        while (await receive()).get("more_body"):
            pass

    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(rest(), 1)


def _with_deadline(receive: Receive, seconds: float) -> Receive:
    """ASGI's `receive`, which raises a `Refusal` if the whole body has not arrived after `seconds`."""
    end, whole = asyncio.get_running_loop().time() + seconds, False

    async def receive_in_time() -> Message:
        nonlocal whole
        if whole:
            return await receive()
        left = end - asyncio.get_running_loop().time()
        message = None
        with suppress(asyncio.TimeoutError):
            message = await asyncio.wait_for(receive(), max(left, 0))
        if message is None:
            raise Refusal(408, f"An upload may take {seconds:g} seconds.")
        whole = not message.get("more_body", False)
        return message

    return receive_in_time


def _name(host: str) -> str | None:
    """The name in `NAME:PORT` or `NAME`, or None if `host` has another form."""
    match = _HOST.fullmatch(host)
    return match["name"].strip("[]") if match else None
