"""What is on the page: pictures, videos and the camera in; the overlay, its classes and milliseconds out."""

from __future__ import annotations

import html
import os
import tempfile
import threading
import time
from typing import Any, Iterator, NamedTuple

import gradio
from PIL import Image

from bisenetv1_plugin.app.limits import KEPT_SECONDS, Limits, Uploads
from bisenetv1_plugin.app.look import STYLE, VIEWS, Look, counts_of, image_of, table_of
from bisenetv1_plugin.app.segmenters import Segmenters
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.files import refusal
from bisenetv1_plugin.inference.segmentation import Segmentation
from bisenetv1_plugin.inference.segmenter import Segmenter
from bisenetv1_plugin.inference.video_reader import VideoReader
from bisenetv1_plugin.inference.video_writer import VideoWriter

_SWEEP_SECONDS = 60
# Visitors whose last result is kept for the sliders, and million pixels of all these: it takes four bytes a pixel, and
# eight with its confidence.
_REMEMBERED, _REMEMBERED_MEGAPIXELS = 16, 256
# Of those who wait; the next is told that the queue is full.
_WAITING = 64
# Between two signs of life of a video.
_SIGN_SECONDS = 0.5


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
        page.state_session_capacity = max(1, min(_REMEMBERED, _REMEMBERED_MEGAPIXELS // limits.megapixels))
        gradio.HTML(f"{STYLE}<h1>BiSeNetV1: {html.escape(title)}</h1>")
        gradio.Markdown(words("intro"))
        with gradio.Row():
            runtime = gradio.Dropdown(segmenters.names, value=segmenters.names[0], label=words("runtime"))
            opacity = gradio.Slider(0, 1, value=0.5, step=0.05, label=words("opacity"))
        with gradio.Row():
            unknown_below = gradio.Slider(0, 1, value=0, step=0.05, label=words("unknown_below"))
            view = gradio.Radio(VIEWS, value="overlay", label=words("view"))
        controls = [opacity, unknown_below, view]
        # In both languages: Gradio does not translate the names of tabs.
        with gradio.Tab("Picture · 图片"):
            _fill_picture_tab(work, words, runtime, controls)
        with gradio.Tab("Video · 视频"):
            _fill_video_tab(work, words, runtime, controls)
    page.queue(max_size=_WAITING)
    return page


def _fill_picture_tab(work: _Work, words: gradio.I18n, runtime: gradio.Dropdown, controls: list[Any]) -> None:
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
    done = gradio.State()
    # Not preprocessed by Gradio, which ends with a stack trace where a file is no picture.
    gradio.on(
        [picture.change, runtime.change],
        work.picture,
        [picture, runtime, *controls],
        [overlay, table, done],
        preprocess=False,
        concurrency_limit=1,
        concurrency_id="picture",
        trigger_mode="always_last",
        api_name="picture",
    )
    opacity, *others = controls
    # The others may need the confidence, and so compute once more.
    for triggers, queue, name in (([opacity], "paint", "paint"), (others, "picture", "look")):
        gradio.on(
            [control.change for control in triggers],
            work.paint,
            [done, *controls],
            [overlay, table, done],
            concurrency_limit=1,
            concurrency_id=queue,
            show_progress="hidden",
            trigger_mode="always_last",
            api_visibility="private",
            api_name=name,
        )


def _fill_video_tab(work: _Work, words: gradio.I18n, runtime: gradio.Dropdown, controls: list[Any]) -> None:
    with gradio.Row(equal_height=True):
        video = gradio.Video(label=words("video"), sources=["upload", "webcam"], height=420)
        overlay = gradio.Video(label=words("result"), interactive=False, height=420, buttons=["download"])
    with gradio.Row():
        start = gradio.Button(words("start"), variant="primary")
        stop = gradio.Button(words("stop"))
    table = gradio.HTML()
    running = start.click(
        work.video,
        [video, runtime, *controls],
        [overlay, table],
        preprocess=False,
        concurrency_limit=1,
        api_name="video",
    )
    stop.click(None, cancels=[running])


class _Done(NamedTuple):
    """A picture of a visitor's, the runtime, and what came of it: the result and its facts, unless it could not be."""

    path: str
    name: str
    runtime: str
    result: Segmentation | None = None
    facts: str = ""


class _Work:
    """What the page's events call. A sentence takes the place of what could not be made."""

    def __init__(self, segmenters: Segmenters, limits: Limits, uploads: Uploads, ending: threading.Event) -> None:
        self._segmenters, self._limits, self._uploads, self._ending = segmenters, limits, uploads, ending

    def picture(
        self, upload: dict[str, Any] | None, runtime: str, *controls: Any
    ) -> tuple[Image.Image | None, str, _Done | None]:
        """Gradio's description of a file, or None -> the overlay, the table, and what `paint` needs."""
        if upload is None:
            return None, "", None
        return self.paint(_Done(upload["path"], upload.get("orig_name") or "the picture", runtime), *controls)

    def paint(self, done: _Done | None, *controls: Any) -> tuple[Image.Image | None, str, _Done | None]:
        """The last result once more, computed only where it lacks what is to be shown."""
        if done is None:
            return None, "", None
        look = Look(*controls)
        try:
            if done.result is None or (look.needs_confidence and done.result.confidence is None):
                done = self._segmented(done, look.needs_confidence)
            assert done.result
            result = look.of(done.result)
        except InputError as error:
            return None, self._fault(error, done.path, done.name), done
        return image_of(look.pixels(result)), table_of(done.facts, result, counts_of(result)), done

    def _segmented(self, done: _Done, confidence: bool) -> _Done:
        segmenter = self._checked(done.path, done.runtime)
        self._limits.check_picture(done.path, done.name)
        began = time.perf_counter()
        result = segmenter(done.path, confidence=confidence)
        milliseconds = (time.perf_counter() - began) * 1000
        height, width = result.mask.shape
        return done._replace(result=result, facts=f"{done.runtime} · {milliseconds:.0f} ms · {width} × {height}")

    def _fault(self, error: InputError | str, path: str, name: str) -> str:
        """HTML: the sentence, which calls the file by the visitor's name for it, and the export by no path."""
        sentence = str(error).replace(path, name).replace(self._segmenters.path, "the export")
        return f'<p class="fault">{html.escape(sentence)}</p>'

    def _checked(self, path: str, runtime: str) -> Segmenter:
        """The segmenter, where the file is still there and there is room for a result: a call may have waited.

        Raises:
            InputError: it is not, there is none, or no segmenter has that name.
        """
        self._uploads.own(path)
        self._uploads.check_room()
        return self._segmenters[runtime]

    def video(
        self, upload: dict[str, Any] | None, runtime: str, *controls: Any
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
                        for table in _segment(given, segmenter, writer, runtime, Look(*controls)):
                            check_time()
                            frames = writer.frames
                            if time.perf_counter() - said > _SIGN_SECONDS:
                                said = time.perf_counter()
                                self._uploads.check_room(os.path.getsize(overlay) if os.path.exists(overlay) else 0)
                                yield gradio.skip(), table
                    except InputError as error:  # the frames so far are shown
                        table = self._fault(error, path, name)
            except InputError as error:
                table = self._fault(error, path, name)
            except OSError as error:  # of the writing
                sentence = refusal(error)
                if sentence is None:
                    raise
                frames, table = 0, self._fault(sentence, path, name)
            yield overlay if frames else None, table


def _segment(video: VideoReader, segmenter: Segmenter, writer: VideoWriter, runtime: str, look: Look) -> Iterator[str]:
    """Write the overlays of a video; after each frame the table of all so far."""
    began = time.perf_counter()
    counts: Any = 0
    for whole in segmenter.video(video.path, confidence=look.needs_confidence):
        result = look.of(whole)
        writer.write(look.pixels(result)[..., ::-1], writer.frames / _usual(video.rate))
        counts += counts_of(result)
        milliseconds = (time.perf_counter() - began) * 1000 / writer.frames
        height, width = result.mask.shape
        facts = f"{runtime} · {milliseconds:.0f} ms · {width} × {height} · {writer.frames} / {video.total or '?'}"
        yield table_of(facts, result, counts)


def _usual(rate: float) -> float:
    """Frames per second; recordings of a browser say 1000."""
    return rate if rate <= 240 else 25.0
