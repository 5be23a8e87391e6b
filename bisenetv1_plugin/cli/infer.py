"""Run an exported model on images or a video, with Paddle Inference or another runtime.

The flags are those of PaddleSeg's deploy/python/infer.py, and a few more.

--save_dir gets NAME.png (gray, the class numbers), color/NAME.png and, with --overlay, overlay/NAME.png.
"""

import functools

from bisenetv1_plugin.cli import flags
from bisenetv1_plugin.errors import InputError

SUMMARY = "run an exported model on images"


def add_arguments(parser):
    parser.add_argument("--config", required=True, help="the deploy.yaml of the exported model")
    flags.add_image_arguments(parser, save_dir="./output")
    parser.add_argument("--overlay", action="store_true", help="also write the image with the mask over it")
    parser.add_argument("--batch_size", type=int, default=1, help="images at a time (of the same size)")
    parser.add_argument("--with_argmax", action="store_true", help="take the argmax of an export without one")
    parser.add_argument(
        "--backend",
        default="auto",
        choices=["auto", "paddle", "onnxruntime", "openvino"],
        help="the runtime; auto, the default: the quickest at hand that runs this export rightly",
    )
    parser.add_argument(
        "--precision",
        choices=["auto", "fp32", "bf16", "fp16", "int8"],
        help="default: fp32, or int8 for a quantised export; bf16: paddle and openvino on the CPU; fp16: TensorRT; "
        "auto: bf16 where it keeps the masks of the first images",
    )
    parser.add_argument("--device", choices=["gpu", "cpu"], help="where to run; default: gpu where there is one")
    flags.add_cpu_threads_argument(parser)
    boolean = {"type": _boolean, "default": False, "metavar": "BOOL"}
    parser.add_argument(
        "--enable_mkldnn", type=_boolean, metavar="BOOL", help="Paddle on the CPU: use oneDNN; default: True"
    )
    parser.add_argument("--use_trt", help="Paddle on the GPU: use TensorRT", **boolean)
    parser.add_argument("--min_subgraph_size", type=int, default=3, help="TensorRT: smallest part of the network")
    parser.add_argument("--enable_auto_tune", help="TensorRT: find the shapes by running ten images", **boolean)
    parser.add_argument("--auto_tuned_shape_file", default="auto_tune_tmp.pbtxt", help="TensorRT: file of those shapes")


def run(args):
    from tqdm import tqdm

    from bisenetv1_plugin.deploy.exported import Export
    from bisenetv1_plugin.deploy.images import Source
    from bisenetv1_plugin.deploy.inference import infer
    from bisenetv1_plugin.deploy.masks import Writer

    if args.batch_size < 1:
        raise InputError(f"--batch_size is {args.batch_size}; it must be 1 or more.")
    source = Source(args.image_path)
    export = Export(args.config)
    most = export.input_shape[0]
    if most and most != args.batch_size:
        raise InputError(
            f"--batch_size is {args.batch_size}; this export was made for {most}: give that, or export again."
        )
    if export.output_op != "argmax" and not args.with_argmax:
        raise InputError(f"this model was exported with --output_op {export.output_op}: give --with_argmax.")
    runtime, name = _runtime(args, export, source)
    print(f"{name}, {args.cpu_threads} threads" if "gpu" not in name else name)
    writer = Writer(args.save_dir, args.overlay)
    with tqdm(total=source.total, unit="image", desc="infer") as bar:
        infer(export, runtime, source, writer, args.batch_size, lambda: bar.update(source.done - bar.n))
    print(f"The masks are in {args.save_dir}")
    return flags.report(source.faults)


def _runtime(args, export, source):
    """The runtime that the flags ask for, and its name."""
    from bisenetv1_plugin.deploy import choice, tensorrt
    from bisenetv1_plugin.deploy.runtimes import RUNTIMES

    precision = args.precision or ("int8" if export.quantised else "fp32")
    # What only Paddle has asks for Paddle.
    backend = "paddle" if args.backend == "auto" and (args.use_trt or args.enable_mkldnn is not None) else args.backend
    device = args.device or (choice.default_device() if backend in ("auto", "paddle") else "cpu")
    if args.use_trt and (backend, device) != ("paddle", "gpu"):
        raise InputError("--use_trt is for --backend paddle on --device gpu.")
    of_tensorrt = precision == "fp16" or (precision == "int8" and device == "gpu")
    if of_tensorrt and not args.use_trt:
        raise InputError(
            f"--precision {precision} is TensorRT's: give --use_trt True, on a GPU (int8 also --device cpu)."
        )
    if precision in ("bf16", "auto") and device == "gpu":
        raise InputError(
            f"--precision {precision} is for --device cpu; on the GPU there are fp32 and, with TensorRT, fp16."
        )
    if precision == "auto":
        if backend != "auto":
            raise InputError("--precision auto chooses the runtime as well: leave --backend and --enable_mkldnn away.")
        return _chosen(choice.quickest(export, args.cpu_threads, _first_images(source, export)))
    if backend == "auto":
        return _chosen(choice.choose(export, device, args.cpu_threads, precision))
    make = functools.partial(RUNTIMES[backend], export, device, args.cpu_threads, precision)
    name = f"{backend} {precision}" + " on the GPU" * (device == "gpu")
    if backend != "paddle":
        return make(), name
    make = functools.partial(make, enable_mkldnn=args.enable_mkldnn is not False)
    if not args.use_trt:
        return make(), name
    shapes_file = args.auto_tuned_shape_file if args.enable_auto_tune else None
    switch_on = tensorrt.configure(precision, args.min_subgraph_size, shapes_file)
    if shapes_file:
        tensorrt.collect_shapes(make, _first_images(source, export, tensorrt.TUNING_IMAGES), shapes_file)
    return make(tensorrt=switch_on), name


def _chosen(choice):
    for sentence in choice.passed_over:
        print(f"not {sentence}")
    return choice.runtime, choice.name


def _first_images(source, export, count=4):
    """What the transforms make of the first pictures; the source stands at its beginning again."""
    from bisenetv1_plugin.deploy.inference import batches

    images = [batch[0].sample["img"][None] for batch, _ in zip(batches(source, export, 1), range(count))]
    source.rewind()
    return images


def _boolean(text):
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"
