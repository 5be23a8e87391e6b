"""Asks an ASGI application, without a server."""

import asyncio


def ask(app, method="GET", path="/", headers=(), body=b"", query=b""):
    """(status, text) of an ASGI application."""
    status, _, text = asked(app, method, path, headers, body, query)
    return status, text


def asked(app, method="GET", path="/", headers=(), body=b"", query=b""):
    """(status, headers, text) of an ASGI application."""
    sent, parts = [], [body[:7], body[7:]]

    async def receive():
        if not parts:  # nobody goes away before the answer
            await asyncio.sleep(3600)
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message):
        sent.append(message)

    headers = [*headers, (b"content-length", str(len(body)).encode())]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "server": ("127.0.0.1", 7860)}
    scope = {**scope, "query_string": query, "raw_path": path.encode("utf-8", "replace"), "http_version": "1.1"}
    asyncio.run(app({**scope, "scheme": "http", "root_path": "", "client": ("127.0.0.1", 1)}, receive, send))
    text = b"".join(message.get("body", b"") for message in sent[1:]).decode("utf-8", "replace")
    return sent[0]["status"], dict(sent[0]["headers"]), text
