"""A configuration's components, with upstream's complaints turned into sentences for the user."""

import os

import paddleseg  # noqa: F401 - the start-up hook registers the plugin at this import
import yaml
from paddleseg.cvlibs import Config, SegBuilder
from paddleseg.utils import utils

from bisenetv1_plugin import plugin
from bisenetv1_plugin.tools.errors import UserError
from bisenetv1_plugin.weights import load_trained

set_device = utils.set_device


def load_config(path, opts=None, **overrides):
    """PaddleSeg's `Config` of a YAML file, with values over it.

    Raises:
        UserError: there is no such file, or PaddleSeg refuses what is in it.
    """
    plugin.register()  # for interpreters that run no start-up files; where they ran, it does nothing
    if not os.path.isfile(path):
        raise UserError(f"--config names {path}, and there is no such file. `bisenetv1 configs` lists ready ones.")
    return _refusing(f"{path} cannot be used", Config, path, opts=opts, **overrides)


class Builder:
    """PaddleSeg's `SegBuilder`; a part that cannot be built raises `UserError`."""

    def __init__(self, cfg):
        self._builder = SegBuilder(cfg)

    def __getattr__(self, part):
        return _refusing(f"the configuration's {part} cannot be built", getattr, self._builder, part)


def trained_model(build, path):
    """The configuration's model in evaluation mode with the weights of `path`.

    Raises:
        UserError: the weights cannot be read, or do not account for every tensor.
    """
    model = build.model
    _refusing("--model_path", load_trained, model, path)
    model.eval()
    return model


def _refusing(what, function, *arguments, **keywords):
    try:
        return function(*arguments, **keywords)
    except (AssertionError, KeyError, OSError, RuntimeError, TypeError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{what}: {error}") from error
