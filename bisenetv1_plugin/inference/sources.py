"""Find and read the input pictures: images, folders, lists, videos and cameras."""

from __future__ import annotations

import io
import os
import re
from typing import Callable, Iterator, Mapping, NamedTuple, Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from bisenetv1_plugin.errors import InputError, brief
from bisenetv1_plugin.files import is_stream, made_by
from bisenetv1_plugin.image_files import (
    MOST_PIXELS,
    READ_ERRORS,
    decode_bytes,
    has_reader,
    header,
    is_regular,
    open_image,
    read_bytes,
)
from bisenetv1_plugin.inference.pyarrow_files import PyArrowFolder, hide_secret, is_address
from bisenetv1_plugin.inference.video_reader import VIDEOS, Frames, is_camera

_IMAGES = (".jpeg", ".jpg", ".bmp", ".png", ".tif", ".tiff")  # upstream's, and TIFF
_CUT_OFF = "copy or download it again"
_NO_READER = "OpenCV does not read this kind: save it as PNG or JPEG"


def list_images(image_path: str, skip: Sequence[str] = ()) -> list[str]:
    """The image files of a path: an image, a folder, or a list with one image per line (later words are ignored).

    Args:
        image_path: the path.
        skip: subfolders to skip, such as those of the results.

    Raises:
        InputError: the path does not exist, or has no image.
        OSError: a list cannot be read.
    """
    if os.path.isdir(image_path):
        paths = _list_folder(image_path, skip)
    elif not is_regular(image_path):
        shown = hide_secret(image_path)
        raise InputError(f"there is no {shown}: name an image, a list of images or a folder of them.")
    elif image_path.lower().endswith(_IMAGES) or has_reader(image_path):
        paths = [image_path]
    else:
        paths = _read_list(image_path)
    if not paths:
        endings = ", ".join(_IMAGES)
        if os.path.isdir(image_path):
            raise InputError(
                f"{image_path} has no image that ends with {endings}; results of these commands do not count. "
                "Name other images, such as .webp, in a list, one path a line."
            )
        raise InputError(f"{image_path} names no image; an image ends with {endings}.")
    return sorted(set(paths))


class Picture(NamedTuple):
    """A picture: its name, its pixels (uint8 BGR `[H, W, 3]`), and the time of a frame in seconds."""

    name: str
    pixels: np.ndarray
    seconds: float = 0.0


class Pictures:
    """An iterable of `Picture` from files: a `Source` or a part of it.

    Args:
        paths: the files, by the pictures' names.
        read: returns the argument of `decode` for a path; default: the path itself.
        folder: the folder that paths are shown relative to.

    Attributes:
        frames (Frames, optional): the video or camera; None for files.
        total (int, optional): the number of pictures; None for a camera, or a video of unknown length.
        done (int): the number of pictures read so far, including unreadable ones.
        faults (list[str]): a sentence for each picture that was skipped.
    """

    frames: Frames | None = None
    total: int | None

    def __init__(self, paths: Mapping[str, str], read: Callable[[str], str | bytes] = str, folder: str = "") -> None:
        self._files, self.read, self.folder = dict(paths), read, folder
        self.total = len(self._files)
        self.done = 0
        self.faults: list[str] = []

    @property
    def live(self) -> bool:
        """Whether it is a camera."""
        return self.frames is not None and self.frames.live

    def names(self) -> list[str]:
        """The names of the pictures; for a video or camera, the prefix of the names of its frames."""
        return [self.frames.name] if self.frames else list(self._files)

    def paths_by_name(self) -> dict[str, str]:
        """The paths of the pictures, by their names."""
        return self._files

    def __iter__(self) -> Iterator[Picture]:
        for name, path in self._files.items():
            self.done += 1
            try:
                pixels = decode(self.read(path))
            except InputError as error:
                self.faults.append(f"{path} cannot be read and was left out ({error}).")
            else:
                yield Picture(name, pixels)


