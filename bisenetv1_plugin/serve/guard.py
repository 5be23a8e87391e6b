"""What every request has to pass before a server answers it: ASGI, whatever answers behind it."""

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

# Of ASGI
Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Of a request that brings no file: bytes, and seconds until they are there.
_SHORT, _SHORT_SECONDS = 1 << 16, 120
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
    """A request that is not answered: an HTTP status and a sentence; of one that may come again, after how long."""

    def __init__(self, status: int, sentence: str, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers: list[tuple[bytes, bytes]] = []
        if retry_after is not None:
            self.headers.append((b"retry-after", str(retry_after).encode()))
        if status == 401:  # browsers ask for a password where they hear of Basic
            self.headers += [(b"www-authenticate", b"Bearer"), (b"www-authenticate", b'Basic realm="bisenetv1"')]


class Bodies:
    """The files that come with requests to some paths of a server, and what they may be.

    Args:
        max_bytes (int): of a request.
        at_a_time (int): requests, from their first byte to the last of their answer.
        seconds (float): until a request is there.
        check_room (callable): called in a thread with the bytes of all that are under way; raises an InputError where
            there is no room for them.
    """

    def __init__(
        self,
        max_bytes: int,
        at_a_time: int,
        seconds: float = 120,
        check_room: Callable[[int], object] | None = None,
    ) -> None:
        self.max_bytes, self.at_a_time, self.seconds, self.check_room = max_bytes, at_a_time, seconds, check_room
        self._coming: list[int] = []

    @property
    def under_way(self) -> int:
        """How many there are now."""
        return len(self._coming)

    @contextmanager
    def place(self, length: int) -> Iterator[int]:
        """A place for a request; gives the bytes of all that are under way, with this one.

        Raises:
            Refused: there is none.
        """
        if len(self._coming) >= self.at_a_time:
            raise Refused(503, f"{self.at_a_time} files are being uploaded; try again.", retry_after=1)
        self._coming.append(length)
        try:
            yield sum(self._coming)
        finally:
            self._coming.remove(length)


class Guard:
    """Lets through what is asked under one of the server's own names, is short enough and has room.

    A page elsewhere whose name leads here (DNS rebinding) gives itself away by `Host`, one that only sends by `Origin`.
    Starlette's TrustedHostMiddleware knows a fixed list of hosts, and no origins.

    Args:
        app: ASGI, which answers.
        names (frozenset[str]): see `names_of`.
        allowed (list[str]): those of them that may be an origin though `Host` is another.
        bodies (callable): the `Bodies` of a path; None for one that takes no files.
        token (str, optional): what a request has to show, as a bearer's token or as the password of any user.
        open_paths (container[str]): those that need no token.
        failure (tuple): status and sentence for a request at which the application fails.

    Attributes:
        ending (bool): answers close their connection.
    """

    def __init__(
        self,
        app: Application,
        names: frozenset[str],
        allowed: Iterable[str],
        bodies: Callable[[str], Bodies | None],
        token: str | None = None,
        open_paths: Container[str] = (),
        failure: tuple[int, str] = (400, "This request cannot be answered."),
    ) -> None:
        self._app, self._names, self._bodies, self._failure = app, names, bodies, failure
        self._allowed = frozenset(name.lower() for name in allowed)
        self._token, self._open_paths = token, open_paths
        self.ending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":  # no server here speaks through websockets
            return await send({"type": "websocket.close", "code": 1008})
        answer, is_read = _Answer(send, self), False
        try:
            self._check_names(scope)
            self._check_token(scope)
            bodies = self._bodies(scope["path"])
            length = _length(scope, bodies.max_bytes if bodies else _SHORT)
            if scope["method"] == "POST" and bodies:
                with bodies.place(length) as coming:
                    if bodies.check_room:
                        await asyncio.to_thread(bodies.check_room, coming)
                    is_read = True
                    await self._app(scope, _in_time(receive, bodies.seconds), answer)
            elif scope["method"] == "POST":
                is_read = True
                await self._app(scope, _in_time(receive, _SHORT_SECONDS), answer)
            else:
                await self._app(scope, receive, answer)
        except Refused as error:
            if scope["method"] == "POST" and not is_read:
                await _read_out(receive)
            await answer.instead(error.status, str(error), error.headers)
        except InputError as error:
            await answer.instead(507, str(error))
        except Exception:  # of the server behind: a request that it was not made for
            if answer.begun:
                raise
        await answer.instead(*self._failure)

    def _check_token(self, scope: Scope) -> None:
        if self._token is None or scope["path"] in self._open_paths:
            return
        shown = [value for key, value in scope["headers"] if key == b"authorization"]
        if len(shown) != 1 or not hmac.compare_digest(_token(shown[0]), self._token.encode()):
            raise Refused(401, "This server asks for its token: send it as `Authorization: Bearer TOKEN`.")

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


def _length(scope: Scope, most: int) -> int:
    """Bytes of the request's body."""
    headers = dict(scope["headers"])
    given = headers.get(b"content-length", b"0")
    if b"transfer-encoding" in headers or not given.isdigit():
        raise Refused(411, "A request has to say how many bytes it has.")
    if len(given) > 18 or int(given) > most:
        raise Refused(413, f"More than {most} bytes are not taken.")
    return int(given)


def _token(authorization: bytes) -> bytes:
    """What an `Authorization` shows: a bearer's token, or the password of any user; nothing where it is neither."""
    scheme, _, rest = authorization.partition(b" ")
    if scheme.lower() == b"bearer":
        return rest.strip()
    if scheme.lower() == b"basic":
        with suppress(binascii.Error):
            return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
    return b""


class _Answer:
    """`send` of ASGI, with headers that keep a browser from taking an answer for something else.

    An answer of status 500 is not sent: it is Starlette's for an exception, and no sentence.
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
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *_SAFE]})

    async def instead(self, status: int, sentence: str, more: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Answer with a sentence, where there is no answer yet."""
        if not self.begun:
            content = sentence.encode()
            # Closed: who was refused may have sent more than is read.
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
            headers += [(b"content-length", str(len(content)).encode()), *more]
            await self._begin(status, headers)
            await self._send({"type": "http.response.body", "body": content})


async def _read_out(receive: Receive) -> None:
    """Read what a refused request is still sending, a second long: who is cut off meanwhile does not hear why."""

    async def rest() -> None:
        while (await receive()).get("more_body"):
            pass

    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(rest(), 1)


def _in_time(receive: Receive, seconds: float) -> Receive:
    """`receive` of ASGI, for a body that has to come within its time."""
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
            raise Refused(408, f"An upload may take {seconds:g} seconds.")
        whole = not message.get("more_body", False)
        return message

    return receive_in_time


def _name(host: str) -> str | None:
    """The name in `NAME:PORT`, or None where it is none."""
    match = _HOST.fullmatch(host)
    return match["name"].strip("[]") if match else None
