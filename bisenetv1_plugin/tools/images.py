"""Which images a tool was given, and which of them cannot be read."""

import os
import sys

from bisenetv1_plugin.tools.errors import UserError


def listed(image_path):
    """The images behind `--image_path` (an image, a list file or a folder), sorted into readable and unreadable.

    Raises:
        UserError: nothing is there, or no image can be read.
    """
    import cv2
    from paddleseg.utils import get_image_list

    try:
        paths, _ = get_image_list(image_path)
    except (FileNotFoundError, RuntimeError, UnicodeDecodeError) as error:
        raise UserError(f"--image_path names {image_path}, which is no image, image list or folder: {error}") from error
    readable = [path for path in sorted(set(paths)) if cv2.haveImageReader(path)]
    unreadable = sorted(set(paths) - set(readable))
    if not readable:
        raise UserError(f"None of the {len(unreadable)} images of {image_path} can be read: {unreadable[0]} ...")
    return readable, unreadable


def root(image_path):
    """The folder that the results' names are relative to, as upstream has it: None for a single image."""
    if os.path.isdir(image_path):
        return image_path
    return None if image_path.lower().endswith((".jpeg", ".jpg", ".bmp", ".png")) else os.path.dirname(image_path)


def report(unreadable):
    """Name the images that were left out; returns the exit code."""
    for path in unreadable:
        print(f"bisenetv1: {path} cannot be read and was left out.", file=sys.stderr)
    return 1 if unreadable else 0
