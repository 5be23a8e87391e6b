"""The page as an ASGI application, with a folder for its visitors' files."""

from __future__ import annotations

import os
import threading
import time

import fastapi
import gradio

from bisenetv1_plugin.app.limits import KEPT_SECONDS, Limits, Uploads
from bisenetv1_plugin.app.page import build
from bisenetv1_plugin.app.routes import RequestFilter, takes_upload
from bisenetv1_plugin.app.segmenters import Segmenters
from bisenetv1_plugin.app.translations import translations
from bisenetv1_plugin.serve.guard import UploadSlots

# Bytes of an upload request in addition to its file.
_FORM_BYTES = 1 << 20
_MAX_UPLOADS = 32
_SWEEP_SECONDS = 60


class Page:
    """The page; wrap its `app` in a `Guard`.

    Args:
        segmenters: the runtimes to choose from; the folder of their export is the page's title.
        limits: limits of the visitors' files.
        folder: from `server.temporary_folder`, in which Gradio must be imported. It holds the visitors' files; old ones
            are removed every minute.

    Attributes:
        app (RequestFilter): the ASGI application.
        ending (threading.Event): set it when the server stops; a video in progress then ends.
    """

    def __init__(self, segmenters: Segmenters, limits: Limits, folder: str) -> None:
        uploads = Uploads(os.path.join(folder, "gradio"), limits.kept_bytes)
        threading.Thread(target=_remove_old_files, args=(folder, uploads), daemon=True).start()
        self.ending = threading.Event()
        self._slots = UploadSlots(limits.bytes + _FORM_BYTES, _MAX_UPLOADS, check_room=uploads.check_room)
        texts = translations(minutes=KEPT_SECONDS // 60, **vars(limits))
        title = os.path.basename(os.path.dirname(os.path.abspath(segmenters.path)))
        page = build(title, segmenters, limits, uploads, texts, self.ending)
        self.app = RequestFilter(_mount(page, texts, limits.bytes), page, uploads)

    def uploads(self, path: str) -> UploadSlots | None:
        """The `uploads` of a `Guard`."""
        return self._slots if takes_upload(path) else None


def _mount(page: gradio.Blocks, texts: gradio.I18n, max_bytes: int) -> fastapi.FastAPI:
    # `launch` is not used, because it requests its own address through the user's proxy, and fails if there is one.
    return gradio.mount_gradio_app(
        fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page,
        path="/",
        i18n=texts,
        max_file_size=max_bytes,
        # Gradio's default fonts would be loaded from another server.
        theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        ssr_mode=False,
        pwa=False,
    )


def _remove_old_files(folder: str, uploads: Uploads) -> None:
    while os.path.exists(folder):
        time.sleep(_SWEEP_SECONDS)
        uploads.remove_old()
