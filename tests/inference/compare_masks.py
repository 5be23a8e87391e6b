"""Compare the masks of an export in this Python with given masks. Needs neither pytest nor Paddle.

    python tests/inference/compare_masks.py DEPLOY_YAML IMAGES MASKS

MASKS holds `RUNTIME/NAME.png` of every image, as `bisenetv1 infer` writes them. The masks of each runtime, from `infer`
and from `Segmenter`, are compared pixel for pixel, and a line for each is printed; the exit code is 1 if a pixel
differs or Paddle was imported.
"""

import platform
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from bisenetv1_plugin import Segmenter
from bisenetv1_plugin.__main__ import main

RUNTIMES = ("onnxruntime", "openvino")


def differing(folder, masks):
    """The number of pixels that differ between the masks of the same name in both folders, and the total."""
    different = total = 0
    for path in sorted(Path(masks).glob("*.png")):
        truth, mask = (cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in (path, Path(folder, path.name)))
        assert mask is not None and mask.shape == truth.shape, path.name
        different, total = different + int((mask != truth).sum()), total + truth.size
    assert total, f"no masks in {masks}"
    return different, total


def compare(config, images, masks):
    """Runtime and caller -> (differing pixels, all pixels)."""
    found = {}
    for runtime in RUNTIMES:
        with tempfile.TemporaryDirectory() as out:
            command = ["infer", "--config", config, "--image_path", images, "--save_dir", out, "--backend", runtime]
            assert main(command) == 0, runtime
            found[f"infer, {runtime}"] = differing(out, Path(masks, runtime))
        segmenter = Segmenter(Path(config).parent, backend=runtime)
        with tempfile.TemporaryDirectory() as out:
            for path in sorted(Path(images).iterdir()):
                segmenter(path).save(Path(out, f"{path.stem}.png"))
            found[f"Segmenter, {runtime}"] = differing(out, Path(masks, runtime))
    return found


if __name__ == "__main__":
    found = compare(*sys.argv[1:4])
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, OpenCV {cv2.__version__}")
    for what, (different, total) in found.items():
        print(f"{what}: {total - different} of {total} pixels equal")
    paddle = sorted({"paddle", "paddleseg"} & {name.partition(".")[0] for name in sys.modules})
    print(f"imported: {', '.join(paddle) or 'no Paddle'}")
    sys.exit(1 if paddle or any(different for different, _ in found.values()) else 0)
