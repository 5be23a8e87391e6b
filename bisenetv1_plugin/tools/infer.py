"""Run an exported model on images or a video, with Paddle Inference or another runtime.

The flags are those of PaddleSeg's deploy/python/infer.py, and a few more.

--save_dir gets NAME.png (gray, the class numbers), color/NAME.png and, with --overlay, overlay/NAME.png.
"""

import functools
import os
from typing import NamedTuple, Tuple

from bisenetv1_plugin.tools import flags
from bisenetv1_plugin.tools.errors import UserError

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
    parser.add_argument("--cpu_threads", type=int, default=flags.cores(), help="threads on the CPU")
    boolean = {"type": _boolean, "default": False, "metavar": "BOOL"}
    parser.add_argument("--enable_mkldnn", help="Paddle on the CPU: use oneDNN", **boolean)
    parser.add_argument("--use_trt", help="Paddle on the GPU: use TensorRT", **boolean)
    parser.add_argument("--min_subgraph_size", type=int, default=3, help="TensorRT: smallest part of the network")
    parser.add_argument("--enable_auto_tune", help="TensorRT: find the shapes by running ten images", **boolean)
    parser.add_argument("--auto_tuned_shape_file", default="auto_tune_tmp.pbtxt", help="TensorRT: file of those shapes")


def run(args):
    from tqdm import tqdm

    from bisenetv1_plugin.tools import images
    from bisenetv1_plugin.tools.predictor import Export

    if args.batch_size < 1:
        raise UserError(f"--batch_size is {args.batch_size}; it must be 1 or more.")
    source = images.Source(args.image_path)
    export = Export(args.config)
    most = export.input_shape[0]
    if most and most != args.batch_size:
        raise UserError(
            f"--batch_size is {args.batch_size}; this export was made for {most}: give that, or export again."
        )
    if export.output_op != "argmax" and not args.with_argmax:
        raise UserError(f"this model was exported with --output_op {export.output_op}: give --with_argmax.")
    predictor = _predictor(args, export, source)
    writer = _Writer(args.save_dir, args.overlay)
    with tqdm(total=len(source), unit="image", desc="infer") as bar:
        for batch in _batches(source, export, args.batch_size):
            output = predictor.run([picture.sample["img"] for picture in batch])
            masks = output.argmax(axis=1) if output.ndim == 4 else output
            for picture, mask in zip(batch, masks):
                writer.write(picture.name, restore(mask.astype("uint8"), picture.sample["trans_info"]), picture.pixels)
            bar.update(source.done - bar.n)
    print(f"The masks are in {args.save_dir}")
    return images.report(source.faults)


def _predictor(args, export, source):
    """The runtime that the flags ask for."""
    from bisenetv1_plugin.tools import tensorrt
    from bisenetv1_plugin.tools.backends import BACKENDS

    device = args.device or _default_device(args.backend)
    if args.use_trt and (args.backend, device) != ("paddle", "gpu"):
        raise UserError("--use_trt is for --backend paddle on --device gpu.")
    of_tensorrt = args.precision == "fp16" or (args.precision == "int8" and device == "gpu")
    if of_tensorrt and not args.use_trt:
        raise UserError(
            f"--precision {args.precision} is TensorRT's: give --use_trt True, on a GPU (int8 also --device cpu)."
        )
    if args.precision == "bf16" and device == "gpu":
        raise UserError("--precision bf16 is for --device cpu; on the GPU there are fp32 and, with TensorRT, fp16.")
    if args.backend != "paddle":
        return BACKENDS[args.backend](export, device, args.cpu_threads, args.precision)

    make = functools.partial(BACKENDS["paddle"], export, device, args.cpu_threads, args.enable_mkldnn, args.precision)
    if not args.use_trt:
        return make()
    shapes_file = args.auto_tuned_shape_file if args.enable_auto_tune else None
    switch_on = tensorrt.configure(args.precision, args.min_subgraph_size, shapes_file)
    if shapes_file:
        pictures = (batch[0].sample["img"][None] for batch in _batches(source, export, 1))
        tensorrt.collect_shapes(make, pictures, shapes_file)
        source.rewind()
    return make(tensorrt=switch_on)


def _default_device(backend):
    import paddle

    return "gpu" if backend == "paddle" and paddle.device.cuda.device_count() else "cpu"


def restore(mask, trans_info):
    """Undo the resizing and padding of the transforms: uint8 `[h, w]` -> the image's own `[H, W]`."""
    import cv2

    for kind, (height, width) in reversed(trans_info):
        if (kind[0] if isinstance(kind, list) else kind) == "resize":
            mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        else:
            mask = mask[:height, :width]
    return mask


class _Picture(NamedTuple):
    name: str
    pixels: object  # uint8 BGR [H, W, 3]
    sample: dict  # what the transforms made of it

    def shape(self) -> Tuple[int, ...]:
        return self.sample["img"].shape


def _batches(source, export, batch_size):
    """Lists of up to `batch_size` pictures that have the same size after the transforms and fit the export."""
    batch = []
    for name, pixels in source:
        picture = _Picture(name, pixels, export.transforms({"img": pixels.astype("float32")}))
        misfit = export.misfit((batch_size, *picture.shape()))
        if misfit:
            source.faults.append(f"{name} was left out: {misfit}.")
            continue
        if batch and (len(batch) == batch_size or batch[0].shape() != picture.shape()):
            yield batch
            batch = []
        batch.append(picture)
    if batch:
        yield batch


class _Writer:
    """Writes masks as gray class numbers, in colour, and over the image."""

    def __init__(self, save_dir, overlay):
        from bisenetv1_plugin.tools import figures

        self._colors = figures.palette(256)
        self._folders = {kind: os.path.join(save_dir, kind) for kind in ("", "color", *(["overlay"] * overlay))}
        for folder in self._folders.values():
            os.makedirs(folder, exist_ok=True)

    def write(self, name, mask, pixels):
        """`mask` uint8 `[H, W]`, `pixels` uint8 BGR `[H, W, 3]`."""
        import cv2

        color = self._colors[mask][..., ::-1]
        pictures = {"": mask, "color": color}
        if "overlay" in self._folders:
            pictures["overlay"] = cv2.addWeighted(pixels, 0.5, color, 0.5, 0)
        for kind, picture in pictures.items():
            path = os.path.join(self._folders[kind], f"{name}.png")
            if not cv2.imwrite(path, picture):
                raise UserError(f"{path} cannot be written.")


def _boolean(text):
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"
