"""Export trained weights in 8 bits: post-training quantization of the convolutions, calibrated on training images.

The result is for `bisenetv1 infer` on the CPU. Paddle's quantizer (--to paddle) needs Paddle 2.6 or 3.0, but its
exports also run in later versions.
"""

from __future__ import annotations

import importlib.util
import os
from argparse import ArgumentParser, Namespace

from bisenetv1_plugin.cli import flags, terminal

SUMMARY = "export trained weights in 8 bits"

_IMAGES = 100
_RUNTIMES = {"openvino": "OpenVINO", "onnx": "ONNX Runtime and OpenVINO", "paddle": "Paddle Inference"}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--config", required=True, help="the YAML configuration")
    parser.add_argument("--model_path", required=True, help="the trained weights, a .pdparams file")
    flags.add_classes_argument(parser)
    flags.add_trust_argument(parser)
    parser.add_argument("--save_dir", default="./output/quantized_model", help="folder of the exported model")
    parser.add_argument(
        "--to",
        choices=["openvino", "onnx", "paddle"],
        help="openvino: for OpenVINO; onnx: for ONNX Runtime and OpenVINO; paddle: for Paddle Inference, needs Paddle "
        "2.6 or 3.0; default: openvino if NNCF is installed, else paddle",
    )
    parser.add_argument(
        "--batch_nums", type=flags.positive, help="calibration batches of the train_dataset; default: about 100 images"
    )
    parser.add_argument("--batch_size", type=flags.positive, default=1, help="images in a batch, default 1")


def run(args: Namespace) -> None:
    to = args.to or ("openvino" if importlib.util.find_spec("nncf") else "paddle")
    if to == "paddle":
        # With this, Paddle 3.0 writes the older program format. Paddle reads the variable at its import.
        os.environ.update(FLAGS_enable_pir_api="0")
    terminal.load_paddle()
    from bisenetv1_plugin.export.folder import check_folder
    from bisenetv1_plugin.export.quantize import write_quantized
    from bisenetv1_plugin.training import builder

    check_folder(args.save_dir, [args.config, args.model_path])
    cfg = builder.load_config(args.config, needs=["train_dataset", "val_dataset"])
    transforms = cfg.val_dataset_cfg.get("transforms")
    # Calibrate with whole images, as in deployment: the ranges of crops differ.
    cfg.dic["train_dataset"]["transforms"] = transforms
    classes = flags.classes_of(args, cfg)
    _, build, model = builder.open_network(cfg, args.model_path, "cpu", datasets=["train_dataset"])
    images = build.train_dataset
    batch_nums = args.batch_nums or max(1, min(_IMAGES, len(images)) // args.batch_size)
    print(f"Calibrating with {batch_nums * args.batch_size} images, for {_RUNTIMES[to]}", flush=True)
    with terminal.quiet():
        write_quantized(model, args.save_dir, transforms, images, batch_nums, args.batch_size, to, classes)
    print(f"The quantized model is in {args.save_dir}, for {_RUNTIMES[to]}")
