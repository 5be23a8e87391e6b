"""The main job from end to end, with nothing to download: train, evaluate, export, infer, compare, draw.

On synthetic street scenes, or with --data on a folder of real images: one that has train.txt and val.txt (lines
`image label`), or one with images/ and labels/ of the same names, of which every fifth then validates.
"""

import sys
import time
from pathlib import Path
from typing import List, NamedTuple

from bisenetv1_plugin.cli import flags
from bisenetv1_plugin.errors import InputError

SUMMARY = "the main job from end to end, nothing to download"

_CONFIG = "bisenetv1_demo_256x128"
_SHOWN = 4


def add_arguments(parser):
    parser.add_argument("--data", help="a folder of real images and labels; default: generated scenes")
    parser.add_argument("--save_dir", default="./output/demo", help="folder of everything, default ./output/demo")
    parser.add_argument("--iters", type=int, help="training iterations; more is better and slower")
    flags.add_device_argument(parser)


def run(args):
    from tqdm import tqdm

    from bisenetv1_plugin import figures, project, training
    from bisenetv1_plugin.baselines import baselines
    from bisenetv1_plugin.deploy import export, parity
    from bisenetv1_plugin.deploy.exported import Export
    from bisenetv1_plugin.deploy.paddle_inference import PaddleInference

    started = time.time()
    folder = Path(args.save_dir)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} exists and is not empty: name another --save_dir, or remove it.")
    folder.mkdir(parents=True, exist_ok=True)

    _say("1/5 data")
    data = _real_data(Path(args.data), folder) if args.data else _scenes(folder / "data")
    config = folder / "config.yml"
    _write_config(config, data)

    _say(f"2/5 train {config}")
    cfg = project.load_config(str(config), iters=args.iters)
    training.train(cfg, str(folder), args.device, do_eval=True, save_interval=55, use_vdl=True, seed=0)
    curves = figures.draw_curves(str(folder))

    _say("3/5 export")
    cfg = project.load_config(str(config))
    build = project.Builder(cfg)
    weights = folder / "best_model" / "model.pdparams"
    model = project.trained_model(build, str(weights))
    export.save(model, str(folder / "exported"), cfg.val_dataset_cfg["transforms"])

    _say("4/5 predict and infer the validation images")
    dataset = build.val_dataset
    runtime = PaddleInference(Export(folder / "exported" / "deploy.yaml"), cpu_threads=flags.cores())
    samples = tqdm((dataset[i] for i in range(len(dataset))), total=len(dataset), unit="image")
    result = parity.compare(model, runtime, samples, data.num_classes)

    _say("5/5 baselines and pictures")
    simple = baselines(build.train_dataset, dataset, data.num_classes)
    sheet = _draw_sheet(folder / "sheet.png", dataset, result, data)
    print(_table(data, result, simple))
    print(f"\nweights    {weights}\nexport     {folder / 'exported'}\npictures   {sheet}, {curves}")
    print(f"\nDone in {(time.time() - started) / 60:.1f} minutes.")
    if result.fault():
        print(f"bisenetv1: {result.fault()}", file=sys.stderr)
        return 1


class _Data(NamedTuple):
    root: Path
    train: Path  # list of the training images and labels
    val: Path
    names: List[str]  # of the classes

    @property
    def num_classes(self):
        return len(self.names)


def _scenes(root):
    from tqdm import tqdm

    from bisenetv1_plugin.datasets.scenes import DEMO_CLASSES
    from bisenetv1_plugin.datasets.synthetic import write_scenes

    write_scenes(
        root, train=800, val=40, size=(256, 128), classes=DEMO_CLASSES, progress=lambda s: tqdm(s, unit="scene")
    )
    return _Data(root, root / "train.txt", root / "val.txt", [name for name, _ in DEMO_CLASSES])


