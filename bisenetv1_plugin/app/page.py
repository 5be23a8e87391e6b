"""What is on the page: pictures, videos and the camera in; the overlay, its classes and milliseconds out."""

from __future__ import annotations

import html
import os
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass, replace
from typing import Any, Iterator, NamedTuple

import gradio
import numpy as np
from PIL import Image

from bisenetv1_plugin.app.limits import KEPT_SECONDS, Limits, Uploads
from bisenetv1_plugin.app.segmenters import Segmenters
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.files import refusal
from bisenetv1_plugin.inference.segmentation import Segmentation
from bisenetv1_plugin.inference.segmenter import Segmenter
from bisenetv1_plugin.inference.video import VideoReader
from bisenetv1_plugin.inference.video_writer import VideoWriter

_SWEEP_SECONDS = 60
# Visitors whose last result is kept for the sliders; it takes four bytes a pixel, and eight with its confidence.
_REMEMBERED = 16
# Of those who wait; the next is told that the queue is full.
_WAITING = 64
# Between two signs of life of a video.
_SIGN_SECONDS = 0.5
# What is shown; in both languages: Gradio does not translate choices.
_VIEWS = [("Overlay · 叠加图", "overlay"), ("Confidence · 置信度", "confidence")]

_STYLE = """<style>
.shares { width: 100%; }
.shares, .shares tr, .shares td { border: 0 !important; }
.shares td { padding: 2px 8px !important; white-space: nowrap; }
.shares td:nth-child(3) { width: 99%; }
.shares td:nth-child(4) { text-align: right; font-variant-numeric: tabular-nums; }
.shares i { display: inline-block; width: 1em; height: 1em; border: 1px solid #8888; vertical-align: middle; }
.shares b { display: block; height: .8em; min-width: 1px; }
.fault { border-left: 4px solid #c00; padding: .5em 1em; }
</style>"""


def build(
    title: str,
    segmenters: Segmenters,
    limits: Limits,
    uploads: Uploads,
    words: gradio.I18n,
    ending: threading.Event,
) -> gradio.Blocks:
    """The page; it is not launched.

    Args:
        title (str): of the page, such as the export's folder.
        segmenters (Segmenters): to choose among.
        limits (Limits): what is taken.
        uploads (Uploads): the files of visitors.
        words (gradio.I18n): see `words.py`.
        ending (threading.Event): set when the server ends; a video that is under way stops then.
    """
    work = _Work(segmenters, limits, uploads, ending)
    with gradio.Blocks(
        title=f"BiSeNetV1: {title}", analytics_enabled=False, delete_cache=(_SWEEP_SECONDS, KEPT_SECONDS)
    ) as page:
        page.state_session_capacity = _REMEMBERED
        gradio.HTML(f"{_STYLE}<h1>BiSeNetV1: {html.escape(title)}</h1>")
        gradio.Markdown(words("intro"))
        with gradio.Row():
            runtime = gradio.Dropdown(segmenters.names, value=segmenters.names[0], label=words("runtime"))
            opacity = gradio.Slider(0, 1, value=0.5, step=0.05, label=words("opacity"))
            unknown_below = gradio.Slider(0, 1, value=0, step=0.05, label=words("unknown_below"))
            view = gradio.Radio(_VIEWS, value="overlay", label=words("view"))
        controls = [opacity, unknown_below, view]
        # In both languages: Gradio does not translate the names of tabs.
        with gradio.Tab("Picture · 图片"):
            _fill_picture_tab(work, words, runtime, controls)
        with gradio.Tab("Video · 视频"):
            _fill_video_tab(work, words, runtime, controls)
    page.queue(max_size=_WAITING)
    return page


def _fill_picture_tab(work: _Work, words: gradio.I18n, runtime: gradio.Dropdown, opacity: gradio.Slider) -> None:
    with gradio.Row(equal_height=True):
        picture = gradio.Image(label=words("picture"), sources=["upload", "webcam", "clipboard"], height=420)
        overlay = gradio.Image(
            label=words("result"),
            interactive=False,
            format="jpeg",
            height=420,
            buttons=["download", "fullscreen"],
        )
    table = gradio.HTML()
    result = gradio.State()
    # Not preprocessed by Gradio, which ends with a stack trace where a file is no picture.
    gradio.on(
        [picture.change, runtime.change],
        work.picture,
        [picture, runtime, opacity],
        [overlay, table, result],
        preprocess=False,
        concurrency_limit=1,
        trigger_mode="always_last",
        api_name="picture",
    )
    opacity.change(
        work.paint,
        [result, opacity],
        overlay,
        show_progress="hidden",
        trigger_mode="always_last",
        api_visibility="private",
    )


def _fill_video_tab(work: _Work, words: gradio.I18n, runtime: gradio.Dropdown, opacity: gradio.Slider) -> None:
    with gradio.Row(equal_height=True):
        video = gradio.Video(label=words("video"), sources=["upload", "webcam"], height=420)
        overlay = gradio.Video(label=words("result"), interactive=False, height=420, buttons=["download"])
    with gradio.Row():
        start = gradio.Button(words("start"), variant="primary")
        stop = gradio.Button(words("stop"))
    table = gradio.HTML()
    running = start.click(
        work.video,
        [video, runtime, opacity],
        [overlay, table],
        preprocess=False,
        concurrency_limit=1,
        api_name="video",
    )
    stop.click(None, cancels=[running])


