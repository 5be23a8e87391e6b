"""A configuration's components, with upstream's complaints turned into sentences for the user."""

import os

import paddleseg  # noqa: F401 - the start-up hook registers the plugin at this import
import yaml
from paddleseg.cvlibs import Config, SegBuilder
from paddleseg.utils import utils

from bisenetv1_plugin import plugin
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.weights import load_trained

set_device = utils.set_device


def load_config(path, opts=None, needs=(), **overrides):
    """PaddleSeg's `Config` of a YAML file, with values over it.

    Args:
        path (str): the file.
        opts (list[str], optional): values over the file's, as `key.key=value`.
        needs (sequence[str]): the parts that must be there, among `train_dataset` and `val_dataset`.
        **overrides: `learning_rate`, `iters` and `batch_size` over the file's, where not None.

    Raises:
        InputError: there is no such file, PaddleSeg refuses what is in it, or it lacks a part.
    """
    plugin.register()  # for interpreters that run no start-up files; where they ran, it does nothing
    if not os.path.isfile(path):
        raise InputError(f"there is no configuration {path}. `bisenetv1 configs` lists ready ones.")
    cfg = _refusing(f"{path} cannot be used", Config, path, opts=opts, **overrides)
    for part in needs:
        if not getattr(cfg, f"{part}_cfg"):
            raise InputError(f"{path} has no {part}, and this needs one.")
    return cfg


class Builder:
    """PaddleSeg's `SegBuilder`; a part that cannot be built raises `InputError`."""

    def __init__(self, cfg):
        self._builder = SegBuilder(cfg)

    def __getattr__(self, part):
        return _refusing(f"the configuration's {part} cannot be built", getattr, self._builder, part)


def trained_model(build, path):
    """The configuration's model in evaluation mode with the weights of `path`.

    Raises:
        InputError: the weights cannot be read, or do not account for every tensor.
    """
    model = build.model
    _refusing(f"the weights {path} cannot be used", load_trained, model, path)
    model.eval()
    return model


def _refusing(what, function, *arguments, **keywords):
    try:
        return function(*arguments, **keywords)
    except InputError:
        raise
    except (AssertionError, KeyError, OSError, RuntimeError, TypeError, ValueError, yaml.YAMLError) as error:
        if isinstance(error.__context__, InputError):  # in upstream's words, which would be three lines
            raise error.__context__ from error
        raise InputError(f"{what}: {error}") from error
