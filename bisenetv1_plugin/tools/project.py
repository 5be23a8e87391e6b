"""What the tools share: a configuration, its components, the device, trained weights."""

import os

import paddle
import paddleseg  # noqa: F401 - the start-up hook registers the plugin at this import
from paddleseg.cvlibs import Config, SegBuilder
from paddleseg.utils import utils

from bisenetv1_plugin import plugin
from bisenetv1_plugin.tools.errors import UserError
from bisenetv1_plugin.weights import load_trained


def add_config_arguments(parser, model_path=True):
    """The flags that upstream's tools have in common."""
    parser.add_argument("--config", required=True, help="the YAML configuration")
    parser.add_argument(
        "--device", default="gpu", choices=["gpu", "cpu", "xpu", "npu", "mlu"], help="where to run; cpu if there is none"
    )
    if model_path:
        parser.add_argument("--model_path", required=True, help="the trained weights, a .pdparams file")


def add_test_arguments(parser, augmented):
    """Upstream's flags for multi-scale, flipped and sliding-window evaluation; `augmented` is aug_eval or aug_pred."""
    parser.add_argument(f"--{augmented}", action="store_true", help="average over scales and flips")
    parser.add_argument("--scales", nargs="+", type=float, default=1.0, help="scales to average over")
    parser.add_argument("--flip_horizontal", action="store_true", help="average with the mirrored image")
    parser.add_argument("--flip_vertical", action="store_true", help="average with the image upside down")
    parser.add_argument("--is_slide", action="store_true", help="slide a window over the image")
    parser.add_argument("--crop_size", nargs=2, type=int, metavar=("W", "H"), help="size of the window")
    parser.add_argument("--stride", nargs=2, type=int, metavar=("W", "H"), help="step of the window")


def test_config(cfg, args, augmented):
    """The configuration's `test_config` with the flags of `add_test_arguments` over it."""
    merged = {key: value for key, value in cfg.test_config.items() if key not in ("aug_eval", "aug_pred")}
    if getattr(args, augmented):
        merged[augmented] = True
        for key in ("scales", "flip_horizontal", "flip_vertical"):
            merged[key] = getattr(args, key)
    elif augmented in cfg.test_config:
        merged[augmented] = cfg.test_config[augmented]
    if args.is_slide:
        if not (args.crop_size and args.stride):
            raise UserError("--is_slide needs --crop_size W H and --stride W H.")
        merged.update(is_slide=True, crop_size=args.crop_size, stride=args.stride)
    return merged


def load_config(path, opts=None, **overrides):
    """PaddleSeg's `Config`, its complaints as a `UserError`."""
    plugin.register()  # for interpreters that run no start-up files; a second time does nothing
    if not os.path.isfile(path):
        raise UserError(f"--config names {path}, and there is no such file. `bisenetv1 configs` lists ready ones.")
    return _refusing(f"{path} is not a usable configuration", Config, path, opts=opts, **overrides)


def builder(cfg):
    """A `SegBuilder` whose components raise `UserError` where they cannot be built."""
    return _Builder(cfg)


class _Builder:
    def __init__(self, cfg):
        self._builder = SegBuilder(cfg)

    def __getattr__(self, part):
        return _refusing(f"the configuration's {part} cannot be built", getattr, self._builder, part)


def trained_model(cfg_builder, path):
    """The configuration's model with the weights of `path`, every tensor accounted for, in evaluation mode."""
    model = cfg_builder.model
    _refusing("--model_path", load_trained, model, path)
    model.eval()
    return model


def set_device(device):
    """As upstream's tools do: the device asked for, or the CPU where there is none."""
    utils.set_device(device)
    if device != "cpu" and paddle.get_device() == "cpu" and not paddle.is_compiled_with_cuda():
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


def _refusing(what, function, *arguments, **keywords):
    try:
        return function(*arguments, **keywords)
    except (AssertionError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{what}: {error}") from error