class _Work:
    """What the page's events call. A sentence takes the place of what could not be made."""

    def __init__(self, segmenters: Segmenters, limits: Limits, uploads: Uploads, ending: threading.Event) -> None:
        self._segmenters, self._limits, self._uploads, self._ending = segmenters, limits, uploads, ending

    def picture(
        self, upload: dict[str, Any] | None, runtime: str, opacity: float
    ) -> tuple[Image.Image | None, str, Segmentation | None]:
        """Gradio's description of a file, or None -> the overlay, the table, and what `paint` needs."""
        if upload is None:
            return None, "", None
        path, name = upload["path"], upload.get("orig_name") or "the picture"
        try:
            segmenter = self._checked(path, runtime)
            self._limits.check_picture(path, name)
            began = time.perf_counter()
            result = segmenter(path)
            milliseconds = (time.perf_counter() - began) * 1000
        except InputError as error:
            return None, _fault(error, path, name), None
        height, width = result.mask.shape
        facts = f"{runtime} · {milliseconds:.0f} ms · {width} × {height}"
        return _shown(result, opacity), _table(facts, segmenter, _counts(result)), result

    def paint(self, result: Segmentation | None, opacity: float) -> Image.Image | None:
        """The overlay of the last result once more."""
        return None if result is None else _shown(result, opacity)

    def _checked(self, path: str, runtime: str) -> Segmenter:
        """The segmenter, where the file is still there and there is room for a result: a call may have waited.

        Raises:
            InputError: it is not, there is none, or no segmenter has that name.
        """
        self._uploads.own(path)
        self._uploads.check_room()
        return self._segmenters[runtime]

    def video(
        self, upload: dict[str, Any] | None, runtime: str, opacity: float
    ) -> Iterator[tuple[str | dict[str, Any] | None, str]]:
        """Gradio's description of a file, or None -> now and then the table so far; at the end the overlay with it."""
        if upload is None:
            yield None, ""
            return
        path, name = upload["path"], upload.get("orig_name") or "the video"
        began = said = time.perf_counter()

        def check_time() -> None:
            if self._ending.is_set():
                raise InputError("the server ends.")
            if time.perf_counter() - began > KEPT_SECONDS:
                raise InputError(
                    f"{name} takes longer than {KEPT_SECONDS // 60} minutes: give a shorter or smaller one."
                )

        with tempfile.TemporaryDirectory() as folder:
            overlay, frames, table = os.path.join(folder, "segmented.mp4"), 0, ""
            try:
                segmenter = self._checked(path, runtime)
                self._limits.check_video(path, name, check_time)
                given = VideoReader(path)
                with VideoWriter(overlay, _usual(given.rate)) as writer:
                    try:
                        for table in _segment(given, segmenter, writer, runtime, opacity):
                            check_time()
                            frames = writer.frames
                            if time.perf_counter() - said > _SIGN_SECONDS:
                                said = time.perf_counter()
                                self._uploads.check_room(os.path.getsize(overlay) if os.path.exists(overlay) else 0)
                                yield gradio.skip(), table
                    except InputError as error:  # the frames so far are shown
                        table = _fault(error, path, name)
            except InputError as error:
                table = _fault(error, path, name)
            except OSError as error:  # of the writing
                sentence = refusal(error)
                if sentence is None:
                    raise
                frames, table = 0, _fault(sentence, path, name)
            yield overlay if frames else None, table


def _segment(
    video: VideoReader, segmenter: Segmenter, writer: VideoWriter, runtime: str, opacity: float
) -> Iterator[str]:
    """Write the overlays of a video; after each frame the table of all so far."""
    began = time.perf_counter()
    counts: Any = 0
    for result in segmenter.video(video.path):
        writer.write(result.overlay(opacity, legend=False)[..., ::-1], writer.frames / _usual(video.rate))
        counts += _counts(result)
        milliseconds = (time.perf_counter() - began) * 1000 / writer.frames
        height, width = result.mask.shape
        facts = f"{runtime} · {milliseconds:.0f} ms · {width} × {height} · {writer.frames} / {video.total or '?'}"
        yield _table(facts, segmenter, counts)


def _usual(rate: float) -> float:
    """Frames per second; recordings of a browser say 1000."""
    return rate if rate <= 240 else 25.0


def _shown(result: Segmentation, opacity: float) -> Image.Image:
    """The overlay, as an image that no other is equal to.

    Gradio names a file by its bytes, and would write it anew while another visitor reads it.
    """
    overlay = Image.fromarray(result.overlay(opacity, legend=False))
    overlay.info["comment"] = uuid.uuid4().hex
    return overlay


def _counts(result: Segmentation) -> np.ndarray:
    """How many pixels each class has."""
    return np.bincount(result.mask.ravel(), minlength=len(result.classes))


def _table(facts: str, segmenter: Segmenter, counts: np.ndarray) -> str:
    """HTML: the facts, and the classes that are there with their colors and shares, the largest first."""
    rows = []
    for number in np.argsort(-counts, kind="stable"):
        if counts[number]:
            share, rgb = counts[number] / counts.sum(), ",".join(map(str, segmenter.colors[number]))
            rows.append(
                f'<tr><td><i style="background:rgb({rgb})"></i></td><td>{html.escape(segmenter.classes[number])}</td>'
                f'<td><b style="background:rgb({rgb});width:{share:.2%}"></b></td><td>{share:.1%}</td></tr>'
            )
    return f'<p>{html.escape(facts)}</p><table class="shares">{"".join(rows)}</table>'


def _fault(error: InputError | str, path: str, name: str) -> str:
    """HTML: the sentence, which calls the file by the visitor's name for it."""
    return f'<p class="fault">{html.escape(str(error).replace(path, name))}</p>'
