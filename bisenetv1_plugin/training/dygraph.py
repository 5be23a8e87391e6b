"""Trained weights on images, in dygraph: masks and overlays as PaddleSeg's `predict` writes them.

The inference is upstream's. What is around it is not: upstream's `predict` reads the weights again with `paddle.load`,
takes what OpenCV makes of a damaged image for whole, and writes with `cv2.imwrite`, which reports success where a disk
is full.
"""

from __future__ import annotations

import io
import os
import re
from typing import Any, Callable, Sequence

import cv2
import numpy as np
import paddle
from paddleseg.core import infer
from paddleseg.utils import visualize

from bisenetv1_plugin import files
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.engine import naming_memory
from bisenetv1_plugin.inference.postprocess import check_classes
from bisenetv1_plugin.inference.preprocess import Preparation
from bisenetv1_plugin.inference.sinks import write_picture
from bisenetv1_plugin.inference.sources import Source

MADE_BY = "predict"  # see `files.whole_file`


def predict(
    model: paddle.nn.Layer,
    prepare: Preparation,
    source: Source,
    save_dir: str,
    custom_color: Sequence[int] | None = None,
    step: Callable[[], object] = lambda: None,
    **options: Any,
) -> None:
    """Write added_prediction/NAME and pseudo_color_prediction/NAME.png of every picture; `source.faults` has the rest.

    Args:
        model (paddle.nn.Layer): in evaluation mode.
        prepare (Preparation): pixels to what the network takes.
        source (Source): the pictures.
        save_dir (str): where to write.
        custom_color (sequence[int], optional): R G B R G B ...; default: PaddleSeg's colours.
        step (callable): called after every picture; `source.done` says how far it is.
        **options: of upstream's `inference` or, with `aug_pred`, `aug_inference`.

    Raises:
        OSError: a file cannot be written; it is not there then.
    """
    colors = visualize.get_color_map_list(256, custom_color=custom_color)
    bgr = np.array(colors, "uint8").reshape(-1, 3)[:, ::-1]
    for name, pixels in source:
        try:
            mask, _ = segment(model, prepare, pixels, **options)
        except InputError as error:
            source.faults.append(f"{name} was left out: {error}")
            continue
        added, pseudo_color = results(save_dir, name, is_frame=source.frames is not None)
        write_picture(added, cv2.addWeighted(pixels, 0.6, bgr[mask], 0.4, 0), MADE_BY)
        encoded = io.BytesIO()
        visualize.get_pseudo_color_map(mask, colors).save(encoded, format="PNG")
        files.write(pseudo_color, encoded.getvalue(), MADE_BY)
        step()


def results(save_dir: str, name: str, is_frame: bool) -> tuple[str, str]:
    """The paths that the picture of this name is written to, overlay and mask."""
    added, pseudo_color = folders(save_dir)
    stem, ending = (name, "") if is_frame else os.path.splitext(name)  # a frame's name may have dots
    ending = ending if ending and _takes_colours(ending) else ".png"
    return files.below(added, f"{stem}{ending}"), files.below(pseudo_color, f"{stem}.png")


def folders(save_dir: str) -> tuple[str, str]:
    """The folders of overlays and of masks, which have upstream's names."""
    return os.path.join(save_dir, "added_prediction"), os.path.join(save_dir, "pseudo_color_prediction")


def _takes_colours(ending: str) -> bool:
    return ending.isascii() and ending.lower() not in (".pgm", ".pbm") and cv2.haveImageWriter(f"x{ending}")


def segment(
    model: paddle.nn.Layer,
    prepare: Preparation,
    pixels: np.ndarray,
    aug_pred: bool = False,
    **options: Any,
) -> tuple[np.ndarray, paddle.Tensor]:
    """One picture through the network. Arguments as of `predict`.

    Returns:
        tuple: the mask, uint8 `[H, W]` of the picture's own size, and the logits behind it, `[1, classes, H, W]`.

    Raises:
        InputError: the network cannot take it, or the memory does not suffice.
    """
    run = infer.aug_inference if aug_pred else infer.inference
    if not aug_pred:
        for name in ("scales", "flip_horizontal", "flip_vertical"):
            options.pop(name, None)
    try:
        with naming_memory(), paddle.no_grad():
            prepared = prepare(pixels)
            image = paddle.to_tensor(prepared.image[np.newaxis])
            mask, logits = run(model, image, trans_info=prepared.trans_info, **options)
            check_classes(logits.shape[1])
            return mask.numpy()[0, 0].astype("uint8"), logits
    except (ValueError, RuntimeError) as error:
        paddle_says = re.search(r"\(InvalidArgument\) (.*)", str(error))  # of another number of channels, for one
        if not paddle_says or isinstance(error, InputError):
            raise
        raise InputError(f"the network cannot take it. {paddle_says[1]}") from error
