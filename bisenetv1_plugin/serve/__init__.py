"""`bisenetv1 serve`, which segments over HTTP, and the access checks and limits of every server here.

The page of `bisenetv1 app` uses the same guard and the same server. The extras `serve` and `app` install FastAPI and
uvicorn.
"""