def _real_data(root, folder):
    """The lists of a folder of real data; those of images/ and labels/ are written into `folder`."""
    import numpy as np
    from PIL import Image

    train, val = root / "train.txt", root / "val.txt"
    if not (train.is_file() and val.is_file()):
        pairs = _matched(root / "images", root / "labels")
        train, val = folder / "train.txt", folder / "val.txt"
        val.write_text("\n".join(pairs[::5]) + "\n", encoding="utf-8")
        train.write_text("\n".join(p for i, p in enumerate(pairs) if i % 5) + "\n", encoding="utf-8")
    classes = root / "classes.txt"
    if classes.is_file():
        return _Data(root, train, val, [line for line in classes.read_text(encoding="utf-8").splitlines() if line])
    labels = [line.split(" ")[-1] for line in train.read_text(encoding="utf-8").splitlines()]
    values = set()
    for label in labels:
        try:
            values.update(np.unique(np.asarray(Image.open(root / label))).tolist())
        except OSError as error:
            raise InputError(f"the label {root / label} cannot be read: {error}") from error
    return _Data(root, train, val, [str(value) for value in range(max(values - {255}) + 1)])


def _matched(images, labels):
    """`image label` for every image that has a label of its name; paths relative to their common folder."""
    if not (images.is_dir() and labels.is_dir()):
        raise InputError(
            f"{images.parent} has neither train.txt and val.txt nor images/ and labels/: "
            "lay your data out in one of these ways."
        )
    by_stem = {label.stem: label for label in sorted(labels.glob("*.png"))}
    pairs = [
        f"images/{image.name} labels/{by_stem[image.stem].name}"
        for image in sorted(images.iterdir())
        if image.stem in by_stem
    ]
    if len(pairs) < 5:
        raise InputError(f"{images} and {labels} have {len(pairs)} names in common; five are the least.")
    return pairs


def _write_config(path, data):
    """The demo's configuration with this data in it."""
    import yaml

    from bisenetv1_plugin import zoo

    config = yaml.safe_load(zoo.path_of(_CONFIG).read_text(encoding="utf-8"))
    config["model"]["num_classes"] = data.num_classes
    for part, key, lists in (("train_dataset", "train_path", data.train), ("val_dataset", "val_path", data.val)):
        config[part].update({"dataset_root": str(data.root), key: str(lists), "num_classes": data.num_classes})
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def _draw_sheet(path, dataset, result, data):
    """Image, truth, prediction and inference of a few validation images, side by side."""
    import cv2
    import numpy as np
    from PIL import Image

    from bisenetv1_plugin import figures

    colors = figures.palette(data.num_classes)
    step = max(1, len(dataset) // _SHOWN)
    rows = []
    for i in list(range(0, len(dataset), step))[:_SHOWN]:
        image, label = dataset.file_list[i]
        pixels = cv2.cvtColor(cv2.imread(image), cv2.COLOR_BGR2RGB)
        truth = np.asarray(Image.open(label))
        masks = (truth, result.predicted[i], result.inferred[i])
        rows.append([pixels, *(colors[mask] for mask in masks)])
    legend = [*zip(data.names, colors), ("ignored", (0, 0, 0))]
    return figures.sheet(path, rows, ["image", "truth", "prediction (dygraph)", "inference (exported)"], legend)


def _table(data, result, baselines):
    lines = [f"{'class':<16}{'IoU predict':>12}{'IoU infer':>12}{'Acc predict':>12}{'Acc infer':>12}"]
    (iou_a, acc_a), (iou_b, acc_b) = result.prediction.rounded(), result.inference.rounded()
    for name, *values in zip(data.names, iou_a, iou_b, acc_a, acc_b):
        lines.append(f"{name:<16}" + "".join(f"{value:>12.4f}" for value in values))
    lines.append(f"{'mean IoU':<16}{result.prediction.miou:>12.4f}{result.inference.miou:>12.4f}")
    lines += [f"mIoU of the {name}: {miou:.4f}" for name, miou in baselines.items()]
    lines.append(
        f"prediction and inference agree on {result.comparison.agreement:.4%} of the pixels; where they differ, "
        f"the two best classes are at most {result.comparison.widest_margin:.1e} apart"
    )
    return "\n".join(["", *lines])


def _say(text):
    print(f"\n=== {text}", flush=True)
