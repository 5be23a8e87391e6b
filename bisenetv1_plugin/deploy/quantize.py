"""Trained weights to an export in 8 bits: post-training quantisation of the convolutions, by Paddle's own quantiser."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import paddle
import yaml

from bisenetv1_plugin.deploy import export
from bisenetv1_plugin.errors import InputError


def save(
    model: paddle.nn.Layer,
    save_dir: str,
    transforms: list[dict[str, Any]],
    images: paddle.io.Dataset,
    batch_nums: int,
    batch_size: int,
) -> None:
    """Write the quantised program, its weights (int8) and `deploy.yaml` into `save_dir`.

    Paddle 3.0 writes the kind of program that the quantiser reads only with FLAGS_enable_pir_api=0 in the environment
    when Paddle is imported.

    Args:
        model (paddle.nn.Layer): in evaluation mode; takes `[N, 3, H, W]` float32.
        save_dir (str): the folder; files of an earlier export there are replaced, once the new ones are complete.
        transforms (list[dict]): the validation transforms of the configuration.
        images (paddle.io.Dataset): dicts with `img` `[3, H, W]` float32.
        batch_nums, batch_size (int): how many of them to calibrate with.

    Raises:
        InputError: there are fewer images than that, or this Paddle writes no program that its quantiser can read;
            nothing is written then.
    """
    needed = batch_nums * batch_size
    if not 0 < needed <= len(images):
        raise InputError(f"batch_nums and batch_size ask for {needed} images; the train_dataset has {len(images)}.")
    os.makedirs(save_dir, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=save_dir, prefix=".export-") as beside:
        try:
            export.save(model, beside, transforms)
        except TypeError as error:
            if "got Variable" not in str(error):  # Paddle 3.2's and 3.3's words for an operator of the older kind
                raise
            raise InputError(_WRONG_PADDLE.format(paddle.__version__)) from error
        if not os.path.isfile(os.path.join(beside, "model.pdmodel")):
            raise InputError(_WRONG_PADDLE.format(paddle.__version__))
        quantised = os.path.join(beside, "int8")
        paddle.enable_static()
        try:
            _quantise(beside, quantised, images, batch_nums, batch_size)
        finally:
            paddle.disable_static()
        with open(os.path.join(beside, "deploy.yaml"), encoding="utf-8") as file:
            deploy = yaml.safe_load(file)
        deploy["Deploy"]["precision"] = "int8"
        with open(os.path.join(quantised, "deploy.yaml"), "w", encoding="utf-8") as file:
            yaml.safe_dump(deploy, file)
        export.move(quantised, save_dir)


_WRONG_PADDLE = (
    "Paddle {} writes no program of the kind that its quantiser reads. Quantise with Paddle 2.6.2 or 3.0.0; "
    "what they make runs with this Paddle as well."
)


def _quantise(source: str, target: str, images: paddle.io.Dataset, batch_nums: int, batch_size: int) -> None:
    """From one folder to another."""
    from paddle.static.quantization import PostTrainingQuantization

    class Images(paddle.io.Dataset):
        def __len__(self) -> int:
            return batch_nums * batch_size

        def __getitem__(self, index: int) -> Any:
            return images[index * (len(images) // len(self))]["img"]  # from the whole length of the list

    place = paddle.CPUPlace()
    with paddle.static.program_guard(paddle.static.Program()):
        x = paddle.static.data("x", [None, 3, None, None], "float32")
    loader = paddle.io.DataLoader(Images(), feed_list=[x], places=[place], batch_size=batch_size, return_list=False)
    files = {"model_filename": "model.pdmodel", "params_filename": "model.pdiparams"}
    quantisation = PostTrainingQuantization(
        executor=paddle.static.Executor(place),
        model_dir=source,
        data_loader=loader,
        batch_size=batch_size,
        batch_nums=batch_nums,
        algo="hist",
        quantizable_op_type=["conv2d"],
        onnx_format=True,  # weights in int8, a quarter of the space
        **files,
    )
    quantisation.quantize()
    quantisation.save_quantized_model(target, **files)
