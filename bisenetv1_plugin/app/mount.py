"""The page as an ASGI application, with the files of its visitors."""

from __future__ import annotations

import os
import threading
import time

import fastapi
import gradio

from bisenetv1_plugin.app.limits import KEPT_SECONDS, Limits, Uploads
from bisenetv1_plugin.app.page import build
from bisenetv1_plugin.app.routes import Routes, takes_upload
from bisenetv1_plugin.app.segmenters import Segmenters
from bisenetv1_plugin.app.words import words
from bisenetv1_plugin.serve.guard import Bodies

# Of a request, beside the file that is in it.
_ENVELOPE = 1 << 20
# Uploads at a time.
_AT_A_TIME = 32
_SWEEP_SECONDS = 60


class Page:
    """The page, to be put behind a `Guard`.

    Args:
        segmenters (Segmenters): to choose among; the folder of their export is the page's title.
        limits (Limits): what is taken.
        folder (str): from `server.temporary_folder`, in which Gradio was imported: for the files of visitors, of which
            what is old is removed every minute.

    Attributes:
        app (Routes): ASGI.
        ending (threading.Event): to be set when the server ends; a video that is under way stops then.
    """

    def __init__(self, segmenters: Segmenters, limits: Limits, folder: str) -> None:
        uploads = Uploads(os.path.join(folder, "gradio"), limits.kept_bytes)
        threading.Thread(target=_sweep, args=(folder, uploads), daemon=True).start()
        self.ending = threading.Event()
        self._bodies = Bodies(limits.bytes + _ENVELOPE, _AT_A_TIME, check_room=uploads.check_room)
        texts = words(minutes=KEPT_SECONDS // 60, **vars(limits))
        title = os.path.basename(os.path.dirname(os.path.abspath(segmenters.path)))
        page = build(title, segmenters, limits, uploads, texts, self.ending)
        self.app = Routes(_mounted(page, texts, limits.bytes), page, uploads)

    def bodies(self, path: str) -> Bodies | None:
        """As a `Guard` asks for them."""
        return self._bodies if takes_upload(path) else None


def _mounted(page: gradio.Blocks, texts: gradio.I18n, max_bytes: int) -> fastapi.FastAPI:
    # Not launched: `launch` asks for its own address through the user's proxy, if there is one, and gives up.
    return gradio.mount_gradio_app(
        fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page,
        path="/",
        i18n=texts,
        max_file_size=max_bytes,
        # The system's fonts: others would come from elsewhere.
        theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        ssr_mode=False,
        pwa=False,
    )


def _sweep(folder: str, uploads: Uploads) -> None:
    while os.path.exists(folder):
        time.sleep(_SWEEP_SECONDS)
        uploads.sweep()
