"""Runs trained weights on images, in dygraph, for `predict` and `Segmenter.from_weights`.

The inference is PaddleSeg's, but its `predict` is not used, for three reasons. It reads the weights again with
`paddle.load`. It accepts what OpenCV reads of a damaged image. It writes with `cv2.imwrite`, which reports success when
the disk is full.
"""

from __future__ import annotations

import functools
import io
import os
import re
import threading
from typing import Any, Callable, Iterable, Iterator, Sequence

import cv2
import numpy as np
import paddle
from paddleseg.core import infer
from paddleseg.utils import visualize

from bisenetv1_plugin import files, gpu, machine
from bisenetv1_plugin.datasets.classes import named_classes
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.engine import Engine, SegmentedPicture
from bisenetv1_plugin.inference.mask_files import write_picture
from bisenetv1_plugin.inference.preprocess import Preprocess, Sizes
from bisenetv1_plugin.inference.runtimes import DEVICES
from bisenetv1_plugin.training import builder

MADE_BY = "predict"  # see `files.whole_file`
# The keys of `test_config` for prediction. The others are for `val`, or name files.
_PREDICT_OPTIONS = ("aug_pred", "scales", "flip_horizontal", "flip_vertical", "is_slide", "crop_size", "stride")
_AUGMENTATION_OPTIONS = ("scales", "flip_horizontal", "flip_vertical")


class Dygraph:
    """A network in dygraph, and its runtime, for an `Engine`.

    Args:
        model: the network, in evaluation mode.
        transforms: the transforms of the configuration's `val_dataset`.
        options: arguments of PaddleSeg's `inference`, or of `aug_inference` if they have `aug_pred`.
        cpu_threads: threads on the CPU.
    """

    output_op = "none"
    input_shape: list[int | None] = [None] * 4

    def __init__(
        self, model: paddle.nn.Layer, transforms: Sequence[dict[str, Any]], options: dict[str, Any], cpu_threads: int
    ) -> None:
        self.preprocess = Preprocess(transforms)
        self._model, self._options, self._cpu_threads = model, dict(options), cpu_threads
        self._augments = self._options.pop("aug_pred", False)
        if not self._augments:
            for name in _AUGMENTATION_OPTIONS:
                self._options.pop(name, None)
        self._lock = threading.Lock()  # `no_grad` acts on all threads of the process

    def shape_error(self, shape: tuple[int, ...]) -> str | None:
        """None: only running the network shows which shapes it takes."""
        return None

    def run(self, images: np.ndarray) -> np.ndarray:
        """`[1, C, H, W]` float32 -> the logits, `[1, classes, H, W]`.

        Raises:
            InputError: the network does not accept images of this shape.
        """
        with self._lock, paddle.no_grad():
            paddle.base.core.set_num_threads(self._cpu_threads)
            image = paddle.to_tensor(images)
            try:
                if self._augments:
                    return infer.aug_inference(self._model, image, [], **self._options)[1].numpy()
                return infer.inference(self._model, image, **self._options).numpy()
            except (ValueError, RuntimeError) as error:
                paddle_says = re.search(r"\(InvalidArgument\) (.*)", str(error))  # the wrong number of channels
                if not paddle_says:
                    raise
                raise InputError(f"the network does not accept this image. {paddle_says[1]}") from error

    def stream(self, inputs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The results of `run`, in order."""
        return map(self.run, inputs)


def engine_factory(
    model: paddle.nn.Layer, transforms: Sequence[dict[str, Any]], options: dict[str, Any]
) -> Callable[..., Engine]:
    """A function that makes engines for a network in dygraph.

    Its arguments are the remaining ones of `Engine`. See `Dygraph` for the arguments here.
    """
    network = Dygraph(model, transforms, options, machine.cores())
    return functools.partial(Engine, network, network, _resize_logits)


def _resize_logits(logits: np.ndarray, sizes: Sizes) -> np.ndarray:
    """The same as in PaddleSeg's `predict`, bit for bit."""
    if not sizes:
        return logits
    return infer.reverse_transform(paddle.to_tensor(logits[np.newaxis]), sizes, mode="bilinear").numpy()[0]


def load_engine_factory(
    config: str, weights: str, device: str | None = None
) -> tuple[Callable[..., Engine], Sequence[str], Any]:
    """The engine factory for `Segmenter.from_weights`, and the names and colors of the classes.

    Raises:
        InputError: the configuration or the weights cannot be used, or this machine lacks the device.
    """
    has_gpu = gpu.can_run(paddle)
    if device not in (None, *DEVICES) or (device == "gpu" and not has_gpu):
        raise InputError(f"device is {device!r}; this machine has {'cpu and gpu' if has_gpu else 'cpu'}.")
    cfg = builder.load_config(config, needs=["val_dataset"])
    options = {key: value for key, value in cfg.test_config.items() if key in _PREDICT_OPTIONS}
    model = builder.open_network(cfg, weights, device or ("gpu" if has_gpu else "cpu")).model
    return (engine_factory(model, cfg.val_dataset_cfg.get("transforms") or [], options), *named_classes(cfg))


class PredictionFiles:
    """Writes added_prediction/NAME and pseudo_color_prediction/NAME.png, like PaddleSeg's `predict`.

    Args:
        save_dir: the output folder.
        are_frames: whether the images are frames of a video.
        custom_color: R G B R G B ..., 0..255. Default: PaddleSeg's colors.
    """

    def __init__(self, save_dir: str, are_frames: bool, custom_color: Sequence[int] | None = None) -> None:
        self._save_dir, self._are_frames = save_dir, are_frames
        self._colors = visualize.get_color_map_list(256, custom_color=custom_color)
        self._bgr = np.array(self._colors, "uint8").reshape(-1, 3)[:, ::-1]

    def write(self, found: SegmentedPicture) -> None:
        """Write both files for one image.

        Raises:
            OSError: a file cannot be written. No partial file remains.
        """
        (name, pixels, _), mask = found.picture, found.mask
        added, pseudo_color = result_paths(self._save_dir, name, self._are_frames)
        write_picture(added, cv2.addWeighted(pixels, 0.6, self._bgr[mask], 0.4, 0), MADE_BY)
        encoded = io.BytesIO()
        visualize.get_pseudo_color_map(mask, self._colors).save(encoded, format="PNG")
        files.write(pseudo_color, encoded.getvalue(), MADE_BY)


def result_paths(save_dir: str, name: str, is_frame: bool) -> tuple[str, str]:
    """The paths of the overlay and the mask for an image of this name."""
    added, pseudo_color = result_folders(save_dir)
    stem, ending = (name, "") if is_frame else os.path.splitext(name)  # a frame's name may have dots
    ending = ending if ending and _can_write_color(ending) else ".png"
    return files.path_inside(added, f"{stem}{ending}"), files.path_inside(pseudo_color, f"{stem}.png")


def result_folders(save_dir: str) -> tuple[str, str]:
    """The folders of the overlays and the masks, named as in PaddleSeg."""
    return os.path.join(save_dir, "added_prediction"), os.path.join(save_dir, "pseudo_color_prediction")


def _can_write_color(ending: str) -> bool:
    return ending.isascii() and ending.lower() not in (".pgm", ".pbm") and cv2.haveImageWriter(f"x{ending}")
