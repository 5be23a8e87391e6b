"""The page: its controls, and the functions that segment pictures and videos when a visitor uses them."""

from __future__ import annotations

import html
import os
import tempfile
import threading
import time
from typing import Any, Iterator, NamedTuple

import gradio
from PIL import Image

from bisenetv1_plugin.app.display import STYLE, VIEWS, Controls, class_counts, class_table, unique_image
from bisenetv1_plugin.app.limits import KEPT_SECONDS, Limits, Uploads
from bisenetv1_plugin.app.segmenters import Segmenters
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.files import refusal
from bisenetv1_plugin.inference.segmentation import Segmentation
from bisenetv1_plugin.inference.segmenter import Segmenter
from bisenetv1_plugin.inference.video_reader import VideoReader
from bisenetv1_plugin.inference.video_writer import VideoWriter

_SWEEP_SECONDS = 60
# The last results are kept for the sliders: of how many visitors, and how many million pixels together. A result takes
# four bytes a pixel, and eight with its confidence.
_KEPT_RESULTS, _KEPT_MEGAPIXELS = 16, 256
# Requests that may wait; Gradio answers the next one that the queue is full.
_MAX_WAITING = 64
# While a video is segmented, its table is updated this often.
_UPDATE_SECONDS = 0.5


def build(
    title: str,
    segmenters: Segmenters,
    limits: Limits,
    uploads: Uploads,
    texts: gradio.I18n,
    ending: threading.Event,
) -> gradio.Blocks:
    """Build the page, without launching it.

    Args:
        title: the page's title, such as the export's folder.
        segmenters: the runtimes to choose from.
        limits: limits of the visitors' files.
        uploads: the visitors' files.
        texts: from `translations`.
        ending: set when the server stops; a video in progress then ends.
    """
    handlers = _Handlers(segmenters, limits, uploads, ending)
    with gradio.Blocks(
        title=f"BiSeNetV1: {title}", analytics_enabled=False, delete_cache=(_SWEEP_SECONDS, KEPT_SECONDS)
    ) as page:
        page.state_session_capacity = max(1, min(_KEPT_RESULTS, _KEPT_MEGAPIXELS // limits.megapixels))
        gradio.HTML(f"{STYLE}<h1>BiSeNetV1: {html.escape(title)}</h1>")
        gradio.Markdown(texts("intro"))
        with gradio.Row():
            runtime = gradio.Dropdown(segmenters.names, value=segmenters.names[0], label=texts("runtime"))
            opacity = gradio.Slider(0, 1, value=0.5, step=0.05, label=texts("opacity"))
        with gradio.Row():
            unknown_below = gradio.Slider(0, 1, value=0, step=0.05, label=texts("unknown_below"))
            view = gradio.Radio(VIEWS, value="overlay", label=texts("view"))
        controls = [opacity, unknown_below, view]
        # In both languages, because Gradio does not translate the names of tabs.
        with gradio.Tab("Picture · 图片"):
            _fill_picture_tab(handlers, texts, runtime, controls)
        with gradio.Tab("Video · 视频"):
            _fill_video_tab(handlers, texts, runtime, controls)
    page.queue(max_size=_MAX_WAITING)
    return page


def _fill_picture_tab(handlers: _Handlers, texts: gradio.I18n, runtime: gradio.Dropdown, controls: list[Any]) -> None:
    with gradio.Row(equal_height=True):
        picture = gradio.Image(label=texts("picture"), sources=["upload", "webcam", "clipboard"], height=420)
        overlay = gradio.Image(
            label=texts("result"),
            interactive=False,
            format="jpeg",
            height=420,
            buttons=["download", "fullscreen"],
        )
    table = gradio.HTML()
    state = gradio.State()
    # Gradio's own preprocessing would raise without a sentence for a file that is not a picture.
    gradio.on(
        [picture.change, runtime.change],
        handlers.picture,
        [picture, runtime, *controls],
        [overlay, table, state],
        preprocess=False,
        concurrency_limit=1,
        concurrency_id="picture",
        trigger_mode="always_last",
        api_name="picture",
    )
    opacity, *others = controls
    # The others may need the confidence, and so segment again: they wait in the queue of pictures.
    for triggers, queue, name in (([opacity], "paint", "paint"), (others, "picture", "look")):
        gradio.on(
            [control.change for control in triggers],
            handlers.paint,
            [state, *controls],
            [overlay, table, state],
            concurrency_limit=1,
            concurrency_id=queue,
            show_progress="hidden",
            trigger_mode="always_last",
            api_visibility="private",
            api_name=name,
        )


def _fill_video_tab(handlers: _Handlers, texts: gradio.I18n, runtime: gradio.Dropdown, controls: list[Any]) -> None:
    with gradio.Row(equal_height=True):
        video = gradio.Video(label=texts("video"), sources=["upload", "webcam"], height=420)
        overlay = gradio.Video(label=texts("result"), interactive=False, height=420, buttons=["download"])
    with gradio.Row():
        start = gradio.Button(texts("start"), variant="primary")
        stop = gradio.Button(texts("stop"))
    table = gradio.HTML()
    running = start.click(
        handlers.video,
        [video, runtime, *controls],
        [overlay, table],
        preprocess=False,
        concurrency_limit=1,
        api_name="video",
    )
    stop.click(None, cancels=[running])


class _State(NamedTuple):
    """The last picture of a visitor and the chosen runtime, with the result and its facts once it is segmented."""

    path: str
    name: str
    runtime: str
    result: Segmentation | None = None
    facts: str = ""


class _Handlers:
    """The functions that the page's events call. Errors appear as a sentence in place of the table."""

    def __init__(self, segmenters: Segmenters, limits: Limits, uploads: Uploads, ending: threading.Event) -> None:
        self._segmenters, self._limits, self._uploads, self._ending = segmenters, limits, uploads, ending

    def picture(
        self, upload: dict[str, Any] | None, runtime: str, *controls: Any
    ) -> tuple[Image.Image | None, str, _State | None]:
        """Segment a picture: Gradio's description of a file, or None -> overlay, table, and the state for `paint`."""
        if upload is None:
            return None, "", None
        return self.paint(_State(upload["path"], upload.get("orig_name") or "the picture", runtime), *controls)

    def paint(self, state: _State | None, *controls: Any) -> tuple[Image.Image | None, str, _State | None]:
        """Show the last result again; segments only if the result or its confidence is missing."""
        if state is None:
            return None, "", None
        values = Controls(*controls)
        try:
            if state.result is None or (values.needs_confidence and state.result.confidence is None):
                state = self._segment_picture(state, values.needs_confidence)
            assert state.result
            result = values.mark_unknown(state.result)
        except InputError as error:
            return None, self._error_html(error, state.path, state.name), state
        return unique_image(values.draw(result)), class_table(state.facts, result, class_counts(result)), state

    def _segment_picture(self, state: _State, confidence: bool) -> _State:
        segmenter = self._segmenter(state.path, state.runtime)
        self._limits.check_picture(state.path, state.name)
        began = time.perf_counter()
        result = segmenter(state.path, confidence=confidence)
        milliseconds = (time.perf_counter() - began) * 1000
        height, width = result.mask.shape
        return state._replace(result=result, facts=f"{state.runtime} · {milliseconds:.0f} ms · {width} × {height}")

    def _error_html(self, error: InputError | str, path: str, name: str) -> str:
        """HTML of the sentence, with the visitor's name for the file, and without the paths of this server."""
        sentence = str(error).replace(path, name).replace(self._segmenters.path, "the export")
        return f'<p class="fault">{html.escape(sentence)}</p>'

    def _segmenter(self, path: str, runtime: str) -> Segmenter:
        """The segmenter of a runtime, after a check of the file and the room: both may have changed in the queue.

        Raises:
            InputError: the file is gone, there is no room for a result, or the runtime is unknown.
        """
        self._uploads.own(path)
        self._uploads.check_room()
        return self._segmenters[runtime]

    def video(
        self, upload: dict[str, Any] | None, runtime: str, *controls: Any
    ) -> Iterator[tuple[str | dict[str, Any] | None, str]]:
        """Segment a video: Gradio's description of a file, or None -> the table so far; at the end the overlay, too."""
        if upload is None:
            yield None, ""
            return
        path, name = upload["path"], upload.get("orig_name") or "the video"
        began = updated = time.perf_counter()

        def check_time() -> None:
            if self._ending.is_set():
                raise InputError("the server is stopping.")
            if time.perf_counter() - began > KEPT_SECONDS:
                raise InputError(
                    f"{name} takes longer than {KEPT_SECONDS // 60} minutes: give a shorter or smaller one."
                )

        with tempfile.TemporaryDirectory() as folder:
            overlay, frames, table = os.path.join(folder, "segmented.mp4"), 0, ""
            try:
                segmenter = self._segmenter(path, runtime)
                self._limits.check_video(path, name, check_time)
                video = VideoReader(path)
                with VideoWriter(overlay, _plausible_rate(video.rate)) as writer:
                    try:
                        for table in _segment_video(video, segmenter, writer, runtime, Controls(*controls)):
                            check_time()
                            frames = writer.frames
                            if time.perf_counter() - updated > _UPDATE_SECONDS:
                                updated = time.perf_counter()
                                self._uploads.check_room(os.path.getsize(overlay) if os.path.exists(overlay) else 0)
                                yield gradio.skip(), table
                    except InputError as error:  # the overlay still shows the frames so far
                        table = self._error_html(error, path, name)
            except InputError as error:
                table = self._error_html(error, path, name)
            except OSError as error:  # from writing the overlay
                sentence = refusal(error)
                if sentence is None:
                    raise
                frames, table = 0, self._error_html(sentence, path, name)
            yield overlay if frames else None, table


def _segment_video(
    video: VideoReader, segmenter: Segmenter, writer: VideoWriter, runtime: str, controls: Controls
) -> Iterator[str]:
    """Write the overlay of a video; yields after each frame the table of all frames so far."""
    began = time.perf_counter()
    counts: Any = 0
    for segmentation in segmenter.video(video.path, confidence=controls.needs_confidence):
        result = controls.mark_unknown(segmentation)
        writer.write(controls.draw(result)[..., ::-1], writer.frames / _plausible_rate(video.rate))
        counts += class_counts(result)
        milliseconds = (time.perf_counter() - began) * 1000 / writer.frames
        height, width = result.mask.shape
        facts = f"{runtime} · {milliseconds:.0f} ms · {width} × {height} · {writer.frames} / {video.total or '?'}"
        yield class_table(facts, result, counts)


def _plausible_rate(rate: float) -> float:
    """The frames per second; 25 if the file says more than 240, as a browser's recordings do."""
    return rate if rate <= 240 else 25.0
