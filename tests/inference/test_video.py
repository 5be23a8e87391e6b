"""Videos and cameras in `infer`: every frame once, in order, at its time, in a complete file or none."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from bisenetv1_plugin import files
from bisenetv1_plugin.cli import main
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference import overlay_window, video_reader, video_writer
from bisenetv1_plugin.inference.mask_files import MADE_BY
from bisenetv1_plugin.inference.sources import Source


@pytest.fixture
def infer(dynamic, tmp_path):
    """Runs `infer` into `tmp_path / "out"`; returns the exit code."""

    def run(image_path, *arguments):
        flags = ["--config", dynamic / "deploy.yaml", "--image_path", image_path, "--save_dir", tmp_path / "out"]
        flags += ["--device", "cpu", "--cpu_threads", 1, *arguments]
        return main(["infer", *map(str, flags)])

    return run


def crops(small, count, size=(96, 64)):
    """Crops of a scene, each shifted by a step, so all differ."""
    width, height = size
    scene = cv2.imread(str(sorted(small.images.iterdir())[0]))
    scene = cv2.resize(scene, (width + 3 * count, height + 3 * count), interpolation=cv2.INTER_CUBIC)
    return [np.ascontiguousarray(scene[3 * i : 3 * i + height, 3 * i : 3 * i + width]) for i in range(count)]


def opencv_video(path, pictures, rate=10, fourcc="MJPG"):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*fourcc), rate, pictures[0].shape[1::-1])
    for picture in pictures:
        writer.write(picture)
    writer.release()
    return path


def timed_video(path, pictures, times):
    """H.264 whose frames are shown at `times`, in tenths of a second, with frames that depend on later ones."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", 10, options={"bf": "2", "crf": "10"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 10)
        for picture, when in zip(pictures, times):
            frame = av.VideoFrame.from_ndarray(picture, "bgr24")
            frame.pts, frame.time_base = when, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read(path):
    """The frames of a video and its frame rate."""
    video = cv2.VideoCapture(str(path))
    rate, found = video.get(cv2.CAP_PROP_FPS), []
    while True:
        more, picture = video.read()
        if not more:
            return found, rate
        found.append(picture)


def times_of(path):
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def nearest(picture, others):
    """The index of the most similar picture."""
    return int(np.argmin([np.square(picture.astype(float) - other).mean() for other in others]))


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.slow
def test_frames_equal_images_in_order(small, infer, tmp_path, capsys, batch_size):
    """Each frame's overlay is most similar to that of the same frame as an image."""
    path = opencv_video(tmp_path / "drive.avi", crops(small, 16), rate=12)
    frames, _ = read(path)
    assert infer(path, "--save_video", "--batch_size", batch_size) == 0
    assert os.listdir(tmp_path / "out") == ["drive_overlay.mp4"], "a mask a frame was not asked for"
    printed = capsys.readouterr().out
    assert "16 frames in" in printed and "times as fast as the video (1.3 s) plays" in printed
    found, rate = read(tmp_path / "out" / "drive_overlay.mp4")
    (tmp_path / "frames").mkdir()
    for index, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / "frames" / f"{index:03d}.png"), frame)
    assert infer(tmp_path / "frames", "--overlay") == 0
    overlays = [cv2.imread(str(path)) for path in sorted((tmp_path / "out" / "overlay").iterdir())]
    # The legend shows all classes in a video, but only the picture's classes in an image.
    found, overlays = [[picture[: frames[0].shape[0]] for picture in each] for each in (found, overlays)]
    assert len(found) == len(overlays) == 16 and rate == 12
    assert [nearest(picture, overlays) for picture in found] == list(range(16))
    assert max(cv2.absdiff(picture, overlay).mean() for picture, overlay in zip(found, overlays)) < 8


def test_save_masks(small, infer, tmp_path):
    path = opencv_video(tmp_path / "drive.avi", crops(small, 2))
    assert infer(path, "--save_video", "--save_masks", "True") == 0
    names = ["drive_000001.png", "drive_000002.png"]
    assert sorted(os.listdir(tmp_path / "out")) == ["color", *names, "drive_overlay.mp4"]
    assert sorted(os.listdir(tmp_path / "out" / "color")) == names


