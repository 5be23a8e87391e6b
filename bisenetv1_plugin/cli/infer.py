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
        default="paddle",
        choices=["paddle", "onnxruntime", "openvino"],
        help="the runtime; the last two need an export made with `--to onnx`",
    )
    parser.add_argument(
        "--precision",
        default="fp32",
        choices=["fp32", "bf16", "fp16", "int8"],
        help="bf16: paddle (with oneDNN) and openvino on the CPU; int8: paddle, of a quantised export; fp16: TensorRT",
    )
    parser.add_argument("--device", choices=["gpu", "cpu"], help="where to run; default: gpu where there is one")
    flags.add_cpu_threads_argument(parser)
    boolean = {"type": _boolean, "default": False, "metavar": "BOOL"}
    parser.add_argument("--enable_mkldnn", help="Paddle on the CPU: use oneDNN", **boolean)
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
    runtime = _runtime(args, export, source)
    writer = Writer(args.save_dir, args.overlay)
    with tqdm(total=len(source), unit="image", desc="infer") as bar:
        infer(export, runtime, source, writer, args.batch_size, lambda: bar.update(source.done - bar.n))
    print(f"The masks are in {args.save_dir}")
    return flags.report(source.faults)


def _runtime(args, export, source):
    """The runtime that the flags ask for."""
    from bisenetv1_plugin.deploy import tensorrt
    from bisenetv1_plugin.deploy.inference import batches
    from bisenetv1_plugin.deploy.runtimes import RUNTIMES

    device = args.device or _default_device(args.backend)
    if args.use_trt and (args.backend, device) != ("paddle", "gpu"):
        raise InputError("--use_trt is for --backend paddle on --device gpu.")
    of_tensorrt = args.precision == "fp16" or (args.precision == "int8" and device == "gpu")
    if of_tensorrt and not args.use_trt:
        raise InputError(
            f"--precision {args.precision} is TensorRT's: give --use_trt True, on a GPU (int8 also --device cpu)."
        )
    if args.precision == "bf16" and device == "gpu":
        raise InputError("--precision bf16 is for --device cpu; on the GPU there are fp32 and, with TensorRT, fp16.")
    make = functools.partial(RUNTIMES[args.backend], export, device, args.cpu_threads, args.precision)
    if args.backend != "paddle":
        return make()
    make = functools.partial(make, enable_mkldnn=args.enable_mkldnn)
    if not args.use_trt:
        return make()
    shapes_file = args.auto_tuned_shape_file if args.enable_auto_tune else None
    switch_on = tensorrt.configure(args.precision, args.min_subgraph_size, shapes_file)
    if shapes_file:
        pictures = (batch[0].sample["img"][None] for batch in batches(source, export, 1))
        tensorrt.collect_shapes(make, pictures, shapes_file)
        source.rewind()
    return make(tensorrt=switch_on)


def _default_device(backend):
    import paddle

    return "gpu" if backend == "paddle" and paddle.device.cuda.device_count() else "cpu"


def _boolean(text):
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"
