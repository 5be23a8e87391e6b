"""Servers: who may ask, for how much, and until when; and `bisenetv1 serve`, which segments over HTTP.

`app` shows its page with the same guard and the same server. FastAPI and uvicorn are in the extras `serve` and `app`.
"""