def test_frame_of_odd_and_changing_size(small, infer, tmp_path):
    """Like a recorded stream: consecutive JPEGs, without the number of frames."""
    odd, other = crops(small, 1, (97, 65))[0], crops(small, 1, (50, 40))[0]
    for pictures in ([odd], [odd, other]):
        (tmp_path / "stream.avi").write_bytes(b"".join(cv2.imencode(".jpg", each)[1].tobytes() for each in pictures))
        assert Source(str(tmp_path / "stream.avi")).total is None
        assert infer(tmp_path / "stream.avi", "--save_video") == 0
        found, _ = read(tmp_path / "out" / "stream_overlay.mp4")
        (height, width, _), *others = [picture.shape for picture in found]
        assert height > 66 and height % 2 == 0 and width == 98, "the picture and the legend below it"
        assert others == [(height, width, 3)] * (len(pictures) - 1)


def turn(path, across, down):
    """Write a rotation matrix into a file's header, as phones do: a step to the right is shown as (across, down)."""
    content = path.read_bytes()
    matrix = content.index(b"tkhd") + 44
    turned = (across << 16, down << 16, 0, -down << 16, across << 16, 0, 0, 0, 1 << 30)
    turned = b"".join(value.to_bytes(4, "big", signed=True) for value in turned)
    path.write_bytes(content[:matrix] + turned + content[matrix + 36 :])


@pytest.mark.parametrize("ending", ["avi", "mp4", "webm", "mkv", "turned.mp4", "upside.mp4", "left.mp4"])
def test_pixels_equal_opencv(small, tmp_path, ending):
    fourcc = {"avi": "MJPG", "webm": "VP80"}.get(ending, "mp4v")
    path = opencv_video(tmp_path / f"drive.{ending}", crops(small, 5), fourcc=fourcc)
    across, down = {"turned.mp4": (0, 1), "upside.mp4": (-1, 0), "left.mp4": (0, -1)}.get(ending, (1, 0))
    if (across, down) != (1, 0):
        turn(path, across, down)
    reader = video_reader.VideoReader(str(path))
    (seconds, pixels), (expected, rate) = zip(*reader), read(path)
    assert np.array_equal(pixels, expected) and pixels[0].flags.c_contiguous
    assert np.allclose(seconds, np.arange(5) / 10, atol=0.001) and reader.rate == rate == 10
    assert (reader.total, reader.fault) == (5, None)


def test_damaged_frames_are_skipped(small, tmp_path):
    """Frames after the damage are read too."""
    path = opencv_video(tmp_path / "drive.avi", crops(small, 9))
    content = bytearray(path.read_bytes())
    at = [place for place in range(len(content)) if content.startswith(b"\xff\xd8\xff", place)]
    content[at[3] : at[4] - 16] = bytes(at[4] - 16 - at[3])
    path.write_bytes(content)
    reader = video_reader.VideoReader(str(path))
    assert len(list(reader)) == 8 and "ends after frame 8 of 9: the rest cannot be read" in reader.fault


def test_without_pyav(tmp_path, small, monkeypatch):
    path = opencv_video(tmp_path / "drive.avi", crops(small, 1))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"pip install '\.\[deploy\]'"):
        Source(str(path))


def test_rotated_video_is_upright(small, infer, tmp_path):
    path = opencv_video(tmp_path / "phone.mp4", crops(small, 3), fourcc="mp4v")
    turn(path, 0, 1)
    assert infer(path, "--save_video") == 0
    shapes = [picture.shape for picture in read(tmp_path / "out" / "phone_overlay.mp4")[0]]
    assert len(shapes) == 3 and {width for _, width, _ in shapes} == {64} and min(shapes)[0] > 96


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_variable_frame_rate(small, infer, tmp_path, capsys, ending):
    """Each frame has its own time, and no frame is reported as missing."""
    times = [0, 1, 2, 3, 4, 5, 8, 12, 13, 30]
    path = timed_video(tmp_path / f"phone.{ending}", crops(small, 10), times)
    assert infer(path, "--save_video") == 0, capsys.readouterr().err
    found = times_of(tmp_path / "out" / "phone_overlay.mp4")
    assert np.allclose(found, np.array(times) / 10, atol=0.001)
    assert "times as fast as the video (3.1 s) plays" in capsys.readouterr().out


