"""Prepare, check or generate data.

prepare camvid|cityscapes SRC DST   lay out a downloaded data set: lists and class numbers
check CONFIG                        walk a configuration's data: missing files, sizes, label values, class shares
scenes DST                          write synthetic street scenes with their labels
"""

from bisenetv1_plugin.errors import InputError

SUMMARY = "prepare, check or generate data"


def add_arguments(parser):
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    prepare = actions.add_parser("prepare", help="lay out a downloaded data set")
    prepare.add_argument("dataset", choices=["camvid", "cityscapes"])
    prepare.add_argument("src", help="the folder of the download")
    prepare.add_argument("dst", help="the folder to write; for cityscapes it may be SRC itself")
    prepare.set_defaults(action=_prepare)
    check = actions.add_parser("check", help="check a configuration's data")
    check.add_argument("config", help="the YAML configuration")
    check.set_defaults(action=_check)
    scenes = actions.add_parser("scenes", help="write synthetic street scenes")
    scenes.add_argument("dst", help="the folder to write")
    scenes.add_argument("--train", type=int, default=200, help="number of training scenes")
    scenes.add_argument("--val", type=int, default=40, help="number of validation scenes")
    scenes.add_argument("--size", nargs=2, type=int, default=[1024, 512], metavar=("W", "H"))
    scenes.add_argument("--classes", nargs="+", metavar="NAME", help="among Cityscapes' 19, or `demo`; default: all")
    scenes.add_argument("--seed", type=int, default=0, help="another seed, other scenes")
    scenes.set_defaults(action=_scenes)


def run(args):
    try:
        return args.action(args)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(str(error)) from error


def _prepare(args):
    from bisenetv1_plugin.datasets import prepare

    function = {"camvid": prepare.prepare_camvid, "cityscapes": prepare.prepare_cityscapes}[args.dataset]
    with _Bar("prepare") as progress:
        prepared = function(args.src, args.dst, progress=progress)
    counts = ", ".join(f"{count} {split}" for split, count in prepared.counts.items())
    print(f"{prepared.root}: {counts} images, {len(prepared.classes)} classes")


def _check(args):
    from bisenetv1_plugin.datasets.check import check_config

    with _Bar("check") as progress:
        report = check_config(args.config, progress=progress)
    print(report.to_text())
    return 0 if report.ok else 1


def _scenes(args):
    from tqdm import tqdm

    from bisenetv1_plugin.datasets.scenes import DEMO_CLASSES
    from bisenetv1_plugin.datasets.synthetic import write_scenes

    classes = DEMO_CLASSES if args.classes == ["demo"] else args.classes
    progress = lambda scenes: tqdm(scenes, desc="scenes", unit="scene")  # noqa: E731
    path = write_scenes(args.dst, args.train, args.val, tuple(args.size), classes, args.seed, progress)
    print(f"The scenes are in {path}")


class _Bar:
    """A progress bar that learns its length with the first step: `progress(done, total)`."""

    def __init__(self, description):
        from tqdm import tqdm

        self._bar = tqdm(desc=description, unit="file")

    def __enter__(self):
        return self._step

    def _step(self, done, total):
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def __exit__(self, *_):
        self._bar.close()
