"""Read pictures through PyArrow's file systems: `s3://`, `gs://`, `abfs://`, `hdfs://` and `file://`."""

from __future__ import annotations

import os
import re
from typing import Sequence

from bisenetv1_plugin.errors import InputError, brief
from bisenetv1_plugin.libraries import optional_library

_CLOUDS = ("s3", "gs", "gcs", "abfs", "abfss")
_SCHEMES = ("file", *_CLOUDS, "hdfs", "viewfs")


def is_address(path: str) -> bool:
    """Whether a path is an address such as `s3://bucket/photos`, not a local path."""
    scheme, separator, _ = path.partition("://")
    return bool(separator) and scheme in _SCHEMES


def hide_secret(path: str) -> str:
    """A path, address or argument without its `KEY:SECRET@` and its secret options, for logs and messages."""
    before, separator, rest = path.partition("://")
    if not separator:
        return path
    # A secret may contain a `/` that should be %2F. In an address of no cloud, `:8020/` is a port.
    port = "" if before.rpartition("=")[2] in _CLOUDS else r"(?!\d+/)"
    rest = re.sub(rf"(?s)^([^/@:]*:{port}.*@|[^/]*@)", "", rest)
    return before + separator + re.sub(r"(?i)([?&][^=&]*(?:key|password|secret|sig|token)[^=&]*=)[^&]*", r"\1...", rest)


class PyArrowFolder:
    """An image or a folder of images at an address. Instances can be pickled.

    Args:
        address: an address for PyArrow's `FileSystem.from_uri`; options follow its `?`.

    Attributes:
        folder (str): the address without options; the addresses of the images begin with it.
        is_local (bool): whether it is on this machine.

    Raises:
        InputError: PyArrow is not installed, or the address cannot be read.
    """

    def __init__(self, address: str) -> None:
        fs = optional_library("pyarrow.fs", "ray")
        shown = hide_secret(address)
        try:
            self._filesystem, self._path = fs.FileSystem.from_uri(address)
            kind = self._filesystem.get_file_info(self._path).type
        except (OSError, ValueError) as error:
            # PyArrow quotes the address, or what follows its scheme.
            reason = brief(str(error).replace(address.partition("://")[2], shown.partition("://")[2]))
            raise InputError(f"{shown} cannot be read ({reason}).") from None
        if kind == fs.FileType.NotFound:
            raise InputError(f"{shown} does not exist: name an image or a folder of images.")
        self._is_folder = kind == fs.FileType.Directory
        self._prefix = f"{address.partition('://')[0]}://"
        self.is_local = self._prefix == "file://"
        path = self._path if self._is_folder else self._path.rpartition("/")[0]
        self.folder = self._prefix + path.rstrip("/")

    def list_images(self, endings: tuple[str, ...], skip: Sequence[str] = ()) -> list[str]:
        """The addresses of the images with one of these endings, without those in the local folders `skip`.

        Raises:
            InputError: there are no images, or the folder cannot be listed.
        """
        if not self._is_folder:
            return [self._prefix + self._path]
        selector = optional_library("pyarrow.fs", "ray").FileSelector(self._path, recursive=True)
        try:
            infos = [info for info in self._filesystem.get_file_info(selector) if info.is_file]
        except OSError as error:
            raise InputError(f"{self.folder} cannot be listed ({brief(error)}).") from error
        if self.is_local:
            skipped = tuple(os.path.join(os.path.realpath(folder), "") for folder in skip)
            infos = [info for info in infos if not os.path.realpath(info.path).startswith(skipped)]
        images = [info for info in infos if info.path.lower().endswith(endings) and info.base_name[0] != "."]
        if not images:
            raise InputError(f"{self.folder} contains no image; an image ends with {', '.join(endings)}.")
        return sorted(self._prefix + info.path for info in images)

    def read(self, address: str) -> bytes:
        """The content of one image.

        Raises:
            InputError: the image cannot be read; the message is the reason.
        """
        try:
            with self._filesystem.open_input_stream(address[len(self._prefix) :]) as file:
                return file.read()
        except OSError as error:
            raise InputError(brief(error)) from error
