"""What may be asked of Gradio: the routes that the page needs, and calls whose data is of the kinds that it takes.

Gradio looks at a request's paths when a page is launched, but this one is mounted. All else that it answers (a proxy,
addresses that it fetches, recordings, code of components, old ways to call) is not reached.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import gradio
from gradio.routes import file_upload_statuses

from bisenetv1_plugin.app.limits import Uploads
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.serve.guard import Application, Message, Receive, Refused, Scope, Send

_API = "/gradio_api"
_FILE = f"{_API}/file="
_READ = re.compile(
    r"/|/(assets|static|svelte)/.+|/(favicon\.ico|theme\.css|robots\.txt|manifest\.json|config)|"
    rf"{_API}/(info|theme\.css|startup-events|upload_progress|queue/data|heartbeat/[\w-]{{1,64}}|call/\w+/\w+|file=.+)"
)
_CALL = re.compile(rf"{_API}/(call/(?P<name>\w+)|queue/join)")
_SENT = re.compile(rf"{_API}/(upload|cancel|reset)")
# Gradio reads fields in the charset that a form names: Punycode's takes minutes for a megabyte.
_FORM_CHARSET = re.compile(rb"\s*multipart/.*charset", re.IGNORECASE)
_KEYS = {"data", "fn_index", "session_hash", "event_data", "trigger_id", "event_id", "simple_format"}
_KINDS: dict[object, str] = {
    gradio.Image: "file",
    gradio.Video: "file",
    gradio.Dropdown: "text",
    gradio.Radio: "text",
    gradio.Slider: "number",
}
_LEAST = 3  # values of a call: /picture and /video once took no more
# Characters of an address's query, and of a text in a call.
_QUERY, _TEXT = 1024, 255
_TOLD = {"text": f"text of up to {_TEXT} characters", "number": "number from 0 to 1"}
# Uploads whose progress is known, and results of one visitor that nobody has fetched: Gradio keeps both for ever.
_UPLOADS, _UNREAD = 256, 256
# A visitor's file is data, whatever is in it.
_INERT = (
    (b"content-security-policy", b"sandbox; default-src 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


def takes_upload(path: str) -> bool:
    """Whether a request to this path brings a file."""
    return path == f"{_API}/upload"


class Routes:
    """ASGI: passes on to Gradio what it is meant for.

    Args:
        app: Gradio's.
        page (gradio.Blocks): whose events may be called.
        uploads (Uploads): whose files may be named.
    """

    def __init__(self, app: Application, page: gradio.Blocks, uploads: Uploads) -> None:
        self._app, self._uploads, self._page = app, uploads, page
        # By number and by name of an event: the kinds of its inputs, and what they are where nothing is said.
        self._inputs: dict[object, list[tuple[str, Any]]] = {}
        for event in page.fns.values():
            if event.fn is None:  # it only ends others
                continue
            inputs = [(_KINDS.get(type(block), "none"), getattr(block, "value", None)) for block in event.inputs]
            self._inputs[event._id] = inputs
            if event.api_visibility == "public":
                self._inputs[event.api_name] = inputs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            method, path = scope["method"], scope["path"]
            if len(scope["query_string"]) > _QUERY:
                raise Refused(414, f"After the ? of an address are {_QUERY} characters at most.")
            if any(key == b"content-type" and _FORM_CHARSET.match(value) for key, value in scope["headers"]):
                raise Refused(400, "A form names no charset.")
            # Gradio would name that server in its answers.
            scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"x-gradio-server"]}
            _forget_uploads()
            call = _CALL.fullmatch(path) if method == "POST" else None
            if call:  # which may leave a result; to stop one needs no room
                await asyncio.to_thread(self._uploads.check_room)
                scope, receive = await self._checked_call(scope, receive, call["name"])
            elif not (_SENT if method == "POST" else _READ).fullmatch(path) or method not in ("GET", "HEAD", "POST"):
                raise Refused(404, "There is nothing here.")
            elif path.startswith(_FILE):
                try:
                    self._uploads.own(path[len(_FILE) :])
                except InputError as error:
                    raise Refused(403, str(error)) from error
                send = _inert(send)
        await self._app(scope, receive, send)

    async def _checked_call(self, scope: Scope, receive: Receive, name: str | None) -> tuple[Scope, Receive]:
        """The scope and `receive` of a call, its body written anew: nothing reads it differently from this check."""
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise Refused(400, "The request was broken off.")
            body += message.get("body", b"")
            more = message.get("more_body", False)
        try:
            content = json.dumps(self._checked(json.loads(body), name)).encode()
        except InputError as error:
            raise Refused(422, str(error)) from error
        except (ValueError, RecursionError) as error:
            raise Refused(400, "The body of a call is JSON.") from error
        headers = [pair for pair in scope["headers"] if pair[0] not in (b"content-length", b"content-type")]
        headers += [(b"content-length", str(len(content)).encode()), (b"content-type", b"application/json")]
        read = False

        async def receive_content() -> Message:
            nonlocal read
            if read:
                return await receive()
            read = True
            return {"type": "http.request", "body": content, "more_body": False}

        return {**scope, "headers": headers}, receive_content

    def _checked(self, body: Any, name: str | None) -> dict[str, Any]:
        """The body of a call, where it is of the right kinds."""
        if not isinstance(body, dict) or not body.keys() <= _KEYS or not isinstance(body.get("data"), list):
            raise InputError(f"a call has the keys {', '.join(sorted(_KEYS))}, and its data is a list.")
        for key in ("session_hash", "event_id"):
            value = body.get(key)
            if value is not None and not (isinstance(value, str) and re.fullmatch(r"[\w-]{1,64}", value)):
                raise InputError(f"{key} is up to 64 letters and digits.")
        for key in ("fn_index", "trigger_id"):
            if type(body.get(key)) not in (int, type(None)):
                raise InputError(f"{key} is a number.")
        event = name or body.get("fn_index")
        if event not in self._inputs or (name is None and not body.get("session_hash")):
            raise InputError("there is no such call.")
        if len(self._page._queue.pending_event_ids_session.get(body.get("session_hash") or "", ())) >= _UNREAD:
            raise InputError(f"{_UNREAD} results have not been fetched: load the page again.")
        inputs, data = self._inputs[event], body["data"]
        if name and len(data) < len(inputs):  # from a program: without what only the page knows
            inputs = [(kind, usual) for kind, usual in inputs if kind != "none"]
        data = data + [usual for _, usual in inputs[max(len(data), _LEAST) :]]  # of a program of an earlier day
        if len(data) != len(inputs):
            raise InputError(f"this call takes {len(inputs)} values; there are {len(data)}.")
        checked = [self._value(kind, value) for (kind, _), value in zip(inputs, data)]
        return {**body, "data": checked, "simple_format": body.get("simple_format") is True, "event_id": None}

    def _value(self, kind: str, value: Any) -> Any:
        if kind == "none" or (kind == "file" and value is None):
            return None
        if kind == "file":
            return self._file(value)
        if kind == "text" and isinstance(value, str) and len(value) <= _TEXT:
            return value
        if kind == "number" and type(value) in (int, float) and 0 <= value <= 1:
            return value
        raise InputError(f"{json.dumps(value)[:80]} is no {_TOLD[kind]}.")

    def _file(self, value: Any) -> dict[str, Any]:
        """Gradio's description of a file, of an upload's alone and with nothing in it that leads elsewhere."""
        if not isinstance(value, dict):
            raise InputError("a file is what /upload said of it.")
        if isinstance(value.get("video"), dict):  # of older clients, with subtitles
            value = value["video"]
        path, name = self._uploads.own(value.get("path")), value.get("orig_name")
        return {
            "path": path,
            "orig_name": name[:255] if isinstance(name, str) else None,
            "meta": {"_type": "gradio.FileData"},
        }


def _forget_uploads() -> None:
    for known in (file_upload_statuses._signals, file_upload_statuses._statuses):
        while len(known) > _UPLOADS:
            del known[next(iter(known))]


def _inert(send: Send) -> Send:
    async def send_inert(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_INERT]}
        await send(message)

    return send_inert