class Source(Pictures):
    """An iterable of `Picture` from a path, a video or a camera.

    Args:
        image_path: an image, a list of images, a folder of them, a video, the number of a camera, or the address
            of an image or a folder, see `pyarrow_files`.
        keep_folders: a picture's name is its path relative to the folder, with the ending; otherwise its base name.
        skip: see `list_images`.

    Attributes:
        frames, total, done, faults, folder: see `Pictures`.
        paths (list[str]): the local files: the pictures, their list, or the video.

    Raises:
        InputError: the path does not exist, no picture can be read, or two results would have the same name.
    """

    def __init__(self, image_path: str, keep_folders: bool = False, skip: Sequence[str] = ()) -> None:
        is_file = not (os.path.isdir(image_path) or is_address(image_path))
        is_video = is_camera(image_path) or (image_path.lower().endswith(VIDEOS) and is_file)
        super().__init__({})
        self.frames = Frames(image_path) if is_video else None
        self._unreadable: list[str] = []
        self.folder = image_path if os.path.isdir(image_path) else os.path.dirname(image_path)
        self._root = os.path.abspath(self.folder) if keep_folders else None
        self.paths = [] if os.path.isdir(image_path) or self.live else [image_path]
        if self.frames:
            self.total = self.frames.total
        elif is_address(image_path) and not keep_folders:
            remote = PyArrowFolder(image_path)
            found = remote.list_images(_IMAGES, skip)
            self._set_files(found)
            self.folder, self.read = remote.folder, remote.read
            self.paths = [address.partition("://")[2] for address in found] if remote.is_local else []
        else:
            found = list_images(image_path, skip)
            readable = [path for path in found if has_reader(path)]
            self.paths += readable
            others = set(found).difference(readable)
            self._unreadable = [
                f"{path} cannot be read and was left out ({_find_damage(path) or _NO_READER})."
                for path in found
                if path in others
            ]
            if not readable:
                raise InputError(f"None of the {len(found)} images of {image_path} can be read: {self._unreadable[0]}")
            self._set_files(readable)
        self.rewind()

    def _set_files(self, paths: Sequence[str]) -> None:
        seen: dict[str, str] = {}
        for path in paths:
            name = self._name(path) if self._root is None else os.path.splitext(self._name(path))[0]
            other = seen.setdefault(name, path)
            if other != path:
                raise InputError(f"{other} and {path} would both give {name}.png: run them separately.")
        self._files = {self._name(path): path for path in paths}
        self.total = len(self._files) + len(self._unreadable)

    def skip_done(self, is_done: Callable[[str], bool]) -> None:
        """Remove the pictures that are done, by name. `paths` keeps them, because they must not be overwritten."""
        self._files = {name: path for name, path in self._files.items() if not is_done(name)}
        self.total = len(self._files) + len(self._unreadable)

    def frame_files(self, folder: str) -> list[str]:
        """The files in a folder that are named like frames of this video, because the number of frames is unknown."""
        frame = re.compile(re.escape(self.names()[0]) + r"_\d{6,}\.png")
        present = os.listdir(folder) if os.path.isdir(folder) else []
        return [os.path.join(folder, name) for name in present if frame.fullmatch(name)]

    def exclude(self, fault: Callable[[int, int], str | None]) -> None:
        """Remove the pictures for whose width and height `fault` returns a reason, a sentence.

        Only the headers of local files are read.

        Raises:
            InputError: no picture is left.
        """
        if self.read is not str:  # each file would be downloaded twice
            return
        reasons = {name: _fault_of_size(path, fault) for name, path in self._files.items()}
        faults = {name: reason for name, reason in reasons.items() if reason}
        if not faults:
            return
        if len(faults) == len(self._files):
            name, reason = next(iter(faults.items()))
            raise InputError(
                f"None of the {len(faults)} images fits. " * (len(faults) > 1) + f"{self._files[name]}: {reason}"
            )
        self._unreadable += [f"{self._files[name]} was left out: {reason}" for name, reason in faults.items()]
        self._files = {name: path for name, path in self._files.items() if name not in faults}
        self.rewind()

    def rewind(self) -> None:
        """Start again."""
        self.done = len(self._unreadable)
        self.faults = list(self._unreadable)
        if self.frames:
            self.frames.rewind()

    def __iter__(self) -> Iterator[Picture]:
        return self._read_frames(self.frames) if self.frames else super().__iter__()

    def _read_frames(self, frames: Frames) -> Iterator[Picture]:
        for name, pixels in frames:
            self.done += 1
            yield Picture(name, pixels, frames.seconds)
        if frames.fault:
            self.faults.append(frames.fault)

    def _name(self, path: str) -> str:
        if self._root is None:
            return os.path.splitext(os.path.basename(path))[0]
        # A picture outside the list's folder keeps its whole path inside the results' folder.
        below = os.path.relpath(path, self._root)
        return os.path.abspath(path).lstrip("/\\") if below.startswith(os.pardir) else below


