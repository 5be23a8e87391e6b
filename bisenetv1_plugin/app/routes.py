"""A filter of requests to Gradio: it passes only the routes that the page needs, and calls with the right data.

Gradio checks the paths in requests only for a page that it launched, and this one is mounted. Its other routes are
blocked: a proxy, addresses that it fetches, recordings, code of components, and old kinds of calls.
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
from bisenetv1_plugin.serve.guard import Application, Message, Receive, Refusal, Scope, Send

_API = "/gradio_api"
_FILE = f"{_API}/file="
_GET_PATHS = re.compile(
    r"/|/(assets|static|svelte)/.+|/(favicon\.ico|theme\.css|robots\.txt|manifest\.json|config)|"
    rf"{_API}/(info|theme\.css|startup-events|upload_progress|queue/data|heartbeat/[\w-]{{1,64}}|call/\w+/\w+|file=.+)"
)
_CALL_PATHS = re.compile(rf"{_API}/(call/(?P<name>\w+)|queue/join)")
_POST_PATHS = re.compile(rf"{_API}/(upload|cancel|reset)")
# Gradio decodes fields with the charset that a form names, and Punycode takes minutes for a megabyte.
_FORM_CHARSET = re.compile(rb"\s*multipart/.*charset", re.IGNORECASE)
_KEYS = {"data", "fn_index", "session_hash", "event_data", "trigger_id", "event_id", "simple_format"}
_KINDS: dict[object, str] = {
    gradio.Image: "file",
    gradio.Video: "file",
    gradio.Dropdown: "text",
    gradio.Radio: "text",
    gradio.Slider: "number",
}
# Older clients send this many values: /picture and /video had no more parameters.
_MIN_VALUES = 3
# Characters of a query, and of a text in a call.
_MAX_QUERY, _MAX_TEXT = 1024, 255
_KIND_NAMES = {"text": f"a text of up to {_MAX_TEXT} characters", "number": "a number from 0 to 1"}
# Gradio keeps forever: the progress of each upload, and a visitor's results that were not fetched.
_MAX_PROGRESS, _MAX_UNREAD = 256, 256
# Browsers must not run a script in a visitor's file.
_NO_SCRIPTS = (
    (b"content-security-policy", b"sandbox; default-src 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


def takes_upload(path: str) -> bool:
    """Whether a request to this path uploads a file."""
    return path == f"{_API}/upload"


class RequestFilter:
    """An ASGI wrapper that passes only expected requests to Gradio.

    Args:
        app: Gradio's application.
        page: the page, whose events may be called.
        uploads: the files that calls may name.
    """

    def __init__(self, app: Application, page: gradio.Blocks, uploads: Uploads) -> None:
        self._app, self._uploads, self._page = app, uploads, page
        # By number and by name of an event: the kinds and defaults of its inputs.
        self._inputs: dict[object, list[tuple[str, Any]]] = {}
        for event in page.fns.values():
            if event.fn is None:  # it only cancels another event
                continue
            inputs = [(_KINDS.get(type(block), "none"), getattr(block, "value", None)) for block in event.inputs]
            self._inputs[event._id] = inputs
            if event.api_visibility == "public":
                self._inputs[event.api_name] = inputs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            method, path = scope["method"], scope["path"]
            if len(scope["query_string"]) > _MAX_QUERY:
                raise Refusal(414, f"A query may have at most {_MAX_QUERY} characters.")
            if any(key == b"content-type" and _FORM_CHARSET.match(value) for key, value in scope["headers"]):
                raise Refusal(400, "A form must not name a charset.")
            # Gradio would put the server that this header names into its answers.
            scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"x-gradio-server"]}
            _forget_progress()
            call = _CALL_PATHS.fullmatch(path) if method == "POST" else None
            if call:  # it may write a result; a cancel or a reset needs no room
                await asyncio.to_thread(self._uploads.check_room)
                scope, receive = await self._check_call(scope, receive, call["name"])
            elif method not in ("GET", "HEAD", "POST") or not (
                _POST_PATHS if method == "POST" else _GET_PATHS
            ).fullmatch(path):
                raise Refusal(404, "There is nothing at this address.")
            elif path.startswith(_FILE):
                try:
                    self._uploads.own(path[len(_FILE) :])
                except InputError as error:
                    raise Refusal(403, str(error)) from error
                send = _without_scripts(send)
        await self._app(scope, receive, send)

    async def _check_call(self, scope: Scope, receive: Receive, name: str | None) -> tuple[Scope, Receive]:
        """The scope and `receive` of a call. The body is encoded again, so that Gradio reads what was checked."""
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise Refusal(400, "The request was interrupted.")
            body += message.get("body", b"")
            more = message.get("more_body", False)
        try:
            content = json.dumps(self._check_body(json.loads(body), name)).encode()
        except InputError as error:
            raise Refusal(422, str(error)) from error
        except (ValueError, RecursionError) as error:
            raise Refusal(400, "The body of a call must be JSON.") from error
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

    def _check_body(self, body: Any, name: str | None) -> dict[str, Any]:
        """The body of a call, with defaults for the values that it omits."""
        if not isinstance(body, dict) or not body.keys() <= _KEYS or not isinstance(body.get("data"), list):
            raise InputError(f"a call may have the keys {', '.join(sorted(_KEYS))}, and its data must be a list.")
        for key in ("session_hash", "event_id"):
            value = body.get(key)
            if value is not None and not (isinstance(value, str) and re.fullmatch(r"[\w-]{1,64}", value)):
                raise InputError(f"{key} must have 1 to 64 letters and digits.")
        for key in ("fn_index", "trigger_id"):
            if type(body.get(key)) not in (int, type(None)):
                raise InputError(f"{key} must be a number.")
        event = name or body.get("fn_index")
        if event not in self._inputs or (name is None and not body.get("session_hash")):
            raise InputError("there is no such call.")
        if len(self._page._queue.pending_event_ids_session.get(body.get("session_hash") or "", ())) >= _MAX_UNREAD:
            raise InputError(f"{_MAX_UNREAD} results have not been fetched: load the page again.")
        inputs, data = self._inputs[event], body["data"]
        if name and len(data) < len(inputs):  # a program omits the state that only the page has
            inputs = [(kind, default) for kind, default in inputs if kind != "none"]
        data = data + [default for _, default in inputs[max(len(data), _MIN_VALUES) :]]
        if len(data) != len(inputs):
            raise InputError(f"this call takes {len(inputs)} values, not {len(data)}.")
        checked = [self._value(kind, value) for (kind, _), value in zip(inputs, data)]
        return {**body, "data": checked, "simple_format": body.get("simple_format") is True, "event_id": None}

    def _value(self, kind: str, value: Any) -> Any:
        if kind == "none" or (kind == "file" and value is None):
            return None
        if kind == "file":
            return self._file(value)
        if kind == "text" and isinstance(value, str) and len(value) <= _MAX_TEXT:
            return value
        if kind == "number" and type(value) in (int, float) and 0 <= value <= 1:
            return value
        raise InputError(f"{json.dumps(value)[:80]} is not {_KIND_NAMES[kind]}.")

    def _file(self, value: Any) -> dict[str, Any]:
        """Gradio's description of an uploaded file, without keys such as `url` that could name another one."""
        if not isinstance(value, dict):
            raise InputError("a file must be an object with the path of an upload.")
        if isinstance(value.get("video"), dict):  # older clients send subtitles beside it
            value = value["video"]
        path, name = self._uploads.own(value.get("path")), value.get("orig_name")
        return {
            "path": path,
            "orig_name": name[:255] if isinstance(name, str) else None,
            "meta": {"_type": "gradio.FileData"},
        }


def _forget_progress() -> None:
    for known in (file_upload_statuses._signals, file_upload_statuses._statuses):
        while len(known) > _MAX_PROGRESS:
            del known[next(iter(known))]


def _without_scripts(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_NO_SCRIPTS]}
        await send(message)

    return send_with_headers