@pytest.mark.parametrize("ending", ["avi", "mkv"])
@pytest.mark.slow
def test_truncated_video(small, infer, tmp_path, capsys, ending):
    """The readable frames are kept, and the exit code is 1."""
    path = opencv_video(tmp_path / f"cut.{ending}", crops(small, 20))
    os.truncate(path, path.stat().st_size * 2 // 3)
    there = len(read(path)[0])
    assert 5 < there < 20
    assert infer(path, "--save_video") == 1
    assert f"ends after frame {there} of 20: the rest cannot be read" in capsys.readouterr().err
    assert len(read(tmp_path / "out" / "cut_overlay.mp4")[0]) == there


def test_invalid_flags(small, infer, tmp_path, capsys, monkeypatch):
    """Errors are raised before anything is written."""
    (tmp_path / "empty.mp4").write_bytes(b"")
    whole = opencv_video(tmp_path / "whole.mp4", crops(small, 20), fourcc="mp4v").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    monkeypatch.delenv("DISPLAY", raising=False)
    for path, flags, sentence in (
        (tmp_path / "empty.mp4", [], "it is empty"),
        (tmp_path / "cut.mp4", [], "cut off or damaged: copy or download it again"),
        (tmp_path / "whole.mp4", ["--save_masks", "False"], "there would be no output"),
        (tmp_path / "whole.mp4", ["--show"], "omit --show"),
        (small.images, ["--save_video"], "--save_video and --show are for a video or a camera"),
        (77, ["--save_video"], "there is no camera 77 that OpenCV can open, and no file of that name"),
    ):
        assert infer(path, *flags) == 2
        assert sentence in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_no_frame_fits(small, logits, tmp_path, capsys):
    """An export for 96x64 and a larger video: no empty video is written, and an earlier one is kept."""
    path = opencv_video(tmp_path / "large.avi", crops(small, 3, (128, 64)))
    files.write(tmp_path / "large_overlay.mp4", b"earlier", MADE_BY)
    flags = ["--config", logits / "deploy.yaml", "--image_path", path, "--save_dir", tmp_path, "--device", "cpu"]
    assert main(["infer", *map(str, flags), "--with_argmax", "--save_video"]) == 1
    printed = capsys.readouterr()
    assert "large_000003 was left out" in printed.err and "The video is" not in printed.out
    assert (tmp_path / "large_overlay.mp4").read_bytes().startswith(b"earlier")


def test_ctrl_c(small, infer, tmp_path, capsys, monkeypatch):
    """No partial video is left, and an earlier one is kept."""
    path = opencv_video(tmp_path / "drive.avi", crops(small, 30))
    (tmp_path / "out").mkdir()
    files.write(tmp_path / "out" / "drive_overlay.mp4", b"earlier", MADE_BY)
    write = video_writer.OverlayVideo.write

    def interrupted(self, *arguments):
        write(self, *arguments)
        if self.frames == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(video_writer.OverlayVideo, "write", interrupted)
    assert infer(path, "--save_video") == 130
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("bisenetv1: stopped at ") and told.endswith("; no video was written.")
    assert os.listdir(tmp_path / "out") == ["drive_overlay.mp4"]
    assert (tmp_path / "out" / "drive_overlay.mp4").read_bytes().startswith(b"earlier")


@pytest.mark.slow
def test_full_disk(tmp_path):
    """The file size limit simulates a full disk: the error names the video."""
    code = """
import resource, numpy as np
from bisenetv1_plugin import files
from bisenetv1_plugin.inference.engine import SegmentedPicture
from bisenetv1_plugin.inference.sources import Picture
from bisenetv1_plugin.inference.video_writer import OverlayVideo
resource.setrlimit(resource.RLIMIT_FSIZE, (100000, -1))
random = np.random.RandomState(0)
mask = np.zeros((64, 96), "uint8")
try:
    with OverlayVideo("a.mp4", 10) as made:
        for index in range(200):
            made.write(SegmentedPicture(Picture("", random.randint(0, 255, (64, 96, 3), "uint8"), index / 10), mask))
except OSError as error:
    print(files.refusal(error))
"""
    (tmp_path / "a.mp4").write_text("earlier")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "a.mp4: the file is larger than is allowed here" in done.stdout, done.stderr
    assert os.listdir(tmp_path) == ["a.mp4"] and (tmp_path / "a.mp4").read_text() == "earlier"


class Camera:
    """Gives 20 frames a second, endlessly or up to `last`; `then` is called at the tenth."""

    def __init__(self, pictures, then=lambda: None, last=None):
        self.pictures, self.then, self.last, self.taken = pictures, then, last, 0

    def isOpened(self):
        return True

    def get(self, what):
        return {cv2.CAP_PROP_FPS: 20.0}.get(what, 0.0)

    def read(self):
        self.taken += 1
        if self.taken == 10:
            self.then()
        if self.last and self.taken > self.last:
            return False, None
        time.sleep(0.05)
        return True, self.pictures[self.taken % len(self.pictures)]


@pytest.fixture
def camera(monkeypatch, small):
    """Replace OpenCV's camera 0; files are opened as usual."""
    opened = cv2.VideoCapture

    def plug_in(**options):
        found = Camera(crops(small, 8), **options)
        monkeypatch.setattr(cv2, "VideoCapture", lambda what, *rest: found if what == 0 else opened(what, *rest))
        return found

    return plug_in


class TestCamera:
    def test_ctrl_c_keeps_all_frames(self, infer, camera, tmp_path, capsys):
        camera(then=lambda: os.kill(os.getpid(), signal.SIGINT))
        before = signal.getsignal(signal.SIGINT)
        assert infer(0, "--save_video") == 0
        assert signal.getsignal(signal.SIGINT) is before
        found = times_of(tmp_path / "out" / "camera0_overlay.mp4")
        printed = capsys.readouterr().out
        assert len(found) >= 9 and "frames in" in printed and "times as fast" not in printed
        assert np.diff(found).min() > 0.03, "a frame is shown when it was taken"

    def test_unplugged(self, infer, camera, tmp_path, capsys):
        camera(last=3)
        assert infer(0, "--save_masks", "True") == 1
        assert "camera 0 sent nothing more after frame 3" in capsys.readouterr().err
        assert len(list((tmp_path / "out").glob("camera0_*.png"))) == 3

    def test_needs_an_output_flag(self, infer, camera, tmp_path, capsys):
        camera()
        assert infer(0) == 2
        assert "give --show, --save_video or --save_masks True" in capsys.readouterr().err

    def test_predict_refuses_a_camera(self, small, camera, capsys):
        camera()
        flags = ["--config", small.config, "--model_path", small.weights, "--image_path", 0]
        assert main(["predict", *map(str, flags)]) == 2
        assert "predict cannot read a camera" in capsys.readouterr().err

    @pytest.mark.parametrize("end", ["q", "closed"])
    def test_show(self, infer, camera, tmp_path, monkeypatch, end):
        """The key q or the close button ends it; only one thread uses the window."""
        camera(last=60)  # a limit, in case the window does not end it
        shown, threads = [], set()
        monkeypatch.setattr(overlay_window.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0))

        def show(title, picture):
            shown.append(picture)
            threads.add(threading.current_thread())

        monkeypatch.setattr(cv2, "imshow", show)
        monkeypatch.setattr(cv2, "waitKey", lambda _: ord("q") if end == "q" and len(shown) == 3 else -1)
        monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 0.0 if end == "closed" and len(shown) == 3 else 1.0)
        assert infer(0, "--show", "--save_video") == 0
        assert len(shown) == 3 and threads == {threading.main_thread()}
        assert 3 <= len(read(tmp_path / "out" / "camera0_overlay.mp4")[0]) < 40