def _fault_of_size(path: str, fault: Callable[[int, int], str | None]) -> str | None:
    try:
        return fault(*header(path).stored_size)
    except READ_ERRORS:  # reported when the picture is read
        return None


def decode(file: str | bytes) -> np.ndarray:
    """The pixels of an image file, from its path or content: uint8 BGR `[H, W, 3]`.

    Raises:
        InputError: the image cannot be read; the message is the reason.
    """
    # OpenCV silently fills the missing part of a truncated image; Pillow raises an error.
    try:
        why = _find_damage(file)
        if why:
            raise InputError(why)
        pixels = decode_bytes(file if isinstance(file, bytes) else read_bytes(file))
    except MemoryError as error:
        raise InputError("it needs more memory than there is: make it smaller, or cut it into tiles") from error
    except OSError as error:  # the file is too large, or was just deleted
        raise InputError(error.strerror or str(error)) from error
    if pixels is None:
        raise InputError(_NO_READER)
    return pixels


def _find_damage(file: str | bytes) -> str:
    """Why a file cannot be read, with the cure; an empty string if it is intact."""
    try:
        if isinstance(file, str) and is_stream(file):
            return "it is not a regular file: save its content as a file"
        if not (len(file) if isinstance(file, bytes) else os.path.getsize(file)):
            return f"it is empty: {_CUT_OFF}"
        with io.BytesIO(file) if isinstance(file, bytes) else open(file, "rb") as content, open_image(content) as image:
            image.draft("L", (1, 1))  # halves the time; a JPEG is still read to its end
            image.load()
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        more = ", or see infer --is_slide" * (most < MOST_PIXELS)
        return f"it has more than {most} pixels: cut it into tiles{more}"
    except UnidentifiedImageError:
        return "it is not an image, despite its name"
    except PermissionError:
        return "permission denied: ask for permission to read it"
    except OSError as error:
        return error.strerror or f"{brief(error)}: {_CUT_OFF}"
    except READ_ERRORS as error:
        return f"{brief(error)}: {_CUT_OFF}"
    return ""


def _list_folder(folder: str, skip: Sequence[str]) -> list[str]:
    found: list[str] = []
    # An unreadable folder is reported like an unreadable image.
    for inner, folders, names in os.walk(folder, onerror=lambda error: found.append(error.filename)):
        for left_out in filter(os.path.isdir, skip):
            folders[:] = [name for name in folders if not os.path.samefile(os.path.join(inner, name), left_out)]
        if ".ipynb_checkpoints" not in inner:
            images = (name for name in names if name.lower().endswith(_IMAGES) and not name.startswith("."))
            paths = (os.path.join(inner, name) for name in images)
            found.extend(path for path in paths if not _is_result(path))
    return found


def _is_result(path: str) -> bool:
    """Whether a command of this package wrote a picture: results beside the input are not input."""
    try:
        return is_regular(path) and made_by()(path)
    except OSError:  # reported when the picture is read
        return False


def _read_list(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8-sig") as file:  # on every system
            text = file.read()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InputError(
            f"{path} is neither an image that OpenCV reads nor a list of images (UTF-8 text): save it as PNG."
        )
    folder = os.path.dirname(path)
    return [_path_in_line(folder, line.strip()) for line in text.split("\n") if line.strip()]


def _path_in_line(folder: str, line: str) -> str:
    """The image at the start of a line: the longest existing path, because names may have spaces, or the first word."""
    for later_words in range(len(line.split())):
        path = os.path.join(folder, line.rsplit(maxsplit=later_words)[0])
        if os.path.isfile(path):
            break
    return path
