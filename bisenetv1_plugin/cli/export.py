"""Export trained weights for deployment, as PaddleSeg's tools/export.py does, with an ONNX model where possible."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from bisenetv1_plugin.cli import flags, terminal
from bisenetv1_plugin.errors import InputError

SUMMARY = "export trained weights for deployment"


def add_arguments(parser: ArgumentParser) -> None:
    flags.add_config_arguments(parser)
    flags.add_classes_argument(parser)
    parser.add_argument("--save_dir", default="./output/inference_model", help="folder of the exported model")
    parser.add_argument(
        "--input_shape",
        nargs=4,
        type=flags.dimension,
        metavar=("N", "C", "H", "W"),
        help="fixed shape of the input; default: any size",
    )
    parser.add_argument(
        "--output_op",
        default="argmax",
        choices=["argmax", "softmax", "none"],
        help="last layer to append, default argmax; none: logits",
    )
    parser.add_argument(
        "--to",
        default="auto",
        choices=["auto", "paddle", "onnx"],
        help="onnx: Paddle's files and a model.onnx; paddle: Paddle's files only; default: onnx where it is possible",
    )
    parser.add_argument(
        "--picture_onnx",
        nargs="?",
        const="rgb",
        choices=["rgb", "bgr"],
        help="also write a picture.onnx, which takes raw pictures, uint8 [N, H, W, 3], in this channel order (default "
        "rgb); only for transforms that just normalize",
    )


def run(args: Namespace) -> None:
    if args.picture_onnx and args.to == "paddle":
        raise InputError("--picture_onnx needs an ONNX model, and --to paddle writes none: omit one of them.")
    args.device = terminal.load_paddle(args.device)
    from bisenetv1_plugin.export.folder import check_folder
    from bisenetv1_plugin.export.write import write_export
    from bisenetv1_plugin.training import builder

    check_folder(args.save_dir, [args.config, args.model_path])
    cfg = builder.load_config(args.config, needs=["val_dataset"])  # its transforms are the deployed model's
    classes = flags.classes_of(args, cfg)
    model = builder.open_network(cfg, args.model_path, args.device).model
    transforms = cfg.val_dataset_cfg.get("transforms")
    with terminal.quiet():
        reason = write_export(
            *(model, args.save_dir, transforms, args.input_shape, args.output_op, args.to, classes, args.picture_onnx)
        )
    if reason:
        print(f"No ONNX model was written, which OpenVINO and ONNX Runtime need: {reason}")
    print(f"The inference model is in {args.save_dir}")
