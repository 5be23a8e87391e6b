"""Builds the components of a configuration. PaddleSeg's errors become `InputError`."""

from __future__ import annotations

import os
from typing import Any, Callable, NamedTuple, Sequence, TypeVar

import paddle
import paddleseg  # noqa: F401 - the start-up hook registers the plugin at this import
from paddleseg.cvlibs import SegBuilder
from paddleseg.utils import utils

from bisenetv1_plugin import compat, configuration, plugin
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.weights import check_pretrained, load_trained

Result = TypeVar("Result")

_MAX_LENGTH = 600  # characters of an error of PaddleSeg's


def load_config(
    path: str, opts: Sequence[str] | None = None, needs: Sequence[str] = (), **overrides: Any
) -> configuration.Configuration:
    """Load a YAML file as PaddleSeg's `Config`.

    Args:
        path: the YAML file.
        opts: values that replace those of the file, as `key.key=value`.
        needs: parts that the file must have: `train_dataset`, `val_dataset`.
        **overrides: `learning_rate`, `iters` and `batch_size`; those that are not None replace the file's.

    Raises:
        InputError: the file is missing, is not YAML of plain values, or lacks a part; a value that every command reads
            has the wrong type; or PaddleSeg refuses the configuration.
    """
    plugin.register()  # for interpreters that run no start-up files; a second call does nothing
    if not os.path.isfile(path):
        raise InputError(f"there is no configuration {path}. `bisenetv1 configs` lists ready ones.")
    cfg = _with_input_errors(f"{path} cannot be used", configuration.Configuration, path, opts=opts, **overrides)
    for part in needs:
        if not getattr(cfg, f"{part}_cfg"):
            raise InputError(f"{path} has no {part}, and this needs one.")
    return cfg


class Network(NamedTuple):
    """A trained network with its configuration and the builder of the other components."""

    cfg: configuration.Configuration
    builder: Builder
    model: paddle.nn.Layer


def open_network(
    config: str | os.PathLike[str] | configuration.Configuration,
    weights: str | os.PathLike[str],
    device: str | None = None,
    datasets: Sequence[str] = (),
) -> Network:
    """Build a configuration's network and load trained weights, in evaluation mode.

    Args:
        config: the YAML file, or the result of `load_config`.
        weights: a .pdparams file.
        device: 'cpu' or 'gpu', for all of Paddle in this process. Default: the current device.
        datasets: `train_dataset` and `val_dataset`, or one of them. They are built before the weights are read, so
            that errors in the data come first.

    Raises:
        InputError: the configuration, a dataset or the weights cannot be used, a tensor of the network is missing
            from the weights, or there are more classes than a mask can hold.
    """
    cfg = config if isinstance(config, configuration.Configuration) else load_config(os.fspath(config))
    if device:
        utils.set_device(device)
    builder = Builder(cfg)
    for name in datasets:
        getattr(builder, name)
    _check_classes(cfg.model_cfg.get("num_classes", 1))
    model = builder.model
    _with_input_errors("the weights cannot be used", load_trained, model, os.fspath(weights))
    model.eval()
    return Network(cfg, builder, model)


class Builder:
    """PaddleSeg's `SegBuilder`, with `InputError` for a component that cannot be built.

    It turns on the guards of `compat` for any network.
    """

    def __init__(self, cfg: configuration.Configuration) -> None:
        compat.apply(compat.WITH_THE_NETWORK)
        self.config = cfg
        self._builder = SegBuilder(cfg)

    def __getattr__(self, part: str) -> Any:
        if not hasattr(SegBuilder, part):
            raise AttributeError(part)
        if part == "model":
            _with_input_errors("the configuration's model cannot be built", check_pretrained, self.config.model_cfg)
        built = _with_input_errors(f"the configuration's {part} cannot be built", getattr, self._builder, part)
        if part == "val_dataset":  # the configuration may leave num_classes to the dataset's class
            _check_classes(getattr(built, "num_classes", 1))
        return built


def _check_classes(number: Any) -> None:
    _with_input_errors("the configuration cannot be used", configuration.check_classes, "num_classes", number)


def _with_input_errors(what: str, function: Callable[..., Result], *arguments: Any, **keywords: Any) -> Result:
    """Call the function, and turn its exceptions into `InputError`."""
    try:
        return function(*arguments, **keywords)
    except InputError:
        raise
    except Exception as error:  # a component may raise anything for unexpected arguments
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__context__
        if cause is not None:  # PaddleSeg wraps it in an error of three lines
            raise cause from error
        words = " ".join(str(error).split()) or "no reason was given"
        if isinstance(error, KeyError):
            words = f"the key {words} is missing"
        raise InputError(f"{what}: {words if len(words) <= _MAX_LENGTH else words[:_MAX_LENGTH] + ' ...'}") from error
