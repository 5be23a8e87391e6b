"""Run an exported model on images with Paddle Inference, as PaddleSeg's deploy/python/infer.py does."""

import os

from bisenetv1_plugin.tools import flags
from bisenetv1_plugin.tools.errors import UserError

SUMMARY = "run an exported model on images"


def add_arguments(parser):
    parser.add_argument("--config", required=True, help="the deploy.yaml of the exported model")
    flags.add_image_arguments(parser, save_dir="./output")
    parser.add_argument("--batch_size", type=int, default=1, help="images at a time (of the same size)")
    parser.add_argument("--device", default="gpu", choices=["gpu", "cpu"], help="where to run; cpu if there is none")
    parser.add_argument("--cpu_threads", type=int, default=len(os.sched_getaffinity(0)), help="threads on the CPU")
    parser.add_argument("--enable_mkldnn", type=_boolean, default=False, metavar="BOOL", help="use oneDNN on the CPU")
    parser.add_argument("--with_argmax", action="store_true", help="take the argmax of an export without one")


def run(args):
    import paddle
    from paddleseg.utils.visualize import get_pseudo_color_map
    from tqdm import tqdm

    from bisenetv1_plugin.tools import images
    from bisenetv1_plugin.tools.predictor import Predictor

    if args.batch_size < 1:
        raise UserError(f"--batch_size is {args.batch_size}; it must be 1 or more.")
    readable, unreadable = images.listed(args.image_path)
    device = args.device if paddle.is_compiled_with_cuda() else "cpu"
    predictor = Predictor(args.config, device, args.cpu_threads, args.enable_mkldnn)
    os.makedirs(args.save_dir, exist_ok=True)
    with tqdm(total=len(readable), unit="image", desc="infer") as bar:
        for paths, samples in _batches(readable, predictor.transforms, args.batch_size):
            output = predictor.run([sample["img"] for sample in samples])
            if output.ndim == 4:
                if not args.with_argmax:
                    raise UserError("this model was exported without argmax: give --with_argmax.")
                output = output.argmax(axis=1)
            for path, sample, mask in zip(paths, samples, output):
                name = os.path.splitext(os.path.basename(path))[0] + ".png"
                mask = restore(mask.astype("uint8"), sample["trans_info"])
                get_pseudo_color_map(mask).save(os.path.join(args.save_dir, name))
            bar.update(len(paths))
    print(f"The masks are in {args.save_dir}")
    return images.report(unreadable)


def restore(mask, trans_info):
    """Undo the resizing and padding of the transforms: uint8 `[h, w]` -> the image's own `[H, W]`."""
    import cv2

    for kind, (height, width) in reversed(trans_info):
        if (kind[0] if isinstance(kind, list) else kind) == "resize":
            mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        else:
            mask = mask[:height, :width]
    return mask


def _batches(paths, transforms, batch_size):
    """Runs of up to `batch_size` images that have the same size after the transforms."""
    batch = []
    for path in paths:
        sample = transforms({"img": path})
        if batch and (len(batch) == batch_size or batch[0][1]["img"].shape != sample["img"].shape):
            yield tuple(zip(*batch))
            batch = []
        batch.append((path, sample))
    if batch:
        yield tuple(zip(*batch))


def _boolean(text):
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"