EBML, SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"


def box(kind, content):
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def test_edit_list_is_not_reported_as_truncation(small, infer, tmp_path, capsys):
    """An edit list omits the first frames, like a trim on a phone, but OpenCV counts them."""
    path = timed_video(tmp_path / "whole.mp4", crops(small, 12), range(12))
    content = path.read_bytes()
    at = content.index(b"elst") - 4
    start = at + 4 + 4 + 4 + 4 + 4  # size, kind, version, number of entries, duration: then the time in the media
    assert content[at + 8] == 0 and int.from_bytes(content[at + 12 : at + 16], "big") == 1
    ticks = int.from_bytes(content[start : start + 4], "big")
    scale = int.from_bytes(content[content.index(b"mdhd") + 16 :][:4], "big")
    trimmed = tmp_path / "trimmed.mp4"
    trimmed.write_bytes(content[:start] + (ticks + 5 * scale // 10).to_bytes(4, "big") + content[start + 4 :])
    shown = len(read(trimmed)[0])
    assert 0 < shown < 12 and cv2.VideoCapture(str(trimmed)).get(cv2.CAP_PROP_FRAME_COUNT) == 12, "a case of it"
    assert infer(trimmed, "--save_video") == 0
    assert f"{shown} frames in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "is_cut"),
    [
        (box(b"ftyp", b"isom") + box(b"mdat", bytes(99)), False),
        (box(b"ftyp", b"isom") + box(b"mdat", bytes(99))[:-1], True),
        (box(b"ftyp", b"isom") + bytes(4) + b"mdat" + b"\xff" * 9, False),  # extends to the end of the file
        (bytes([0, 0, 0, 1]) + b"mdat" + (116).to_bytes(8, "big") + bytes(100), False),
        (bytes([0, 0, 0, 1]) + b"mdat" + (117).to_bytes(8, "big") + bytes(100), True),
        (EBML + b"\x84abcd" + SEGMENT + b"\x8a" + bytes(10), False),
        (EBML + b"\x84abcd" + SEGMENT + b"\x8b" + bytes(10), True),
        (EBML + b"\x84abcd" + SEGMENT + b"\x01" + (200).to_bytes(7, "big") + bytes(200), False),
        (EBML + b"\x84abcd" + SEGMENT + b"\x01" + (201).to_bytes(7, "big") + bytes(200), True),
        (EBML + b"\x84abcd" + SEGMENT + b"\x01" + b"\xff" * 7 + bytes(10), False),  # unknown size
        (EBML + b"\x84ab", False),
    ],
)
def test_declared_end(content, is_cut):
    assert (video_reader._declared_end(io.BytesIO(content)) > len(content)) == is_cut


def test_predict_on_a_video_with_dots_in_its_name(small, tmp_path):
    path = opencv_video(tmp_path / "drive.1080p.avi", crops(small, 3))
    flags = ["--config", small.config, "--model_path", small.weights, "--device", "cpu"]
    assert main([*map(str, ["predict", *flags, "--image_path", path, "--save_dir", tmp_path / "out"])]) == 0
    names = [f"drive.1080p_{number:06d}.png" for number in (1, 2, 3)]
    for folder in ("added_prediction", "pseudo_color_prediction"):
        assert sorted(os.listdir(tmp_path / "out" / folder)) == names


def test_names_that_look_like_something_else(small, tmp_path):
    (tmp_path / "clip.mp4").mkdir()
    cv2.imwrite(str(tmp_path / "clip.mp4" / "one.png"), crops(small, 1)[0])
    assert [picture.name for picture in Source(str(tmp_path / "clip.mp4"))] == ["one"], "a folder"
    with pytest.raises(InputError, match="there is no 20240611093000"):
        Source("20240611093000")
